"""`kobler lock` and `kobler unlock`: a unit's console, shut and opened again (docs/security.md)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError

Port = Annotated[str | None, typer.Option("--port", help="Serial port, or rfc2217://HOST:PORT of a virtual board.")]


def lock(
    port: Port = None,
    owner_key: Annotated[
        Path | None,
        typer.Option("--owner-key", help="Key (PEM, public or private) whose tokens open it; else the last one's."),
    ] = None,
) -> None:
    """Shut the console of a unit: from now on only its button or a token of its owner's opens it."""
    from .cli import only_port
    from .lock import owner_of
    from .steps import Lock, at

    owner = owner_of(owner_key) if owner_key else None
    with at(port or only_port(), _tell, lock=Lock(owner)) as unit:
        unit.lock(owner)
        _tell(f"unit {unit.id} is locked")


def unlock(
    port: Port = None,
    token: Annotated[
        str | None, typer.Option("--token", help="A token for this unit's console (compact JWS), or - to read it.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The owner's private key (PEM), to make one with.")] = None,
    unit_id: Annotated[str | None, typer.Option("--id", help="The unit that it must be.")] = None,
) -> None:
    """Open the console of a locked unit, until it is locked again. The unit restarts."""
    from .cli import only_port
    from .lock import open_console

    if (token is None) == (key is None):
        raise UsageError("give --token or --key")
    if token is not None:
        token = (sys.stdin.readline() if token == "-" else token).strip()
        if not token or not token.isascii() or not token.isprintable():
            raise UsageError("--token: that is no compact JWS")
    found = open_console(port or only_port(), token, key, unit_id and unit_id.lower(), _tell)
    _tell(f"unit {found} is unlocked and restarts")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
