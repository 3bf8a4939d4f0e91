"""Reviews are what people decided about images: accept, reject, relabel, skip, undo.

The room keeps them exactly once, and says what stands of them. It uses store and tables alone; it
hands out `decisions` (the log) and `standing` (what counts, image by image).
"""
