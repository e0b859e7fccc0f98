"""Ptychodus' types and files <-> arrays and dataclasses of this package."""
