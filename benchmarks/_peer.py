"""What it takes to run pty-chi, in a Python of its own: a program's first lines."""

STAND_IN = """
import importlib.util, sys, types
if importlib.util.find_spec("torchvision") is None:
    class GaussianBlur:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("this stand-in for torchvision does not blur")
    transforms = types.ModuleType("torchvision.transforms")
    transforms.GaussianBlur = GaussianBlur
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision.transforms"] = transforms
"""
"""pty-chi imports torchvision for a blur that LSQ-ML does not use; this stands in where it is missing."""
