"""Evaluation: figures from predictions, with intervals.

Accuracy and label precision, bootstrap and exact tests, and the rows of a run's summary.
Uses config, tables and training's predictions; hands out pure functions on arrays and tables.
"""
