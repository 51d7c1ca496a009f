"""The process that `kobler up` runs the virtual board in: powered from its first line on standard output
until its standard input ends, which happens however the parent ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import threading
from pathlib import Path

from ..errors import KoblerError


def main() -> None:
    """Parse the command line of `virtual.VirtualBoard`, run, report a KoblerError as the command would."""
    parser = argparse.ArgumentParser(prog="kobler.cloud.board_process")
    parser.add_argument("--board", required=True)
    parser.add_argument("--flash", type=Path, required=True)
    parser.add_argument("--runtime", choices=("micropython", "cpython"), required=True)
    parser.add_argument("--rs485", type=Path)
    asked = parser.parse_args()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        asyncio.run(_run(asked))
    except KoblerError as error:
        print(f"kobler: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


async def _run(asked: argparse.Namespace) -> None:
    from ..boards import load
    from ..sim.board import Board
    from ..sim.devices import demonstration
    from ..sim.rs485 import Bus
    from ..sim.run import transceiver

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    model, bus = load(asked.board), Bus()
    rs485 = transceiver(model, bus)
    board = Board(asked.flash, model.chip, model.flash_size, rs485=rs485, runtime=asked.runtime)
    try:
        if asked.rs485 is not None:
            bus.attach_pty(asked.rs485)
        else:
            for device in demonstration():
                bus.attach(device)
        await board.start()
        print(json.dumps({"usb": board.usb_url, "device": board.mac.hex()}), flush=True)
        threading.Thread(target=_outlive_nobody, args=(loop, ended), daemon=True).start()
        await ended.wait()
    finally:
        await board.stop()
        bus.close()


def _outlive_nobody(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    # read() returns at the end of the pipe: when the parent closes it, or when the system does so for a dead
    # parent.
    sys.stdin.buffer.read()
    loop.call_soon_threadsafe(ended.set)


if __name__ == "__main__":
    main()
