"""One virtual board in the foreground: what `kobler sim run` does."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kobler import boards
from kobler.build import Build, build
from kobler.errors import KoblerError
from kobler.sim import identity
from kobler.sim.board import Board, Rs485
from kobler.sim.flash import SECTOR, Flash
from kobler.sim.interpreter import micropython
from kobler.sim.rs485 import Bus

DEFAULT_BOARD = "virtual"


@dataclass(frozen=True)
class Options:
    flash: Path | None
    usb: int
    rs485: Path | None
    runtime: Literal["micropython", "cpython"]
    board: str | None
    heap: int | None
    chip_time: bool
    state: Path
    as_json: bool


def run_board(options: Options) -> None:
    """Until Ctrl-C or SIGTERM; then nothing of it is left but the flash image."""
    model = boards.load(options.board or DEFAULT_BOARD)
    chip, size = model.chip, model.flash_size
    if options.runtime == "micropython":
        micropython()
    if options.flash is None:
        image = options.state / "sim" / model.name / "flash.bin"
        try:
            image.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KoblerError(f"cannot make {image.parent}: {error.strerror}; name another: --state") from None
    else:
        image = options.flash
        if not image.is_file():
            raise KoblerError(f"{image}: there is no such flash image; leave --flash away to build one")
        known = identity.load(image)
        if known is not None and options.board is None:
            chip, size = _chip(known.chip), known.flash_size
    asyncio.run(_serve(options, model, chip, size, image))


def transceiver(model: boards.Board, bus: Bus) -> Rs485:
    """A board's RS-485 wiring, on this bus."""
    wiring = model.rs485
    return Rs485(bus, wiring.uart, wiring.de, bool(wiring.echo), tuple(wiring.enable))


def write(made: Build, flash: Flash) -> None:
    """Put a build into a flash, as esptool would: whole sectors, and only those that differ."""
    for offset, path in made.regions:
        data = path.read_bytes()
        for at in range(0, len(data), SECTOR):
            wanted = data[at : at + SECTOR].ljust(SECTOR, b"\xff")
            if flash.read(offset + at, SECTOR) != wanted:
                flash.erase(offset + at, SECTOR)
                flash.program(offset + at, wanted)


def _chip(name: str) -> Literal["esp32", "esp32s3"]:
    return "esp32s3" if name == "esp32s3" else "esp32"


def _build(options: Options, model: boards.Board, folder: Path) -> Build:
    return build(
        # The virtual chip runs the host's interpreter: no need to download the real one's.
        model.model_copy(update={"image": None}),
        folder,
        progress=lambda text: print(text, file=sys.stderr),
        cache=options.state / "cache",
    )


async def _serve(
    options: Options,
    model: boards.Board,
    chip: Literal["esp32", "esp32s3"],
    size: int,
    image: Path,
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    bus = Bus()
    board = Board(
        image,
        chip,
        size,
        rs485=transceiver(model, bus),
        heap=options.heap,
        runtime=options.runtime,
        chip_time=options.chip_time,
        usb_port=options.usb,
    )
    try:
        _furnish(bus, options.rs485)
        if options.flash is None:  # last: what else can be wrong has been told by now
            write(_build(options, model, image.parent / "build"), board.flash)
        await board.start()
        _announce(board, options)
        await ended.wait()
    finally:
        await board.stop()
        bus.close()


def _furnish(bus: Bus, pty: Path | None) -> None:
    if pty is not None:
        bus.attach_pty(pty)
        return
    from kobler.sim.devices import demonstration

    for device in demonstration():
        bus.attach(device)


def _announce(board: Board, options: Options) -> None:
    if options.as_json:
        event = {
            "event": "powered",
            "usb": board.usb_url,
            "device": board.mac.hex(),
            "flash": str(board.flash.path.absolute()),
        }
        print(json.dumps(event), flush=True)
        return
    print(f"USB     {board.usb_url}")
    print(f"flash   {board.flash.path}")
    if options.rs485 is not None:
        print(f"RS-485  {options.rs485}")
    # Not mpremote's repl: it waits on a file descriptor, which pyserial's network ports do not have.
    print(f"Try:    mpremote connect {board.usb_url} fs ls")
    print(f"REPL:   pyserial-miniterm {board.usb_url} 115200      Ctrl-C here ends the board.", flush=True)
