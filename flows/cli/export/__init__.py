"""The commands that hand models and images to other tools: `dcd export`, `dcd publish`.

They use dcd's export room and the console that all commands share.
"""
