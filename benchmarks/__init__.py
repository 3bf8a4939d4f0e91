"""Benchmarks: figures of the README, each from one command. They may need data beside the checkout."""
