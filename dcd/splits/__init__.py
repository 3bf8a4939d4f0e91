"""Splits are train, test and the failures, gathered from their sources and labels.

`label_table` reads tables of labels, `label_map` the pool's, `gather` and `split` make a split.
The room uses sources, tables and store; it hands out split tables with embeddings, and the content
that must never be picked.
"""
