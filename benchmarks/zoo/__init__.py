"""A collection of simulated scans of many kinds: ``python -m benchmarks.zoo``."""
