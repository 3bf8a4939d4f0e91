"""Build an index by several workers: each writes some of its files, the same bytes as one would.

The ids of the pool are counted first, so it is known which rows each file will hold; a worker takes
neighbouring files. It uses the rest of `dcd.index`; it hands out `build` (begin, write, finish).
"""
