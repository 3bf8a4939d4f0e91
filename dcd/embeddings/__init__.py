"""Embeddings: pool and splits through one encoder, a shard at a time, exactly once.

`embed` makes and publishes a shard, `read` finds it again, `status` tells how far a pool is.
Uses encoders, sources and store; hands out shard embeddings, the vectors all search stands on.
"""
