"""The index keeps pool vectors sorted by label, in lists where a label is large.

A search reads the failing labels' rows and no others; building stays in bounded memory.
It uses embeddings, splits (label maps), tables and store; it hands out `build`, `read` and
`search`.
"""
