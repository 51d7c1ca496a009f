"""The state folder: one run at a time, and a file that tells other programs where the running one is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import KoblerError

ENDPOINT = "endpoint.json"
_LOCK = "lock"


@contextmanager
def locked(state: Path) -> Iterator[Path]:
    """Make the folder if need be and hold it alone. The lock goes with the process, however it ends."""
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KoblerError(f"cannot make the state folder {state}: {error.strerror}; name another: --state") from None
    connection = None
    try:
        try:
            # SQLite's lock is the portable one: fcntl and msvcrt each know one half of the world.
            connection = sqlite3.connect(state / _LOCK, timeout=0, isolation_level=None, check_same_thread=False)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            reason = "another kobler runs there" if "locked" in str(error) else str(error)
            raise KoblerError(
                f"the state folder {state} cannot be used: {reason}; stop it or name another: --state"
            ) from None
        try:
            (state / ENDPOINT).unlink(missing_ok=True)  # of a run that was killed
        except OSError as error:
            raise KoblerError(f"cannot remove {state / ENDPOINT}: {error.strerror}; remove it yourself") from None
        yield state
    finally:
        if connection is not None:
            connection.close()


def _held(state: Path) -> bool:
    """Whether somebody has the folder locked."""
    try:
        connection = sqlite3.connect(f"{(state / _LOCK).absolute().as_uri()}?mode=ro", timeout=0, uri=True)
    except sqlite3.Error:
        return False
    try:
        connection.execute("SELECT * FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        return "locked" in str(error)
    finally:
        connection.close()
    return False


@contextmanager
def endpoint(state: Path, **where: Any) -> Iterator[None]:
    """Keep STATE/endpoint.json while the block runs."""
    path = state / ENDPOINT
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(where, indent=1) + "\n")
        new.replace(path)
    except OSError as error:
        raise KoblerError(f"cannot write {new}: {error.strerror}; make it writable or name another: --state") from None
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def read_endpoint(state: Path) -> dict[str, Any]:
    """What a running `kobler up` says about itself. Raises KoblerError when none runs."""
    path = state / ENDPOINT
    try:
        if not _held(state):
            raise FileNotFoundError
        found = json.loads(path.read_text())
        if not (isinstance(found, dict) and isinstance(found.get("broker"), str)):
            raise ValueError("no broker in it")
    except FileNotFoundError:
        raise KoblerError(f"nothing runs on {state}: start ./flash.sh, or name its folder with --state") from None
    except (OSError, ValueError) as error:
        raise KoblerError(f"{path} cannot be read ({error}); remove it and start ./flash.sh again") from None
    return found
