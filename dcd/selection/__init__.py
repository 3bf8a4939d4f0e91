"""Selection chooses the images to add for a set of failures.

It searches within the label, refuses, checks leaks and weighs: the paper's method and what we add.
It uses index, label_noise, training, splits and sources; it hands out `select`, and picks as
tables.
"""
