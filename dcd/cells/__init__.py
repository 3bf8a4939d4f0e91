"""A cell trains and judges one method of a comparison at one seed.

It draws the images to add, trains on train and them, and keeps its predictions under `cells/`.
It uses selection, label_noise, index and training; it hands out `CellPlan` and `run_cell` (cell),
and the methods by name.
"""
