"""An estimate says what a pool will cost in time, bytes and requests, before anything is done.

It plans with the functions that do the work, on small samples or on synthetic rows.
It uses encoders, sources, embeddings and index; it hands out what each stage costs to the flows'
own estimate, and to nobody else.
"""
