"""How commands show what they do and find: progress, tables, JSON.

It uses dcd's progress room and the terminal; commands hand it what they found.
"""
