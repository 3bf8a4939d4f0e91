"""Prefect flows that read like the method section of the paper, and the command line."""
