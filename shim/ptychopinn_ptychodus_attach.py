"""The way into a stock Ptychodus: it imports every module of ``ptychodus.plugins`` at start-up.

The wheel places this file there. It does nothing but hand over, and it must never raise: the application
survives only ``ModuleNotFoundError`` while it imports and ``AttributeError`` while it registers.
"""


def register_plugins(registry: object) -> None:
    """Let Ptychodus find reconstructor libraries by entry point (``registry`` itself is not used)."""
    try:
        from ptychopinn_ptychodus.plugin.attach import attach

        attach()
    except Exception:
        import logging

        logging.getLogger("PtychoPINN-Plugin").exception("The PtychoPINN plugin could not be attached.")
