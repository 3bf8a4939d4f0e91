"""Validation: what is wrong with a config and its data, before any work.

Every fault is one line that names the place, what was found, and the mend.
Uses what a run would use; hands out `problems_of` a config.
"""
