"""Evaluation turns predictions into figures with intervals.

It has accuracy and label precision, bootstrap and exact tests, and the rows of a run's summary.
It uses tables, config and training's predictions; it hands out pure functions on arrays and
tables.
"""
