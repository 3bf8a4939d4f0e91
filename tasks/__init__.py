"""Tasks wrap one pure function of `dcd` each: with retries, a name, progress and a kept result.

They use dcd and Prefect; flows call them.
"""
