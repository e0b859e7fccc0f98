"""What all checks share, and how pytest gets to the reconstructors of a library."""

from __future__ import annotations

import pytest

from .bench import Bench, Case
from .declaration import Declaration

_BENCH = pytest.StashKey[Bench]()


class Contract(Declaration):
    """What all checks share; the attributes are for the author of the library to set.

    Everything but ``library`` may be left as it is.
    """

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for fixture, names in (("case", self._names()), ("trainable", self._names(trainable=True))):
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, names, indirect=True)

    def _names(self, *, trainable: bool = False) -> list[str]:
        try:
            names = Bench(self, None).names(trainable=trainable)
        except Exception:  # test_library_is_made says so; here it would stop pytest from collecting anything
            return []
        return names if not self.reconstructors or trainable else list(self.reconstructors)

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
        """The library under test; what it has been seen to do is kept for all checks of the class."""
        stash: pytest.Stash = request.node.getparent(pytest.Class).stash
        if _BENCH not in stash:
            stash[_BENCH] = Bench(self, tmp_path_factory.mktemp(type(self).__name__))
        return stash[_BENCH]

    @pytest.fixture
    def case(self, bench: Bench, request: pytest.FixtureRequest) -> Case:
        """One of the reconstructors."""
        return bench.case(request.param)

    @pytest.fixture
    def trainable(self, bench: Bench, request: pytest.FixtureRequest) -> Case:
        """One of the trainable reconstructors."""
        return bench.case(request.param)
