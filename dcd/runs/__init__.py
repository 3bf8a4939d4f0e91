"""Runs: what a run leaves under `runs/`, how runs compare, and what may be deleted.

A run is written last and finished when its `finished` object stands.
Uses every room below; hands out `write_run` (run), comparisons, and pruning.
"""
