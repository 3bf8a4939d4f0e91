"""The index: pool vectors sorted by label, in lists where a label is large.

A search reads the failing labels' rows and no others; building stays in bounded memory.
Uses embeddings, tables and store; hands out `build`, `read` and `search`.
"""
