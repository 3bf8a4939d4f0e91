"""Failures are taken from the inbox to the registry, exactly once.

The room also proposes failure modes, and collects failures from a model and a folder of pictures.
It uses sources, splits, training, gate (the champion) and report (for a contact sheet); it hands
out `registry`, `intake`, `modes` and `collect`.
"""
