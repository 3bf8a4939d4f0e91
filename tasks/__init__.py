"""Thin Prefect tasks around the pure functions of `dcd`: retries, names, progress."""
