"""Influence says which training images a model's answer hangs on.

It uses cells, runs, report and the encoders; it hands out `explain_failure` (`of_run`) for a run's
model, and below it pure functions: `removal_effects` (`effects`), `refit_without` (`refits`).
"""
