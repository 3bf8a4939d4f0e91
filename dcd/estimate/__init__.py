"""Estimates: what a pool will cost in time, bytes and requests, before anything is done.

It plans with the functions that do the work, on small samples or on synthetic rows.
Uses every room it foretells and is used by the command line alone; `embedding`, `indexing`.
"""
