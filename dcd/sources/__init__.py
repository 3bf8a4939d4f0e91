"""Sources are where images come from, and how each form of archive is read.

Tars, Parquet files, folders, manifests: listed as shards, read as records, never trusted. `tables`
opens the tables that users bring, whatever their form.
The room uses config, tables and store; it hands out shards and their records, and the reading of
one image.
"""
