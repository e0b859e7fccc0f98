"""Whether a reconstruction explains its patterns, and if not, how the scan would have to be read.

:func:`.judgement.judge` compares the error on the data with what noise alone leaves (:mod:`.noise`) and
with what patterns say of each other without any model (:mod:`.bounds`). Where that leaves a doubt, a part of
the scan is refined as it is, and as other readings of it would have it (:mod:`.variants`, :mod:`.trial`).
Numpy and scipy only, but for the refinement's GPU.
"""

from .conjugate import conjugate_taken
from .dim import nearly_noise
from .judgement import judge
from .moved import positions_moved, positions_searched
from .overlap import little_overlap

__all__ = [
    "conjugate_taken",
    "judge",
    "little_overlap",
    "nearly_noise",
    "positions_moved",
    "positions_searched",
]
