"""Groups as a plain mapping: handed over as one, and answering like one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychopinn_ptychodus.data.container import PtychoDataContainer
from ptychopinn_ptychodus.data.mapping import MappedContainer, choose_groups, container_from_mapping
from ptychopinn_ptychodus.data.raw import RawData


@pytest.fixture(scope="module")
def groups(scan: RawData) -> PtychoDataContainer:
    return scan.generate_grouped_data(64, 6, 10, gridsize=2, seed=0)


class TestKeys:
    def test_arrays_answer_by_key_channel_last(self, groups: PtychoDataContainer) -> None:
        assert groups["diffraction"].shape == (10, 64, 64, 4)
        assert groups["diffraction"].dtype == np.float32
        np.testing.assert_array_equal(groups["X"], groups["diffraction"])
        np.testing.assert_array_equal(
            groups["diffraction"][3, :, :, 2], groups.amplitude[groups["nn_indices"][3, 2]]
        )
        assert groups["coords_offsets"].shape == (10, 1, 2, 1)
        assert groups["coords_relative"].shape == (10, 1, 2, 4)
        np.testing.assert_allclose(
            (groups["coords_offsets"] + groups["coords_relative"])[3, 0, :, 2],
            groups.coords[groups["nn_indices"][3, 2]],
            atol=1e-4,
        )
        assert groups["Y"].shape == (10, 64, 64, 4)

    def test_it_is_used_like_a_mapping(self, groups: PtychoDataContainer) -> None:
        assert "diffraction" in groups
        assert "Diffraction" not in groups
        assert 0 not in groups
        assert list(groups) == list(groups.keys()) == [key for key, _ in groups.items()]
        assert len(list(groups.values())) == len(groups.keys())
        assert groups.get("nothing") is None
        assert groups.get("nothing", 3) == 3
        assert groups.get("nn_indices") is groups.nn_indices
        assert len(groups) == 10, "the number of groups"

    def test_a_wrong_key_is_told_the_right_ones(self, groups: PtychoDataContainer) -> None:
        with pytest.raises(
            KeyError, match=r"'diff3d'.*diffraction, .*coords_offsets, coords_relative, nn_indices"
        ):
            groups["diff3d"]

    def test_what_is_not_known_is_no_key(self, groups: PtychoDataContainer) -> None:
        unknown = dataclasses.replace(groups, object_guess=None, photons_per_pattern=None)
        absent = {"Y", "objectGuess", "photons_per_pattern", "probes", "probe_index"}
        assert not absent & set(unknown)
        with pytest.raises(KeyError, match="'Y'"):
            unknown["Y"]

    def test_a_dictionary_of_it_is_as_good(self, groups: PtychoDataContainer) -> None:
        mapped = container_from_mapping(dict(groups))
        for key in ("X", "Y", "coords_offsets", "coords_relative", "probe", "bad_pixels"):
            np.testing.assert_allclose(mapped[key], groups[key], atol=1e-6)
        assert mapped.photons_per_pattern == groups.photons_per_pattern
        peers = {
            key: groups[key] for key in ("diffraction", "coords_relative", "coords_offsets", "nn_indices")
        }
        np.testing.assert_array_equal(container_from_mapping(peers).X, groups.X)

    def test_several_probes_do_not_go_into_a_dictionary(self, groups: PtychoDataContainer) -> None:
        several = dataclasses.replace(
            groups, probes=groups.probe[None], probe_index=np.zeros(len(groups.amplitude), np.int64)
        )
        with pytest.raises(ValueError, match="'probes'"):
            container_from_mapping(dict(several))


class TestChoice:
    @given(
        groups=st.integers(1, 40),
        channels=st.sampled_from([1, 4, 9]),
        n_groups=st.none() | st.integers(1, 60),
        n_subsample=st.none() | st.integers(9, 400),
        seed=st.integers(0, 1000),
        sequential=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_as_many_distinct_groups_as_both_allow(
        self,
        groups: int,
        channels: int,
        n_groups: int | None,
        n_subsample: int | None,
        seed: int,
        sequential: bool,
    ) -> None:
        kinds: dict[str, Any] = {"seed": seed, "sequential": sequential}
        chosen = choose_groups(groups, channels, n_groups, n_subsample, **kinds)
        assert len(chosen) == min(groups, n_groups or groups, (n_subsample or groups * channels) // channels)
        assert (np.diff(chosen) > 0).all()
        assert chosen[0] >= 0
        assert chosen[-1] < groups
        np.testing.assert_array_equal(chosen, choose_groups(groups, channels, n_groups, n_subsample, **kinds))
        if sequential:
            np.testing.assert_array_equal(chosen, np.arange(len(chosen)))

    def test_seeds_choose_differently(self) -> None:
        first, second = (choose_groups(100, 1, 10, None, seed=seed) for seed in (1, 2))
        assert not np.array_equal(first, second)

    def test_less_than_a_group_is_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match=r"n_subsample = 3 .*n_subsample >= 4"):
            choose_groups(10, 4, None, 3, seed=0)

    def test_chosen_groups_keep_what_belongs_to_them(self, groups: PtychoDataContainer) -> None:
        whole = container_from_mapping(dict(groups))
        part = whole.subset([7, 2])
        for key in ("X", "Y", "coords_offsets", "coords_relative"):
            np.testing.assert_array_equal(part[key], whole[key][[7, 2]])
        np.testing.assert_array_equal(part.patches_for([1]), whole.patches_for([2]))
        # statistics and canvas are of what takes part
        assert part.input_scale == container_from_mapping({key: part[key] for key in part}).input_scale
        assert len(part.coords) == 8


class TestLight:
    def mapping(self, groups: PtychoDataContainer, **changes: Any) -> dict[str, Any]:
        return dict(groups) | changes

    def test_no_light_is_refused_with_a_remedy(self, groups: PtychoDataContainer) -> None:
        with pytest.raises(ValueError, match=r"'X' is zero everywhere.*amplitudes"):
            container_from_mapping(self.mapping(groups, X=np.zeros_like(groups.X)))

    def test_light_on_bad_pixels_alone_is_none(self, groups: PtychoDataContainer) -> None:
        x, bad = np.zeros_like(groups.X), np.zeros((64, 64), bool)
        x[:, 3, 4], bad[3, 4] = 1.0, True
        with pytest.raises(ValueError, match="'X' is zero everywhere"):
            container_from_mapping(self.mapping(groups, X=x, bad_pixels=bad))
        with pytest.raises(ValueError, match="'bad_pixels' covers"):
            container_from_mapping(self.mapping(groups, bad_pixels=np.ones((64, 64), bool)))

    def test_bad_pixels_are_filled(self, groups: PtychoDataContainer) -> None:
        x, bad = np.ones_like(groups.X), np.zeros((64, 64), bool)
        x[:, 3, 4], bad[3, 4] = 1e4, True
        np.testing.assert_allclose(container_from_mapping(self.mapping(groups, X=x, bad_pixels=bad)).X, 1.0)

    def test_dark_groups_alone_cannot_be_normalised(self, groups: PtychoDataContainer) -> None:
        x = groups.X.copy()
        x[4] = 0
        mapped: MappedContainer = container_from_mapping(self.mapping(groups, X=x))
        with pytest.raises(ValueError, match="light"):
            _ = mapped.subset([4]).input_scale


class TestValues:
    def test_integers_are_counts_as_in_files(
        self, groups: PtychoDataContainer, caplog: pytest.LogCaptureFixture
    ) -> None:
        counts = np.rint(groups.X**2).astype(np.int32)
        mapped = container_from_mapping(dict(groups) | {"X": counts})
        np.testing.assert_allclose(mapped.X, np.sqrt(counts), rtol=1e-6)
        assert "counts" in caplog.text

    def test_of_several_opr_modes_the_first_is_the_probe(self, groups: PtychoDataContainer) -> None:
        opr = np.stack([groups.probe, 2 * groups.probe])
        np.testing.assert_array_equal(
            container_from_mapping(dict(groups) | {"probe": opr}).probe, groups.probe
        )

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("probe", np.ones(64)),
            ("probe", np.ones((0, 1, 64, 64))),
            ("probe", np.ones((1, 1, 1, 64, 64))),
            ("photons_per_pattern", 0.0),
            ("photons_per_pattern", float("nan")),
        ],
    )
    def test_what_cannot_be_is_refused_by_key(
        self, groups: PtychoDataContainer, key: str, value: object
    ) -> None:
        with pytest.raises(ValueError, match=f"'{key}'"):
            container_from_mapping(dict(groups) | {key: value})
