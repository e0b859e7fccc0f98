"""What a command says when it cannot do its work."""

from __future__ import annotations

SUCCESS, FAILURE, USAGE, DOUBTFUL, INTERRUPTED = 0, 1, 2, 3, 130


class CommandError(Exception):
    """Ends a command with one line for the user; ``code`` is the exit code."""

    code = FAILURE


class UsageError(CommandError):
    """The command line, or an input that it names, is not what the command needs."""

    code = USAGE
