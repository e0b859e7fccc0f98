"""Products whose geometry does not allow a reconstruction here: refused before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_support import CENTER, PIXEL_M, N, make_data, make_library, make_product, run
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import save_diffraction_data, save_product
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, prepare_reconstruct_input

from ptychopinn_ptychodus.data.examination import Action, ExaminationConfig, ExaminationError
from ptychopinn_ptychodus.ptychodus_io.ingest import from_reconstruct_input, read_training_directory

COUNT = 30
ALL_THE_SAME = ExaminationConfig(refuse=False)


def given(product: Product) -> ReconstructInput:
    return prepare_reconstruct_input(make_data(COUNT), product)


def near_field() -> Product:
    product = make_product(COUNT)
    return replace(product, metadata=replace(product.metadata, far_field=False))


def other_object_pixel(width: float = 1.5, height: float = 1.5) -> Product:
    product = make_product(COUNT)
    array = np.array(product.object_.get_layer(0))
    pixel = PixelGeometry(PIXEL_M * width, PIXEL_M * height)
    return replace(product, object_=Object(array, pixel, CENTER))


def moved(scale: float, product: Product | None = None) -> Product:
    """Positions scaled around the middle of the object."""
    product = product or make_product(COUNT)
    positions = [
        ProbePosition(
            p.index, CENTER.x_m + scale * (p.x_m - CENTER.x_m), CENTER.y_m + scale * (p.y_m - CENTER.y_m)
        )
        for p in product.probe_positions
    ]
    return replace(product, probe_positions=ProbePositionSequence(positions))


REFUSED: dict[str, tuple[Callable[[], Product], str, str]] = {
    "layers": (lambda: make_product(COUNT, layers=2), "several-layers", "2 layers.*single-layer object"),
    "near field": (near_field, "near-field", "far_field is False.*near field"),
    "object pixel": (other_object_pixel, "other-pixel-size", "pixels are 30 × 30 nm and the probe's 20 × 20"),
    "micrometres": (
        lambda: moved(1e6),
        "positions-outside",
        r"outside.*span .* pixels.*which is .* m around.*unit",
    ),
    "nanometres": (
        lambda: moved(1e-3),
        "positions-within-a-pixel",
        r"All 30 positions lie.*pixels.*which is .* m.*unit",
    ),
}


@pytest.fixture(params=REFUSED)
def refused(request: pytest.FixtureRequest) -> tuple[Product, str, str]:
    make, code, words = REFUSED[request.param]
    return make(), code, words


def test_such_a_product_is_refused(refused: tuple[Product, str, str]) -> None:
    product, code, words = refused
    with pytest.raises(ExaminationError, match=words) as caught:
        from_reconstruct_input(given(product), with_object=False)
    finding = caught.value.report.by_code(code)
    assert finding is not None
    assert finding.action is Action.REFUSED
    assert finding.subject == "geometry"


def test_before_training_too(refused: tuple[Product, str, str], tmp_path: Path) -> None:
    product, _, words = refused
    save_diffraction_data(tmp_path / "diffraction.h5", make_data(COUNT))
    save_product(tmp_path / "product.h5", product)
    with pytest.raises(ExaminationError, match=words):
        read_training_directory(tmp_path)


def test_and_in_export(refused: tuple[Product, str, str], tmp_path: Path) -> None:
    product, _, words = refused
    trained, supervised, _ = iter(make_library())
    for reconstructor in (trained, supervised):
        with pytest.raises(ExaminationError, match=words):
            reconstructor.export_training_data(tmp_path / "out.npz", given(product))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.usefixtures("fake_site")
def test_and_in_every_reconstructor(
    refused: tuple[Product, str, str], fake_model: Callable[..., Path]
) -> None:
    product, _, words = refused
    trained, supervised, refinement = iter(make_library())
    model = fake_model()
    for reconstructor in (trained, supervised):
        reconstructor.load_model_from_file(model)
    for reconstructor in (trained, supervised, refinement):
        with pytest.raises(ExaminationError, match=words):
            run(reconstructor.reconstruct(given(product)))


@pytest.mark.parametrize("name", ["near field", "object pixel", "nanometres"])
def test_what_can_be_computed_is_if_the_user_says_so(name: str) -> None:
    make, code, _ = REFUSED[name]
    raw = from_reconstruct_input(given(make()), with_object=False, examination=ALL_THE_SAME)
    finding = raw.findings.by_code(code)
    assert finding is not None
    assert finding.action is Action.IGNORED
    assert raw.n_patterns == COUNT


def with_metadata(**changes: Any) -> Product:
    product = make_product(COUNT)
    return replace(product, metadata=replace(product.metadata, **changes))


def with_pixels(of_object: PixelGeometry, of_probe: PixelGeometry, center: ObjectCenter = CENTER) -> Product:
    product = make_product(COUNT)
    return replace(
        product,
        object_=Object(np.array(product.object_.get_layer(0)), of_object, center),
        probes=ProbeSequence(np.asarray(product.probes.get_array()), None, of_probe),
    )


SOUND = PixelGeometry(PIXEL_M, PIXEL_M)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda value: with_metadata(detector_distance_m=value), "its detector distance is {}.*metadata"),
        (lambda value: with_metadata(photon_energy_eV=value), "its photon energy is {}.*metadata"),
        (
            lambda value: with_pixels(PixelGeometry(value, PIXEL_M), SOUND),
            "its object's pixel width is {}.*Object view",
        ),
        (
            lambda value: with_pixels(SOUND, PixelGeometry(PIXEL_M, value)),
            "its probe's pixel height is {}.*Probe view",
        ),
    ],
)
def test_a_number_of_the_geometry_that_is_none_is_named(
    make: Callable[[float], Product], said: str, value: float
) -> None:
    """Whatever the user has decided to compute all the same: there are no positions in pixels then."""
    with pytest.raises(ValueError, match='The product "scan": ' + said.format(value)):
        from_reconstruct_input(given(make(value)), with_object=True, examination=ALL_THE_SAME)


def test_a_centre_that_is_none_is_named() -> None:
    product = with_pixels(SOUND, SOUND, ObjectCenter(x_m=0.0, y_m=np.nan))
    with pytest.raises(ValueError, match=r"object's centre, y, is nan.*Object view"):
        from_reconstruct_input(given(product), with_object=True)


@pytest.mark.usefixtures("fake_site")
def test_a_distance_that_is_none_is_named_in_every_reconstructor(
    fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    """As Ptychodus hands such a product over: without an object, whose pixel it cannot tell."""
    nothing = Object(None, None, None)
    parameters = given(replace(with_metadata(detector_distance_m=0.0), object_=nothing))
    pinn, supervised, refinement = iter(make_library())
    for one in (pinn, supervised):
        one.load_model_from_file(fake_model())
    for one in (pinn, supervised, refinement):
        with pytest.raises(ValueError, match=r"detector distance is 0.*Set it in the metadata"):
            run(one.reconstruct(parameters))
    with pytest.raises(ValueError, match=r"detector distance is 0.*Set it in the metadata"):
        pinn.export_training_data(tmp_path / "data.npz", parameters)


def test_no_object_in_spite_of_a_sound_product_points_at_the_detector() -> None:
    product = replace(make_product(COUNT), object_=Object(None, None, None))
    with pytest.raises(ValueError, match=r"no object yet: build one.*detector's pixel size"):
        from_reconstruct_input(given(product), with_object=True)


def test_pixels_need_not_be_square() -> None:
    product = other_object_pixel(1.0, 1.3)
    pixel = PixelGeometry(PIXEL_M, PIXEL_M * 1.3)
    probes = ProbeSequence(np.asarray(product.probes.get_array()), None, pixel)
    raw = from_reconstruct_input(given(replace(product, probes=probes)), with_object=False)
    assert not raw.findings
    with pytest.raises(ExaminationError, match="20 × 26 nm and the probe's 20 × 20 nm"):
        from_reconstruct_input(given(product), with_object=False)


def test_a_sound_product_is_not_accused(standard_directory: Path) -> None:
    assert not from_reconstruct_input(given(make_product(COUNT)), with_object=True).findings
    assert not read_training_directory(standard_directory).train.findings


def test_a_pixel_that_the_metadata_contradict_is_a_warning(tmp_path: Path) -> None:
    product = make_product(COUNT)
    save_diffraction_data(tmp_path / "diffraction.h5", make_data(COUNT))
    save_product(
        tmp_path / "product.h5",
        replace(product, metadata=replace(product.metadata, detector_distance_m=1.0)),
    )
    finding = read_training_directory(tmp_path).train.findings.by_code("nominal-geometry")
    assert finding is not None
    assert finding.action is Action.IGNORED
    # λz/(N p) with hc = 1.23984e-6 eV m
    assert finding.values["implied_m"] == pytest.approx([1.23984e-6 / 8800 / (N * 75e-6)] * 2, rel=1e-4)


def test_a_setting_decides_what_patterns_hold() -> None:
    parameters = given(make_product(COUNT))
    amplitude = ExaminationConfig(pattern_values="amplitude")
    raw = from_reconstruct_input(parameters, with_object=False, examination=amplitude)
    good = ~raw.bad_pixels
    np.testing.assert_array_equal(
        raw.diff3d[:, good], np.asarray(parameters.diffraction_patterns)[:, good].astype(np.float32)
    )
