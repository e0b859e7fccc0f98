"""What is said where patterns overlap too little to determine the object between them."""

from __future__ import annotations

from ..data.examination.findings import Action, Finding
from ..data.overlapping import LEAST_SHARED, shared_light
from ..data.raw import RawData


def little_overlap(raw: RawData, *, of_single_frames: bool) -> Finding | None:
    """The warning that most light of a pattern falls where no other pattern was taken; None: it does not.

    ``of_single_frames`` says whether a network makes the object that needs no overlap; others are advised to
    use one. The subject is ``"geometry"``: of the result the verdict tells.
    """
    shared = shared_light(raw.probeGuess, raw.xcoords, raw.ycoords)
    if shared >= LEAST_SHARED:
        return None
    done = (
        "Objects that are wrong can explain such patterns, and a good fit is no proof. Take positions closer "
        "together where that is possible"
    )
    if of_single_frames:
        done += "; what this network adds is right as far as the object is like those it has learnt from."
    else:
        done += (
            ", or start from the object of a network that was pretrained for single frames on objects of "
            "this kind (ptychopinn-ptychodus pretrain --gridsize 1)."
        )
    return Finding(
        code="little-overlap",
        subject="geometry",
        action=Action.IGNORED,
        seen=(
            f"Of the light of a pattern, {shared:.0%} falls where other patterns were taken (the median; "
            f"less than {LEAST_SHARED:.0%} is little): overlap does not determine the object."
        ),
        done=done,
        values={"shared_light": shared},
    )
