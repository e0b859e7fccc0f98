"""Fixtures of these tests are shared with those of the plugin."""

from plugin_fixtures import fake_model, fake_site, log, scan, scratch, standard_directory, wish

__all__ = ["fake_model", "fake_site", "log", "scan", "scratch", "standard_directory", "wish"]
