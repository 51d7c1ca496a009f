"""`kobler sim`: virtual boards without hardware."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Virtual boards that esptool and mpremote take for real ones.", no_args_is_help=True)


class Runtime(StrEnum):
    micropython = "micropython"
    cpython = "cpython"


@app.callback()
def _group() -> None:
    pass


@app.command()
def run(
    flash: Annotated[Path | None, typer.Option(help="Start from this flash image instead of a fresh build.")] = None,
    usb: Annotated[int, typer.Option(min=0, max=65535, help="TCP port of the USB port; 0: any free one.")] = 0,
    rs485: Annotated[
        Path | None, typer.Option(help="No demonstration devices; the bus's far end is a pty at this path.")
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help="What runs the firmware.")] = Runtime.micropython,
    board: Annotated[str | None, typer.Option(help="A board's name or file.", show_default="virtual")] = None,
    heap: Annotated[int | None, typer.Option(min=16384, help="Bytes of heap free for the firmware.")] = None,
    chip_time: Annotated[bool, typer.Option(help="The chip's 10 ms ticks.")] = True,
    state: Annotated[Path, typer.Option(help="Where builds and flash images are kept.")] = Path(".kobler"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")] = False,
) -> None:
    """Run one virtual board in the foreground, until Ctrl-C."""
    from kobler.sim.run import Options, run_board

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    run_board(
        Options(
            flash=flash,
            usb=usb,
            rs485=rs485,
            runtime=runtime.value,
            board=board,
            heap=heap,
            chip_time=chip_time,
            state=state,
            as_json=as_json,
        )
    )
