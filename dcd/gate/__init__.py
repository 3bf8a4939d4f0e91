"""The gate asks whether a candidate is better than the champion, and surely not worse on test.

`decision` is two paired tests, `judge` asks them of a run, `champions` replaces in one step.
It uses evaluation, training and splits; it hands out decisions, their record, promotion and
rollback.
"""
