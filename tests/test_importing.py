"""Large imports, without the collector of reference cycles."""

from __future__ import annotations

import gc

import pytest

from ptychopinn_ptychodus.importing import collector_paused


def test_the_collector_is_paused_and_goes_on_whatever_is_raised() -> None:
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), collector_paused():
        raise ImportError("as the test asked")
    assert gc.isenabled()


def test_who_has_switched_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
