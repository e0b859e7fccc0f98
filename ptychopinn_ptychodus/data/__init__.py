"""Scans in memory: validation, grouping, stitching, simulation and metrics; numpy and scipy only."""
