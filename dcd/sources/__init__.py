"""Sources: where images come from, and how each form of archive is read.

Tars, Parquet files, folders, manifests: listed as shards, read as records, never trusted.
Uses images, config, store; hands out shards and their records, and the reading of one image.
"""
