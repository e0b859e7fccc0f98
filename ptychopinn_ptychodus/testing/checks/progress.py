"""Progress, which training and reconstruction report alike."""

from __future__ import annotations

from ..runs import RecordedRun


def assert_goal_stays(run: RecordedRun, what: str) -> None:
    """The goal is asked for anew at each output."""
    goals = list(dict.fromkeys(run.goals))
    assert len(goals) == 1, (
        f"The progress goal changed during the {what}: {goals}. Ptychodus asks for it at every output, and "
        "the bar jumps: fix it when the run starts."
    )


def assert_progress(run: RecordedRun, what: str) -> None:
    """Progress goes from 0 to the goal, and never back."""
    goal = run.goals[-1]
    seen = [output.progress for output in run.outputs]
    assert all(isinstance(progress, int) for progress in seen), f"Progress is {seen}: use whole numbers."
    assert all(0 <= progress <= goal for progress in seen), (
        f"The progress of the {what}, {seen}, is not within 0 and the goal, {goal}: the bar shows nonsense."
    )
    assert seen == sorted(seen), f"The progress of the {what} goes back: {seen}."
    assert seen[-1] == goal, (
        f"The {what} ended at {seen[-1]} of {goal}: the bar never fills. Have the last output say {goal}, "
        "also where a run ends early."
    )
