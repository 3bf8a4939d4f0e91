"""Build an index by several workers: the same bytes as one process gives.

Each worker sorts some shards once (a run); the ids of all runs say which rows each file of the
index will hold; then each worker merges of all runs the rows of some neighbouring files. It uses
the rest of `dcd.index`; it hands out `build`.
"""
