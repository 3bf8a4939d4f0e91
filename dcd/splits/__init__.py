"""Splits: train, test and the failures, gathered from their sources and labels.

`label_table` reads tables of labels, `label_map` the pool's, `gather` and `split` make a split.
Uses sources, tables and store; hands out split tables with embeddings, and blocked content.
"""
