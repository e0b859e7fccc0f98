"""Training: ingest, train, stop."""

from __future__ import annotations

import fnmatch
import math

import pytest
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import TrainOutput

from ..bench import Case, patterns_of
from ..contract import Contract
from ..surroundings import Surroundings, contents
from .progress import assert_goal_stays, assert_progress


class TrainingChecks(Contract):
    """``train(input directory, output directory)``, called from a worker thread."""

    def test_training_data_are_exported(self, trainable: Case) -> None:
        subject = trainable.new()
        directory = trainable.new_directory("export")
        with Surroundings() as surroundings:
            path = trainable.export(directory, subject)
        shown = subject.reconstructor.get_training_data_file_filter()
        found = sorted(contents(directory))
        assert path.name in found, (
            f'"Export Training Data" was to write "{path.name}", and {found or "nothing"} is there. The user '
            "looks for the name that was typed: write to that path."
        )
        patterns = patterns_of(shown) or ["*"]
        stray = [name for name in found if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
        assert not stray, f'The exported files {stray} do not fit "{shown}": the dialog hides them.'
        assert path.stat().st_size > 0, f'The exported file "{path.name}" is empty.'
        assert not surroundings.files, f"Exporting left files elsewhere: {surroundings.files}."

    def test_training_completes(self, trainable: Case) -> None:
        run = trainable.training.run
        assert run.ended, (
            f"The training did not end within {self.run_limit_s:.0f} s. Ptychodus has one worker thread: "
            "everything after it would wait. If your training is only slow, have configure() make it cheap."
        )
        if run.error is not None:
            raise run.error  # the training that failed: Ptychodus calls it in a worker thread, as here
        assert run.outputs, (
            "The training yielded nothing. Ptychodus looks at its Stop button between two outputs, and draws "
            "progress when there is one: yield a TrainOutput at least after each epoch."
        )

    def test_training_yields_losses(self, trainable: Case) -> None:
        outputs = trainable.trained.run.outputs
        assert all(isinstance(output, TrainOutput) for output in outputs), (
            f"The training yielded {[type(output).__name__ for output in outputs]}: yield TrainOutput."
        )
        losses = [loss for output in outputs for loss in (*output.training_loss, *output.validation_loss)]
        assert losses, (
            "No output of the training has a loss: nobody can see whether it learns. Fill training_loss with "
            "a LossValue for each epoch so far."
        )
        assert all(isinstance(loss, LossValue) for loss in losses), (
            f"Losses are {type(losses[0]).__name__}: make them LossValue(epoch, value)."
        )
        assert all(math.isfinite(loss.value) for loss in losses), (
            f"The losses {losses} are not all finite: the simulated scan is harmless, look at your scaling."
        )

    def test_training_progress(self, trainable: Case) -> None:
        assert_progress(trainable.trained.run, "training")

    def test_training_goal_stays(self, trainable: Case) -> None:
        assert_goal_stays(trainable.trained.run, "training")

    def test_training_is_never_silent_for_long(self, trainable: Case) -> None:
        silence = max(trainable.trained.run.silences_s)
        assert silence <= self.silence_limit_s, (
            f"Nothing was yielded for {silence:.1f} s. Until the next output, Stop does nothing and closing "
            "the window hangs: yield the last output again about every second while you wait."
        )

    def test_training_leaves_a_model_file(self, trainable: Case) -> None:
        training = trainable.trained
        path = trainable.model_path(training.subject, training.target)
        assert path.is_file(), (
            f'The output directory has no "{path.name}", only {sorted(contents(training.target))}. Nothing '
            "in Ptychodus calls save_model() after a training: the model is lost when the application ends, "
            'and headless runs never see it. Write "model" + get_model_file_extension() there in train().'
        )

    def test_trained_model_is_loaded(self, trainable: Case) -> None:
        assert trainable.trained.subject.reconstructor.is_model_loaded(), (
            "is_model_loaded() is False after a training: the window keeps Infer disabled. Load what was "
            "trained at the end of train()."
        )

    def test_training_leaves_no_processes(self, trainable: Case) -> None:
        processes = trainable.trained.run.processes
        assert not processes, (
            f"Still running after the training: {processes}. They keep memory and GPU: end them in a finally."
        )

    def test_training_writes_to_its_output_only(self, trainable: Case) -> None:
        training = trainable.trained
        before, after = training.read
        assert after == before, (
            "The training changed its input directory, which need not be the output directory: "
            f"{sorted(set(after.items()) ^ set(before.items()))}. Write to the output directory only."
        )
        assert not training.run.strays, (
            f"The training left files where nobody looks for them: {training.run.strays}. Ptychodus' working "
            "directory is wherever it was started, and scratch space fills up: write to the output "
            "directory, and remove temporary directories in a finally."
        )

    def test_training_without_data_raises(self, trainable: Case) -> None:
        training = trainable.training_without_data
        run, source = training.run, training.source
        assert run.ended, "A training on an empty directory did not end in time."
        assert isinstance(run.error, Exception), (
            f"A training on an empty directory ended with {run.error!r} and {len(run.outputs)} outputs. "
            "Without an exception, Ptychodus reports success, and a headless run ends with exit code 0: "
            "raise FileNotFoundError."
        )
        assert str(source) in str(run.error), (
            f'The error says "{run.error}" and not where it looked: name the directory, "{source}".'
        )
        model = trainable.model_path(training.subject, training.target)
        assert not model.exists(), f'A training that failed has left "{model.name}".'

    def test_training_is_stopped(self, trainable: Case) -> None:
        trainable.trained  # noqa: B018 (skips where there is nothing to stop)
        run = trainable.stopped.run
        assert run.ended_within(self.stop_limit_s), (
            f"Stopped after its first output, the training did not end within {self.stop_limit_s:.0f} s. The "
            "window waits for it, and so does everything else: end promptly on GeneratorExit."
        )
        assert run.error is None, (
            f"Stopped, the training raised {run.error!r}. Ptychodus closes the generator: let GeneratorExit "
            "pass, and do not yield after it."
        )
        assert not run.processes, (
            f"Still running after Stop: {run.processes}. They compute for nobody: end them in a finally."
        )
        assert not run.strays, (
            f"Stopped, the training left files where nobody looks for them: {run.strays}. Remove temporary "
            "directories in a finally."
        )

    def test_stopped_training_leaves_a_usable_model(self, trainable: Case) -> None:
        trainable.reconstructed  # noqa: B018 (skips where no model reconstructs)
        trainable.require_training()
        stopped = trainable.stopped
        if stopped.run.problem is not None:
            pytest.skip(f"it could not be stopped ({stopped.run.problem}): see test_training_is_stopped")
        earlier = stopped.target / trainable.model.name
        assert stopped.subject.reconstructor.is_model_loaded(), (
            "A model was loaded, a training was stopped, and now there is none: the user has lost both. Keep "
            "the best state so far, or else the earlier model."
        )
        assert earlier.is_file(), (
            f'The stopped training has removed "{earlier.name}", the earlier model: write beside it, and '
            "replace it when the new one is whole."
        )
        again = trainable.new()
        again.reconstructor.load_model_from_file(earlier)
        failure = trainable.reconstruct(again).failure
        assert failure is None, (
            f'"{earlier.name}", as the stopped training has left it, does not reconstruct ({failure}): write '
            "beside it, and replace it when the new one is whole."
        )
