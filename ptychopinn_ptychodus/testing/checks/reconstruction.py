"""Reconstruction: the product, its object grid, progress and stop."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from ptychodus.api.io import load_product, save_product
from ptychodus.api.reconstruct import ReconstructOutput

from ..bench import Case, products
from ..contract import Contract
from .progress import assert_goal_stays, assert_progress

# Of two lengths that are to be the same: Ptychodus itself keeps them as they are.
RELATIVE = 1e-6


class ReconstructionChecks(Contract):
    """``reconstruct(parameters)``, called from a worker thread."""

    def test_reconstruction_completes(self, case: Case) -> None:
        run = case.reconstruction.run
        assert run.ended, f"The reconstruction did not end within {self.run_limit_s:.0f} s."
        if run.error is not None:
            raise run.error  # the reconstruction that failed: Ptychodus calls it in a worker thread, as here
        assert run.outputs, (
            "The reconstruction yielded nothing. The window then shows the input as if it were the result, "
            "and a headless run ends with exit code 0 and no file: yield an output, or raise."
        )
        assert all(isinstance(output, ReconstructOutput) for output in run.outputs), (
            f"It yielded {[type(output).__name__ for output in run.outputs]}: yield ReconstructOutput."
        )

    def test_object_is_on_the_grid_of_the_input(self, case: Case) -> None:
        reconstruction = case.reconstructed
        wanted = reconstruction.parameters.product.object_
        for product in products(reconstruction.run):
            found = product.object_
            shape, expected = (found.height_px, found.width_px), (wanted.height_px, wanted.width_px)
            assert shape == expected, (
                f"The object has {shape} pixels (rows, columns), and that of the input {expected}. Ptychodus "
                "does not look at it: positions and object would no longer fit together. Put the result on "
                "the grid of parameters.product.object_."
            )
            pixel, expected_pixel = found.get_pixel_geometry(), wanted.get_pixel_geometry()
            edges, wanted_edges = ((p.width_m, p.height_m) for p in (pixel, expected_pixel))
            assert np.allclose(edges, wanted_edges, rtol=RELATIVE, atol=0), (
                f"A pixel of the object is {pixel}, and one of the input {expected_pixel}: pass it on."
            )
            center, expected_center = found.get_center(), wanted.get_center()
            # by place: Ptychodus 1.5 has other names for x and y
            pairs = zip(astuple(center), astuple(expected_center), strict=True)
            off_m = max(abs(found - wanted) for found, wanted in pairs)
            assert off_m <= RELATIVE * expected_pixel.width_m, (
                f"The centre of the object is {center}, and that of the input {expected_center}: the result "
                "would lie elsewhere. Pass center=parameters.product.object_.get_center() on."
            )

    def test_product_holds_complex_numbers(self, case: Case) -> None:
        for product in products(case.reconstructed.run):
            for what, array in (
                ("object", product.object_.get_array()),
                ("probe", product.probes.get_array()),
            ):
                assert np.iscomplexobj(array), (
                    f"The {what} is {array.dtype}. Ptychodus takes it as it is, and shows no phase: make it "
                    "complex."
                )
                assert np.isfinite(array).all(), (
                    f"The {what} has values that are not finite: Ptychodus shows nothing of such an image. "
                    "Fill what was not illuminated, with 1 for instance."
                )

    def test_reconstruction_progress(self, case: Case) -> None:
        assert_progress(case.reconstructed.run, "reconstruction")

    def test_reconstruction_goal_stays(self, case: Case) -> None:
        assert_goal_stays(case.reconstructed.run, "reconstruction")

    def test_input_is_not_changed(self, case: Case) -> None:
        reconstruction = case.reconstruction
        changed = [
            name for name, value in reconstruction.before.items() if reconstruction.after[name] != value
        ]
        assert not changed, (
            f"The reconstruction changed {changed} of its input: these are the arrays that Ptychodus keeps "
            "and shows, and the next reconstruction would start from them. Work on copies."
        )

    def test_product_is_written_and_read(self, case: Case) -> None:
        path = case.new_directory("product") / "product.h5"
        for product in products(case.reconstructed.run):
            save_product(path, product)  # what a headless run does with each output
            found = load_product(path)
            assert np.array_equal(found.object_.get_array(), product.object_.get_array(), equal_nan=True), (
                "The object that was read from a product file is not the one that was written."
            )

    def test_reconstruction_leaves_nothing_behind(self, case: Case) -> None:
        run = case.reconstructed.run
        assert not run.processes, (
            f"Still running after the reconstruction: {run.processes}. They keep memory and GPU: end them in "
            "a finally."
        )
        assert not run.strays, (
            f"The reconstruction left files where nobody looks for them: {run.strays}. Remove temporary "
            "directories in a finally."
        )

    def test_reconstruction_is_stopped(self, case: Case) -> None:
        run = case.reconstruct(case.with_model(), stop_after=1)
        assert run.ended_within(self.stop_limit_s), (
            f"Stopped after its first output, the reconstruction did not end within {self.stop_limit_s:.0f} "
            "s: end promptly on GeneratorExit."
        )
        if not run.outputs:
            pytest.skip("there was nothing to stop: see test_reconstruction_completes")
        assert run.error is None, (
            f"Stopped, the reconstruction raised {run.error!r}. Ptychodus closes the generator: let "
            "GeneratorExit pass, and do not yield after it."
        )
        assert not run.processes, f"Still running after Stop: {run.processes}. End them in a finally."
        assert not run.strays, (
            f"Stopped, the reconstruction left files where nobody looks for them: {run.strays}. Remove "
            "temporary directories in a finally."
        )

    def test_reconstruction_without_a_model_raises(self, trainable: Case) -> None:
        run, _ = trainable.reconstruction_without_a_model
        assert not run.outputs, (
            "It reconstructed without a model: the window enables Infer whenever data are loaded, and the "
            "user would take the result for one. Raise before anything is yielded."
        )
        assert isinstance(run.error, Exception), (
            f"Without a model, the reconstruction ended with {run.error!r}. Ptychodus takes that for "
            "success, and shows the input as the result: raise an error that says how to get a model."
        )
