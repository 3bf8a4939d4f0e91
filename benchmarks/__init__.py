"""Benchmarks: figures of the README, one command each. Some need data beside the checkout."""
