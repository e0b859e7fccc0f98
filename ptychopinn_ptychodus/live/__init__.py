"""Reconstruction of a scan that is not complete: frames are added to the object that is there."""
