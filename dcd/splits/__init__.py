"""Splits are train, test and the failures, gathered from their sources and labels.

`label_table` takes labels out of tables, `label_map` those of the pool's queries or tags, `gather`
and `split` make a split.
The room uses sources, tables and store; it hands out split tables with embeddings, and the content
that must never be picked.
"""
