"""Runs are what `runs/` and `comparisons/` hold: written, found again, compared and pruned.

A run is finished when its report stands, which is written last.
The room uses every room below; it hands out `write_run` (run), comparisons, and pruning.
"""
