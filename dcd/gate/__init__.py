"""The gate: is a candidate better than the champion, and surely not worse on test?

`decision` is two paired tests, `judge` asks them of a run, `champions` replaces in one step.
Uses evaluation and training; hands out decisions, their record, and promotion and rollback.
"""
