"""Embeddings take pool and splits through one encoder, a shard at a time, exactly once.

`embed` makes and publishes a shard, `read` finds it again, `status` tells how far a pool is.
The room uses encoders, images, sources and store; it hands out the vectors that all search
stands on.
"""
