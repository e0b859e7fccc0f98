"""Model files: save, open, refuse; and errors, which only the log shows."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ..bench import Case, Subject
from ..contract import Contract
from ..runs import RecordedRun
from ..surroundings import contents


def _text(path: Path) -> None:
    path.write_text("This is no model.\n", encoding="utf-8")


def _empty(path: Path) -> None:
    path.touch()


def _missing(path: Path) -> None:
    assert not path.exists()


WRONG_FILES: dict[str, Callable[[Path], None]] = {"text": _text, "empty": _empty, "missing": _missing}


class ModelChecks(Contract):
    """``save_model``, ``load_model_from_file``, and what becomes of the loaded model."""

    def test_saved_model_gives_the_same_object(self, trainable: Case) -> None:
        subject = trainable.trained.subject if self.trains else trainable.with_model()
        if not subject.reconstructor.is_model_loaded():
            pytest.skip("no model is loaded: see test_trained_model_is_loaded")
        saved = trainable.model_path(subject, trainable.new_directory("saved"))
        subject.reconstructor.save_model(saved)
        found = sorted(contents(saved.parent))
        assert found == [saved.name], (
            f'save_model() was to write "{saved.name}", and {found or "nothing"} is there: write that file.'
        )
        opened = trainable.new()
        opened.reconstructor.load_model_from_file(saved)
        assert opened.reconstructor.is_model_loaded(), (
            "is_model_loaded() is False after load_model_from_file(): the window keeps Infer disabled."
        )
        self._assert_same_object(trainable, trainable.reconstruct(opened), "saved and opened")

    def test_nothing_is_saved_without_a_model(self, trainable: Case) -> None:
        subject = trainable.new()
        if subject.reconstructor.is_model_loaded():
            pytest.skip("it has a model from the start")
        path = trainable.model_path(subject, trainable.new_directory("nothing"))
        error = _error_of(lambda: subject.reconstructor.save_model(path))
        assert error is not None, (
            "save_model() without a model raised nothing: a script takes the model for saved. Raise."
        )
        assert not path.exists(), f'save_model() without a model has left "{path.name}".'

    @pytest.mark.parametrize("kind", WRONG_FILES)
    def test_wrong_file_is_refused(self, trainable: Case, kind: str) -> None:
        subject = trainable.new()
        path = self._wrong(trainable, subject, kind)
        error = _error_of(lambda: subject.reconstructor.load_model_from_file(path))
        assert error is not None, (
            f"A model file that is {kind} was taken for a model: the user learns of it when a reconstruction "
            "fails, or never. Look into the file when it is loaded, and raise."
        )
        assert path.name in str(error), (
            f'The error says "{error}". That is all that the user gets to see: name the file, "{path.name}".'
        )

    def test_refused_file_leaves_the_earlier_model(self, trainable: Case) -> None:
        subject = trainable.with_model()
        trainable.reconstructed  # noqa: B018 (skips where there is nothing to compare with)
        for kind in WRONG_FILES:
            path = self._wrong(trainable, subject, kind)
            if _error_of(functools.partial(subject.reconstructor.load_model_from_file, path)) is None:
                pytest.skip("a wrong file was taken: see test_wrong_file_is_refused")
        assert subject.reconstructor.is_model_loaded(), (
            "A file was refused, and the model that was loaded before is gone: look at a file before you let "
            "go of the model."
        )
        self._assert_same_object(trainable, trainable.reconstruct(subject), "after a file was refused")

    def test_errors_reach_the_log(self, trainable: Case) -> None:
        run, subject = trainable.reconstruction_without_a_model
        runs = {"a reconstruction without a model": run}
        if self.trains:
            runs["a training on an empty directory"] = trainable.training_without_data.run
        failed = {what: run for what, run in runs.items() if isinstance(run.error, Exception)}
        if not failed:
            pytest.skip("nothing failed: see the checks named …_raises")
        for what, run in failed.items():
            assert any(record.levelno >= logging.ERROR for record in run.log), (
                f"{what[0].upper()}{what[1:]} raised {run.error!r}, and the library's logger "
                f'"{subject.library.get_logger().name}" says nothing of it. The window shows that log alone, '
                "and no dialog: the run just ends. Log the error there, then raise it again."
            )

    # ---- helpers

    def _wrong(self, case: Case, subject: Subject, kind: str) -> Path:
        path = case.new_directory("wrong") / f"{kind}{subject.reconstructor.get_model_file_extension()}"
        WRONG_FILES[kind](path)
        return path

    def _assert_same_object(self, case: Case, run: RecordedRun, when: str) -> None:
        wanted = case.reconstructed.run.outputs[-1].product.object_.get_array()
        problem = run.failure
        assert problem is None, f"The model reconstructs, but not {when}: {problem}."
        found = run.outputs[-1].product.object_.get_array()
        assert found.shape == wanted.shape, f"Reconstructed {when}, the object is another: {found.shape}."
        # what is not finite is the business of test_product_holds_complex_numbers
        difference = float(np.nanmax(np.abs(found - wanted)) / np.nanmax(np.abs(wanted)))
        assert difference <= self.tolerance, (
            f"Reconstructed {when}, the object differs by {difference:.2g} of its largest value: the model "
            "file does not hold everything that reconstruction needs. Save statistics, scale and probe with "
            "the weights, and draw nothing at random."
        )


def _error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as exc:
        return exc
    return None
