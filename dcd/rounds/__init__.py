"""Rounds go on picking images for what still fails, until a goal on debug_val is reached.

Each asks for the failures that the model of the round before gets wrong unseen, leaves out what was
taken before, and has a share of the budget. It uses selection, gate and index; it hands out the
planning of rounds (plan, budget), the picks of one (picks) and the figure of a goal (metric).
"""
