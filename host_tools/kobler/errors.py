"""Errors meant for the person at the terminal: one line that says what, where and what to do."""

from __future__ import annotations


class KoblerError(Exception):
    """It could not be done (exit code 1). The text names the thing and the remedy; no traceback is shown."""

    exit_code = 1


class UsageError(KoblerError):
    """The command or its input file was wrong (exit code 2)."""

    exit_code = 2
