"""A virtual board that runs beside a test, at whose serial port the test provisions as a user does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kobler.build import Build
from kobler.provision.cli import provision as command
from kobler.sim.board import Board
from kobler.sim.flash import Flash
from littlefs import LittleFS
from typer import Typer
from typer.testing import CliRunner

SIZE = 4 << 20
SITE = """
[device]
name = "test"
[network]
kind = "ethernet"
address = "dhcp"
"""
IDENTITY = ("ca.der", "cert.der", "config.json", "identity", "key.der")


class Unit:
    """A virtual board that runs beside the test, which blocks as `kobler provision` does."""

    def __init__(self, path: Path, built: Build) -> None:
        self.vfs = next(part for part in built.layout if part.name == "vfs")
        flash = Flash(path, SIZE)
        for offset, file in built.regions:
            flash.program(offset, file.read_bytes())
        flash.close()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.board = self.run(self._start(path))
        self.wire = bytearray()
        write, feed = self.board.usb.write, self.board.processor.write
        self.board.usb.write = lambda data: (self.wire.extend(data), write(data))[1]  # type: ignore[method-assign]
        self.board.processor.write = lambda data: (self.wire.extend(data), feed(data))[1]  # type: ignore[method-assign]

    async def _start(self, path: Path) -> Board:
        board = Board(path, flash_size=SIZE)
        await board.start()
        return board

    def run(self, task: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(30)

    def cut_power_after(self, operations: int) -> None:
        async def arm() -> None:
            self.board.cut_power_after(operations)

        self.run(arm())

    def files(self) -> dict[str, bytes]:
        """/etc as a foreign littlefs finds it in the flash."""
        fs = self.volume()
        found = {}
        for name in fs.listdir("/etc") if "etc" in fs.listdir("/") else []:
            with fs.open("/etc/" + name, "rb") as file:
                found[name] = file.read()
        return found

    def replace_files(self, image: bytes) -> None:
        """Another file system, put there while the board has no power."""

        async def replace() -> None:
            await self.board.power_off()
            self.board.flash.power(True)
            self.board.flash.erase(self.vfs.offset, self.vfs.size)
            self.board.flash.program(self.vfs.offset, image)
            await self.board.power_on()

        self.run(replace())

    def volume(self) -> LittleFS:
        """The files in the flash as they are now; a copy of them."""
        fs = LittleFS(block_size=4096, block_count=self.vfs.size // 4096, mount=False)
        fs.context.buffer = bytearray(self.board.flash.read(self.vfs.offset, self.vfs.size))
        fs.mount()
        return fs

    def said_since(self, start: int, text: bytes) -> None:
        limit = time.monotonic() + 15
        while text not in self.wire[start:]:
            assert time.monotonic() < limit, bytes(self.wire[start:])
            time.sleep(0.05)

    def close(self) -> None:
        self.run(self.board.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def unit(path: Path, built: Build) -> Iterator[Unit]:
    it = Unit(path, built)
    try:
        yield it
    finally:
        it.close()


def private_key(der: bytes) -> ec.EllipticCurvePrivateKey:
    # OpenSSL's DER reader takes SEC 1's ECPrivateKey as it is
    key = serialization.load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def invoke(*arguments: str) -> Any:
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))
