"""The production line's ledger: what was done to which serial number, one line of JSON each, only ever added to.

A line is written with one call and is on the disk before the next step begins. Each holds the SHA-256 of the one before
it: what was changed or taken out is noticed when the ledger is opened. The beginning of a line at the end is one whose
step never began, since a crash came between; it is cut off.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import KoblerError
from ..pki import files


class LedgerError(KoblerError):
    """The ledger cannot be relied on: nothing more must be done."""


BEGUN, SIGNED, DONE, FAILED, VOID = "begun", "signed", "done", "failed", "void"
_LONGEST = 4096  # bytes of a line that a crash may have cut


@dataclass
class Piece:
    """How far one serial number has come. `known`: certificates that its unit had before, by serial number."""

    serial: str
    id: str
    known: frozenset[str] = frozenset()
    fingerprint: str | None = None
    done: bool = False


class Ledger:
    """Holds the file alone while it is open; `pieces` by serial number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pieces: dict[str, Piece] = {}
        self._last = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite's lock is the portable one, and goes with the process however it ends.
            self._lock = sqlite3.connect(path.with_suffix(".lock"), timeout=0, isolation_level=None)
            self._lock.execute("BEGIN EXCLUSIVE")
        except (OSError, sqlite3.Error) as error:
            reason = "another line works with it" if "locked" in str(error) else str(error)
            raise LedgerError(f"the ledger {path} cannot be used: {reason}") from None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
            files.sync_folder(path.parent)
            self._read()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, OSError):
                raise LedgerError(f"the ledger {path} cannot be used: {error.strerror}") from None
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        self._lock.close()

    def add(self, event: str, piece: Piece, **fields: Any) -> None:
        """Write what happens to a piece; it is on the disk when this returns."""
        at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "event": event, "serial": piece.serial, "id": piece.id, **fields, "last": self._last}
        line = json.dumps(entry).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise LedgerError(f"cannot write the ledger {self.path}: {error.strerror}; nothing more was done") from None
        self._take(entry, line)

    def piece_of(self, unit_id: str) -> Piece | None:
        """The serial number that this unit has."""
        return next((piece for piece in self.pieces.values() if piece.id == unit_id), None)

    def _read(self) -> None:
        data = self.path.read_bytes()
        lines = _lines(self.path, data)
        self.pieces, self._last = _replay(self.path, lines)
        if len(lines) < len(data):
            os.ftruncate(self._file, len(lines))
        elif len(lines) > len(data):
            os.write(self._file, lines[len(data) :])
        if lines != data:
            os.fsync(self._file)

    def _take(self, entry: dict[str, Any], line: bytes) -> None:
        self._last = _apply(self.pieces, entry, line)


def peek(path: Path) -> dict[str, Piece]:
    """The pieces of a ledger that need not exist; nothing is locked or written."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from None
    return _replay(path, _lines(path, data))[0]


def _lines(path: Path, data: bytes) -> bytes:
    """What counts of a ledger: all, but for the beginning of a last line; a last line that only lacks its newline gets
    it."""
    whole = data.rfind(b"\n") + 1
    rest = data[whole:]
    if not rest:
        return data
    try:
        json.loads(rest)
        return data + b"\n"
    except (ValueError, RecursionError):
        pass
    if whole and len(rest) <= _LONGEST:
        return data[:whole]
    if len(rest) <= _LONGEST and rest.startswith(b'{"at": "'):
        raise LedgerError(
            f"{path} has the beginning of one line only. If it is new, no serial number was begun yet: remove it. "
            "Otherwise restore it from a backup; nothing was done"
        )
    raise LedgerError(f"{path} is damaged at its end: restore the ledger from a backup; nothing was done")


def _replay(path: Path, data: bytes) -> tuple[dict[str, Piece], str]:
    pieces: dict[str, Piece] = {}
    last = ""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            entry = json.loads(line)
            if entry["last"] != last:
                raise ValueError("the line before it was changed or is missing")
            last = _apply(pieces, entry, line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LedgerError(
                f"{path}:{number} is damaged ({error}): restore the ledger from a backup; nothing was done"
            ) from None
    return pieces, last


def _apply(pieces: dict[str, Piece], entry: dict[str, Any], line: bytes) -> str:
    serial, event = entry["serial"], entry["event"]
    if event == BEGUN:
        pieces[serial] = Piece(serial, entry["id"], frozenset(entry["known"]))
    elif event == SIGNED:
        pieces[serial].fingerprint = entry["fingerprint"]
    elif event == DONE:
        pieces[serial].done = True
    elif event == VOID:
        del pieces[serial]
    elif event != FAILED:
        raise ValueError(f"unknown event {event!r}")
    return hashlib.sha256(line).hexdigest()
