"""Names, listing and settings: what Ptychodus looks at before it has anything to do."""

from __future__ import annotations

import logging

import pytest
from ptychodus.api.reconstruct import Reconstructor, ReconstructorLibrary

from ...installed import entry_points
from ..application import LIBRARY_GROUP, stock
from ..bench import Bench
from ..contract import Contract
from ..parameters import parameters_of, preset


class NameChecks(Contract):
    """The library is listed, under a key of its own, with settings of its own."""

    @pytest.fixture
    def library_made(self, bench: Bench) -> ReconstructorLibrary:
        """The library; a library that cannot be made is one failure and not fifty."""
        try:
            return bench.make()[0]
        except Exception as exc:
            pytest.skip(f"the library cannot be made ({exc}): see test_library_is_made")

    @pytest.mark.parametrize("developer_mode", [False, True], ids=["user", "developer"])
    def test_library_is_made(self, bench: Bench, developer_mode: bool) -> None:
        library, _ = bench.make(developer_mode=developer_mode)
        assert isinstance(library, ReconstructorLibrary), (
            f"The factory made {library!r}. Ptychodus asks a library for its name, log and reconstructors: "
            "derive it from ptychodus.api.reconstruct.ReconstructorLibrary, and call super().__init__()."
        )

    def test_entry_point_leads_to_the_library(self, bench: Bench, library_made: ReconstructorLibrary) -> None:
        name = bench.contract.entry_point
        if name is None:
            pytest.skip("entry_point is not given")
        found = list(entry_points(group=LIBRARY_GROUP, name=name))
        assert found, (
            f'No installed package registers "{name}" in the group {LIBRARY_GROUP}, so that Ptychodus never '
            "hears of the library: add the entry point to pyproject.toml, and install the package anew."
        )
        assert name.casefold() == library_made.name.casefold(), (
            f'The entry point "{name}" leads to a library that calls itself "{library_made.name}". It is '
            "left out for that: give both one name."
        )
        factory = bench.contract.factory()
        assert found[0].load() is factory, (
            f'The entry point "{name}" is {found[0].value}, and these checks are made on {factory!r}. Check '
            "what is registered."
        )

    def test_library_name_makes_a_key(self, library_made: ReconstructorLibrary) -> None:
        name = library_made.name
        assert isinstance(name, str), f"The name of the library is {name!r}, which is no text."
        assert name, "The library has no name."
        assert name == name.strip(), (
            f'The name "{name}" begins or ends with a blank: a settings file cannot select its '
            "reconstructors, since Ptychodus strips what it reads. Remove the blank."
        )
        assert "_" not in name, (
            f'The name "{name}" has an underscore. Ptychodus cuts "library_reconstructor" at the first one: '
            "the panel of the library is not found, and its page stays empty. Use a hyphen."
        )

    def test_library_name_is_not_taken(self, library_made: ReconstructorLibrary) -> None:
        if self.built_in:
            pytest.skip("the library is Ptychodus' own")
        taken = {name.casefold(): name for name in stock().libraries}
        same = taken.get(library_made.name.casefold())
        assert same is None, (
            f'"{library_made.name}" is the name of a library of Ptychodus itself ("{same}"; the case does '
            "not count). Of two reconstructors with one key, one silently takes the other's place: choose "
            "another name."
        )

    def test_reconstructor_names_are_unique(self, library_made: ReconstructorLibrary) -> None:
        names = [reconstructor.name for reconstructor in library_made]
        for name in names:
            assert isinstance(name, str), f"The name of a reconstructor is {name!r}, which is no text."
            assert name, "A reconstructor has no name: it would be an empty line in the list."
            assert name == name.strip(), (
                f'The name "{name}" begins or ends with a blank: a settings file cannot select it, since '
                "Ptychodus strips what it reads. Remove the blank."
            )
        keys = [name.casefold() for name in names]
        assert len(set(keys)) == len(keys), (
            f"The reconstructors {names} share a name (the case does not count). Of two reconstructors with "
            "one key, one silently takes the other's place: give each a name of its own."
        )

    def test_library_can_be_listed_again(self, library_made: ReconstructorLibrary) -> None:
        first, second = list(library_made), list(library_made)
        for reconstructor in first:
            assert isinstance(reconstructor, Reconstructor), (
                f"The library lists {reconstructor!r}: derive it from "
                "ptychodus.api.reconstruct.Reconstructor or TrainableReconstructor."
            )
        assert [id(item) for item in first] == [id(item) for item in second], (
            "Listed twice, the library gives other reconstructors. Ptychodus keeps those of one time, "
            "plugins those of another, and a model that is loaded into one is not in the other: make them "
            "once, in __init__, and have __iter__ return iter(self._reconstructors)."
        )

    def test_log_is_the_librarys_own(self, library_made: ReconstructorLibrary) -> None:
        log = library_made.get_logger()
        assert isinstance(log, logging.Logger), f"get_logger() returned {log!r}, which is no logger."
        assert log is not logging.getLogger(), (
            "The library's logger is the root logger: everything that any part of the application says would "
            "appear beside the progress bar. Hand a name of your own to super().__init__(name)."
        )

    def test_settings_groups_are_not_taken(self, bench: Bench, library_made: ReconstructorLibrary) -> None:
        if self.built_in:
            pytest.skip("the library is Ptychodus' own")
        _, settings = bench.make()
        common = sorted(set(settings) & set(stock().settings_groups))
        assert not common, (
            f"The settings groups {common} are Ptychodus' own. A group can be made once: the library, or "
            "Ptychodus itself, would not start. Begin the names of your groups with that of the library."
        )

    def test_settings_survive_a_file(self, bench: Bench, library_made: ReconstructorLibrary) -> None:
        _, settings = bench.make(configure=False)
        preset(settings)
        path = bench.new_directory("settings") / "settings.ini"
        settings.save_settings(path)
        wanted = {str(one): one.parameter.get_value_as_string() for one in parameters_of(settings)}
        _, opened = bench.make(configure=False)
        opened.open_settings(path)
        found = {str(one): one.parameter.get_value_as_string() for one in parameters_of(opened)}
        assert found == wanted, (
            "Settings that were saved are not the same when their file is opened: headless runs would run "
            "with other settings than the window. Give each parameter a name of its own (the case does not "
            "count)."
        )
