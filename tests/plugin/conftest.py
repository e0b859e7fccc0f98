"""Fixtures of these tests are shared with those of the worker and of Ptychodus' files."""

from plugin_fixtures import abacus, fake_model, fake_site, log, scan, scratch, standard_directory, wish

__all__ = ["abacus", "fake_model", "fake_site", "log", "scan", "scratch", "standard_directory", "wish"]
