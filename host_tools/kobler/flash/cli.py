"""`kobler flash`: write a finished build into a board."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from ..build.cli import STATE, BoardName, Json, State, folder_of


def flash(
    board: BoardName,
    port: Annotated[str, typer.Option("--port", help="The serial port (or a pyserial URL) of the board.")],
    baud: Annotated[int, typer.Option("--baud", min=9600, help="Speed of the transfer.")] = 921600,
    erase: Annotated[bool, typer.Option("--erase", help="Erase all first: counters and records go too.")] = False,
    state: State = STATE,
    as_json: Json = False,
) -> None:
    """Write what `kobler build` made, in one esptool call. Counters and the journal stay, unless --erase."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from .. import boards
    from ..build import Build
    from . import flash as write

    chosen = boards.load(board)
    done = Build.load(folder_of(Path(state), chosen.name))
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("connecting", total=1.0)

        def show(fraction: float, what: str) -> None:
            bar.update(task, completed=fraction, description=what)

        write(done, port, baud, show, erase=erase)
    seconds = round(time.monotonic() - started, 1)
    written = sum(region.size for region in done.contents.regions)
    if as_json:
        print(
            json.dumps({"event": "flashed", "board": chosen.name, "port": port, "bytes": written, "seconds": seconds})
        )
    else:
        print(f"{chosen.name} at {port}: {written:,} bytes written and verified in {seconds} s")
