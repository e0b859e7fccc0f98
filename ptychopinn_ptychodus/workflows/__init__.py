"""Workflows for scripts: configuration and data in, results out, whichever engine does the work."""
