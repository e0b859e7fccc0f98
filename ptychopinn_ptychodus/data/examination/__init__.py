"""What is looked for in a scan before anything is learnt or computed from it, and what is done about it.

:mod:`.findings` has the report, :mod:`.config` what a user may decide. The checks themselves stand in modules
by subject: those of pixels work on arrays as the detector wrote them, before they become amplitude; those of
the scan work on a :class:`~ptychopinn_ptychodus.data.raw.RawData`.
"""

from .config import ExaminationConfig
from .findings import Action, ExaminationError, Finding, Report
from .frames import sound_frames

__all__ = ["Action", "ExaminationConfig", "ExaminationError", "Finding", "Report", "sound_frames"]
