"""The loop of `debug-model` without Prefect, under the name by which tests have it."""

from dcd.runs.loop import run

__all__ = ["run"]
