"""The production line's ledger: what was done to which serial number, one line of JSON each, only ever added to.

A line is written with one call and is on the disk before the next step begins. Each holds the SHA-256 of the one before
it: what was changed or taken out is noticed when the ledger is opened. The beginning of a line at the end is one whose
step never began, since a crash came between; it is cut off.

Beside it, in a file of its own, stand the number of its lines and the digest of the last: an older ledger is noticed by
these. That file is written after each line, so it may be a line behind.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import json
import os
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import KoblerError
from ..pki import files


class LedgerError(KoblerError):
    """The ledger cannot be relied on: nothing more must be done."""


BEGUN, SIGNED, LOCKING, DONE, FAILED, VOID = "begun", "signed", "locking", "done", "failed", "void"
SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_LONGEST = 4096  # bytes of a line that a crash may have cut


@dataclass
class Piece:
    """How far one serial number has come. `known`: certificates that its unit had before, by serial number.
    `locking`: all is done but, perhaps, the console's lock."""

    serial: str
    id: str
    known: frozenset[str] = frozenset()
    certificate: str | None = None  # its serial number
    fingerprint: str | None = None
    locking: bool = False
    done: bool = False


@dataclass
class _State:
    """What the lines come to. `ever`: every serial number that was begun; `heads`: the digest of each line."""

    pieces: dict[str, Piece] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    heads: list[str] = field(default_factory=lambda: [""])


class Ledger:
    """Holds the file alone while it is open; `pieces` by serial number. `labels`: their folder, which may not have one
    of a serial number that the ledger does not know."""

    def __init__(self, path: Path, labels: Path | None = None) -> None:
        self.path = path
        with contextlib.ExitStack() as opened:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # SQLite's lock is the portable one, and goes with the process however it ends.
                lock = sqlite3.connect(path.with_suffix(".lock"), timeout=0, isolation_level=None)
                opened.callback(lock.close)
                lock.execute("BEGIN EXCLUSIVE")
            except (OSError, sqlite3.Error) as error:
                reason = "another line works with it" if "locked" in str(error) else str(error)
                raise LedgerError(f"the ledger {path} cannot be used: {reason}") from None
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
                opened.callback(os.close, self._file)
                files.sync_folder(path.parent)
                self._read()
                if labels is not None:
                    _check_labels(path, self._state, labels)
            except OSError as error:
                raise LedgerError(f"the ledger {path} cannot be used: {error.strerror}") from None
            self._opened = opened.pop_all()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def pieces(self) -> dict[str, Piece]:
        return self._state.pieces

    def add(self, event: str, piece: Piece, **fields: Any) -> None:
        """Write what happens to a piece; it is on the disk when this returns."""
        at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        last = self._state.heads[-1]
        entry = {"at": at, "event": event, "serial": piece.serial, "id": piece.id, **fields, "last": last}
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
        _apply(self._state, entry, line)
        try:
            files.write(_head_of(self.path), _head(self._state))
        except KoblerError as error:
            raise LedgerError(f"{error}; nothing more was done") from None

    def piece_of(self, unit_id: str) -> Piece | None:
        """The serial number that this unit has."""
        return next((piece for piece in self.pieces.values() if piece.id == unit_id), None)

    def _read(self) -> None:
        data, lines, self._state = _load(self.path)
        if len(lines) < len(data):
            os.ftruncate(self._file, len(lines))
        elif len(lines) > len(data):
            os.write(self._file, lines[len(data) :])
        if lines != data:
            os.fsync(self._file)


def peek(path: Path, labels: Path | None = None) -> dict[str, Piece]:
    """The pieces of a ledger that need not exist; nothing is locked or written."""
    try:
        state = _load(path)[2]
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from None
    if labels is not None:
        _check_labels(path, state, labels)
    return state.pieces


def _load(path: Path) -> tuple[bytes, bytes, _State]:
    head = _read_head(path)  # first: it may be behind, but not ahead
    data = path.read_bytes() if path.exists() else b""
    lines = _lines(path, data)
    state = _replay(path, lines)
    if head is not None and state.heads[head[0] : head[0] + 1] != [head[1]]:
        there = len(state.heads) - 1
        what = f"has {there} of {head[0]} lines" if there < head[0] else "is another one"
        raise LedgerError(f"{path} {what}, as {_head_of(path)} says: restore the newest ledger; nothing was done")
    return data, lines, state


def _head_of(path: Path) -> Path:
    return path.with_suffix(".head")


def _head(state: _State) -> bytes:
    return json.dumps({"lines": len(state.heads) - 1, "last": state.heads[-1]}).encode() + b"\n"


def _read_head(path: Path) -> tuple[int, str] | None:
    head = _head_of(path)
    if not head.exists():
        return None  # of a ledger that is new, or was made before there was one
    try:
        found = json.loads(head.read_bytes())
        lines, last = found["lines"], found["last"]
        if type(lines) is int and lines >= 0 and isinstance(last, str):
            return lines, last
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise LedgerError(f"{head} is damaged: remove it, if {path} is the newest ledger; nothing was done")


def _check_labels(path: Path, state: _State, labels: Path) -> None:
    for label in sorted(labels.glob("*.png")):
        if SERIAL.fullmatch(label.stem) and label.stem not in state.ever:
            raise LedgerError(
                f"{label} is the label of a serial number that the ledger {path} does not know: restore the newest "
                "ledger (or remove the label, if it is none of this line's); nothing was done"
            )


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


def _replay(path: Path, data: bytes) -> _State:
    state = _State()
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            entry = json.loads(line)
            if entry["last"] != state.heads[-1]:
                raise ValueError("the line before it was changed or is missing")
            _apply(state, entry, line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LedgerError(
                f"{path}:{number} is damaged ({error}): restore the ledger from a backup; nothing was done"
            ) from None
    return state


def _apply(state: _State, entry: dict[str, Any], line: bytes) -> None:
    pieces, serial, event = state.pieces, entry["serial"], entry["event"]
    if event == BEGUN:
        pieces[serial] = Piece(serial, entry["id"], frozenset(entry["known"]))
        state.ever.add(serial)
    elif event == SIGNED:
        pieces[serial].certificate, pieces[serial].fingerprint = entry["certificate"], entry["fingerprint"]
    elif event == LOCKING:
        pieces[serial].locking = True
    elif event == DONE:
        pieces[serial].done = True
    elif event == VOID:
        del pieces[serial]
    elif event != FAILED:
        raise ValueError(f"unknown event {event!r}")
    state.heads.append(hashlib.sha256(line).hexdigest())
