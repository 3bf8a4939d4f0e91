"""The commands that come before the first run: `dcd init`, `dcd doctor`.

They use dcd's setup room and the console that all commands share.
"""
