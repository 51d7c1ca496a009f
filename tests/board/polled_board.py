"""A virtual board in a process of its own, with a meter on its bus that notes when it is polled.

usage: polled_board.py IMAGE_FOLDER HEAP
Builds the firmware, powers the board, prints {"usb", "device"}; then answers each line on its input with one of JSON:
`polls`: what the meter noted since the last time, [s by CLOCK_MONOTONIC, address]; `console`: what the unit printed
since; `resets`: how often it came out of reset; `first` and `fair`: from now on it runs before all other programs of
this computer, or as they do.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from kobler.boards import load
from kobler.build import build
from kobler.rtu_frame import sealed
from kobler.sim.board import Board
from kobler.sim.rs485 import Bus
from kobler.sim.rs485_format import Format
from kobler.sim.run import transceiver, write


class Console(Board):
    """Keeps what it says to the USB port."""

    said = b""

    def send(self, data: bytes) -> None:
        self.said += data
        super().send(data)


class Meter:
    """Answers every read with one register, which changes each second; t is when the request's last bit was out."""

    name = "meter"
    turnaround = 0.005

    def __init__(self) -> None:
        self.polls: list[tuple[float, int]] = []

    def answer(self, frame: bytes, t: float) -> bytes | None:
        if len(frame) != 8 or frame[0] != 1:
            return None
        self.polls.append((t, int.from_bytes(frame[2:4], "big")))
        return sealed(bytes((1, frame[1], 2)) + (int(t) & 0xFFFF).to_bytes(2, "big"))


async def main(folder: Path, heap: int) -> None:
    model, bus, meter = load("virtual"), Bus(), Meter()
    bus.attach(meter, Format(19200))
    rs485 = transceiver(model, bus)
    board = Console(folder / "flash.bin", model.chip, model.flash_size, rs485=rs485, heap=heap)
    try:
        write(build(model, folder / "build"), board.flash)
        await board.start()
        tell({"usb": board.usb_url, "device": board.mac.hex()})
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():  # its end: whoever started us is gone
            tell(answer(line.decode().strip(), board, meter))
    finally:
        await board.stop()
        bus.close()


def schedule(pid: int, first: bool) -> None:
    """Let a process run before all others, where this computer's user may ask for it: a chip has one program, and what
    others do here is to be seen in no figure of its bus."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR if first else os.SCHED_OTHER, os.sched_param(int(first)))
    except (AttributeError, OSError):
        pass  # then the figures are this computer's, too


def answer(asked: str, board: Console, meter: Meter) -> Any:
    if asked == "polls":
        polls, meter.polls = meter.polls, []
        return polls
    if asked == "console":
        said, board.said = board.said, b""
        return said.decode(errors="replace")
    if asked in ("first", "fair"):
        for pid in (os.getpid(), board.processor.pid):
            if pid is not None:
                schedule(pid, first=asked == "first")
        return None
    assert asked == "resets", asked
    return board.resets


def tell(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
