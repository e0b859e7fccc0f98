"""What the application asks at any time, and does not survive if it raises."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any

from ptychodus.api.reconstruct import Reconstructor

from ..bench import Case, is_trainable, patterns_of
from ..contract import Contract
from ..parameters import extremes, parameters_of


def queries(reconstructor: Reconstructor) -> dict[str, tuple[Callable[[], Any], type]]:
    """What is asked, and the type of the answer."""
    asked: dict[str, tuple[Callable[[], Any], type]] = {
        "name": (lambda: reconstructor.name, str),
        "get_progress_goal()": (reconstructor.get_progress_goal, int),
    }
    if is_trainable(reconstructor):
        trainable: Any = reconstructor
        asked |= {
            "is_model_loaded()": (trainable.is_model_loaded, bool),
            "get_model_file_filter()": (trainable.get_model_file_filter, str),
            "get_model_file_extension()": (trainable.get_model_file_extension, str),
            "get_training_data_file_filter()": (trainable.get_training_data_file_filter, str),
        }
    return asked


class QueryChecks(Contract):
    """Questions that the window asks from its event loop, whatever has happened before."""

    def test_queries_answer(self, case: Case) -> None:
        reconstructor = case.new(configure=False).reconstructor
        for question, (ask, kind) in queries(reconstructor).items():
            answer = ask()  # an exception here closes the window, with the user's work
            assert isinstance(answer, kind), (
                f"{question} answered {answer!r}: Ptychodus expects {kind.__name__}."
            )

    def test_queries_survive_any_setting(self, case: Case) -> None:
        subject = case.new(configure=False)
        raised = []
        for setting in parameters_of(subject.settings):
            before = setting.parameter.get_value()
            for value in extremes(setting.parameter):
                setting_says = f"with {setting} = {value!r}, what observes the setting raised"
                try:
                    setting.parameter.set_value(value)
                    for question, (ask, _) in queries(subject.reconstructor).items():
                        setting_says = f"with {setting} = {value!r}, {question} raised"
                        ask()
                except Exception as exc:
                    raised.append(f"{setting_says} {type(exc).__name__}: {exc}")
                finally:
                    setting.parameter.set_value(before)
        assert not raised, (
            "The window asks these questions while it draws itself, and closes when one raises; a settings "
            "file can hold any value. Answer something, and raise when it comes to a run:\n"
            + "\n".join(raised)
        )

    def test_progress_goal_is_positive(self, case: Case) -> None:
        goal = case.new(configure=False).reconstructor.get_progress_goal()
        assert goal > 0, (
            f"The progress goal is {goal}: without a goal, Ptychodus shows neither a progress bar nor the "
            "Stop button. Return the number of steps, or 100 and count in percent."
        )

    def test_model_extension_starts_with_a_dot(self, trainable: Case) -> None:
        extension = trainable.new(configure=False).reconstructor.get_model_file_extension()
        assert re.fullmatch(r"\.[^/\\*\s]*[^/\\*\s.]", extension), (
            f'The extension of model files is "{extension}". A headless run opens the file "model" with the '
            'extension put after it: return it with its leading dot, like ".ckpt".'
        )

    def test_model_filter_shows_the_extension(self, trainable: Case) -> None:
        reconstructor = trainable.new(configure=False).reconstructor
        shown, extension = reconstructor.get_model_file_filter(), reconstructor.get_model_file_extension()
        name = f"model{extension}"
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns_of(shown)), (
            f'The file dialog shows "{shown}", which hides "{name}": a user cannot choose the models that '
            f'training leaves. Return something like "My Models (*{extension})".'
        )

    def test_training_data_filter_has_a_pattern(self, trainable: Case) -> None:
        shown = trainable.new(configure=False).reconstructor.get_training_data_file_filter()
        assert patterns_of(shown), (
            f'The filter for training data is "{shown}", and Qt takes file patterns from its parentheses: '
            'return something like "My Training Data (*.npz)".'
        )
