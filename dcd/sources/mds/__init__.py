"""MosaicML's MDS: folders of shards under an index.json, as mosaicml-streaming writes them.

Uses `sources` for objects and rows, and nothing of the library. Hands out `mds_shards`,
`read_mds` and `list_mds`, in `images`. Nothing is ever unpickled.
"""
