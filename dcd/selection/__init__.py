"""Selection: the images to add for a set of failures.

Search within the label, refusals, leak checks, weights: the method of the paper and what we add.
Uses index, label_noise and training; hands out `select`, and picks as tables.
"""
