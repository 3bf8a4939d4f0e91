"""The store holds objects under one URL, published in one step, addressed by what made them.

Keys, listings, ranged reads and their errors: local folders and S3 behave alike.
It uses fsspec, s3fs and Arrow; it hands out `Store` and `StoredObject`, and `keys` as a module.
"""

from dcd.store.object_store import Store, StoredObject

__all__ = ["Store", "StoredObject"]
