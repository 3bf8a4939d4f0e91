"""Validation finds what is wrong with a config and its data, before any work.

Every fault is one line that names the place, what was found, and the mend.
It uses sources, splits, encoders and selection; it hands out `validate` and `examine` (run).
"""
