"""Failures: new failure samples from the inbox to the registry, exactly once.

Also failure modes, and collecting failures from a model and a folder of pictures.
Uses sources, splits and training; hands out the registry, `intake`, `modes` and `collect`.
"""
