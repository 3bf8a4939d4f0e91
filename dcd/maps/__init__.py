"""A map shows embeddings in two dimensions: failures and picks among images of pool and train.

Which images are drawn and where they lie is a function of what the run is made of, so a map is kept
under `maps/` and made again like all that is derived.
It uses label_noise, index, splits and store; it hands out `draw_map` and `read_map` (draw), the
plan of what is drawn (plan) and the layout of vectors (layout).
"""
