"""Cells: one method of a comparison with one seed, trained and judged.

A cell draws its images, trains on train + images and keeps its predictions under `cells/`.
Uses everything below runs; hands out `run_cell` (cell), the methods by name, and hardness scores.
"""
