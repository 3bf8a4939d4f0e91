"""Data-centric debugging: repair a failing image classifier with pictures from a noisy pool.

This package is a plain library. It knows nothing of Prefect and runs as well in a notebook.
"""

__version__ = "0.1.0"
