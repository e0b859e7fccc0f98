"""What an earlier stream has left where a new one is to go: frames, if its process was killed or stopped."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from ..formatting import counted
from ..live.status import LiveStatus
from ..live.timed_positions import TimedPositions
from ..ptychodus_io import kept_directory
from ..ptychodus_io.kept_directory import Kept


def require_no_other(live: Path) -> None:
    """Refuse a directory that another process of this machine streams to."""
    try:
        status = LiveStatus.load(live)
    except (OSError, ValueError):
        return
    is_here = status.host == socket.gethostname() and status.process != os.getpid()
    if is_here and not status.is_over and not status.is_orphaned:
        raise ValueError(
            f'The process {status.process} streams to "{live.parent}": end it first, or name another '
            "directory for the result."
        )


def require_known_first(positions: TimedPositions) -> None:
    """Refuse to go on with positions by order where nobody says which frame the next one is of."""
    if positions.by == "order" and not positions.knows_first:
        raise ValueError(
            "Positions that came while no consumer ran are lost, and by order nobody can tell how many: to "
            'go on with a stream ("resume"), give the number of the frame that the next position is of, '
            '"first_frame", too.'
        )


def frames_before(directory: Path, size: int, logger: logging.Logger, *, resume: bool) -> Kept | None:
    """Frames of a run that was killed or stopped: to go on with, or set aside, and said to be there."""
    if not kept_directory.is_waiting(directory):
        if resume:
            raise ValueError(
                f'There are no frames to go on with in "{directory}": configure the stream without "resume".'
            )
        return None
    try:
        count = kept_directory.complete(directory)
        before = kept_directory.read(directory) if resume else None
    except (KeyError, OSError, ValueError) as exc:
        raise ValueError(
            f'The frames of an earlier stream in "{directory}" cannot be read ({exc}): move that directory, '
            "or name another one for the result."
        ) from exc
    if before is None:
        aside = kept_directory.set_aside(directory)
        logger.warning(
            'An earlier stream ended before it was reconstructed. Its %s with a position are in "%s" now: '
            'reconstruct them with ptychopinn-ptychodus reconstruct -i "%s" -o OUT. A stream that is '
            'configured with "resume": true goes on with such frames instead.',
            counted(count, "frame"),
            aside,
            aside,
        )
        return None
    if before.patterns.shape[1:] != (size, size):
        height, width = before.patterns.shape[1:]
        raise ValueError(
            f'The frames in "{directory}" have {width} × {height} pixels, and those that are to come '
            f'{size} × {size}: configure the stream without "resume", or as it was.'
        )
    logger.warning(
        'The stream goes on with %s, of which %d have a position, in "%s".',
        counted(len(before.numbers), "frame"),
        count,
        directory,
    )
    return before
