"""A guest on a small flash image, with its serial line in the test's hands or on a pty for other programs."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kobler.sim import link as messages
from kobler.sim.flash import Flash
from kobler.sim.guest import Cause, Guest, GuestOptions
from kobler.sim.partitions import Partition
from littlefs import LittleFS

SIZE = 4 << 20
VFS = Partition("vfs", 1, 0x83, 0x200000, 0x40000)
TABLE = [
    Partition("nvs", 1, 2, 0x9000, 0x6000),
    Partition("factory", 0, 0, 0x10000, 0x1F0000),
    VFS,
    Partition("journal", 1, 0x40, 0x300000, 0x10000),
]
OTA_TABLE = [
    Partition("nvs", 1, 2, 0x9000, 0x4000),
    Partition("otadata", 1, 0, 0xD000, 0x2000),
    Partition("ota_0", 0, 0x10, 0x10000, 0x180000),
    Partition("ota_1", 0, 0x11, 0x190000, 0x180000),
    Partition("vfs", 1, 0x83, 0x310000, 0x40000),
]
PROMPT = b"\r\n>>> "
BANNER = b'\r\nType "help()" for more information.\r\n>>> '


def vfs_image(files: dict[str, str | bytes], size: int = VFS.size) -> bytes:
    fs = LittleFS(block_size=4096, block_count=size // 4096, disk_version=0x20000)
    for name, content in files.items():
        with fs.open(name, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
    return bytes(fs.context.buffer)


def vfs_files(flash: Flash) -> dict[str, bytes]:
    """What a foreign littlefs finds on the image."""
    fs = LittleFS(block_size=4096, block_count=VFS.size // 4096, mount=False)
    fs.context.buffer = bytearray(flash.read(VFS.offset, VFS.size))
    fs.mount()
    found = {}
    for name in fs.listdir("/"):
        if fs.stat("/" + name).type != 2:
            with fs.open(name, "rb") as f:
                found[name] = f.read()
    return found


class Rig:
    """The guest, what it said, and the resets that it asked for, which are carried out as a board does."""

    def __init__(self, flash: Flash, options: GuestOptions, table: list[Partition]) -> None:
        self.flash = flash
        self.guest = Guest(flash, table, options)
        self.said = bytearray()
        self.resets: list[bytes] = []
        self.exits: list[int] = []
        self._seen = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.guest.on_output(self._output)
        self.guest.on_exit(self.exits.append)
        self.guest.link.on(messages.RESET, self._reset)

    def _output(self, data: bytes) -> None:
        self.said += data
        self._seen.set()

    def _reset(self, payload: bytes) -> None:
        self.resets.append(payload)
        self._tasks.append(asyncio.create_task(self.guest.start(payload[0])))

    async def until(self, text: bytes, timeout: float = 10) -> bytes:
        """What is said up to and with `text`; it is taken away."""
        try:
            async with asyncio.timeout(timeout):
                while text not in self.said:
                    self._seen.clear()
                    await self._seen.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} does not come; so far: {bytes(self.said)!r}") from None
        end = self.said.index(text) + len(text)
        data = bytes(self.said[:end])
        del self.said[:end]
        return data

    async def line(self, text: str, timeout: float = 10) -> str:
        """Type a line at the friendly REPL; what is printed up to the next prompt."""
        self.guest.write(text.encode() + b"\r")
        await self.until(text.encode() + b"\r\n")
        said = await self.until(b">>> ", timeout)
        return said[: -len(b">>> ")].decode().strip()

    async def execute(self, program: str, timeout: float = 20) -> str:
        """Run a program through the raw REPL; what it prints. AssertionError with its traceback if it raises."""
        self.guest.write(b"\r\x01")
        await self.until(b"raw REPL; CTRL-B to exit\r\n>")
        self.guest.write(program.encode() + b"\x04")
        await self.until(b"OK")
        out = (await self.until(b"\x04", timeout))[:-1]
        error = (await self.until(b"\x04"))[:-1]
        assert not error, error.decode()
        self.guest.write(b"\x02")
        await self.until(b">>> ")
        return out.decode().replace("\r\n", "\n")


@asynccontextmanager
async def rig(
    folder: Path,
    files: dict[str, str | bytes] | None = None,
    options: GuestOptions | None = None,
    table: list[Partition] | None = None,
) -> AsyncIterator[Rig]:
    """A started guest; with `files` its file system is made by littlefs-python, else the flash is blank."""
    flash = Flash(folder / "flash.bin", SIZE)
    if files is not None:
        flash.program(VFS.offset, vfs_image(files))
    it = Rig(flash, options or GuestOptions(), table or TABLE)
    await it.guest.start(Cause.POWER_ON)
    try:
        yield it
    finally:
        await it.guest.stop()
        flash.close()


@asynccontextmanager
async def serial_port(guest: Guest) -> AsyncIterator[str]:
    """A pty that stands for the board's USB port, for programs such as mpremote."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    loop = asyncio.get_running_loop()
    guest.on_output(lambda data: _write_all(master, data))
    loop.add_reader(master, lambda: guest.write(os.read(master, 4096)))
    try:
        yield os.ttyname(slave)
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def mpremote(port: str, *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """Run the unmodified mpremote: exit status and what it printed."""
    program = Path(sys.executable).parent / "mpremote"
    process = await asyncio.create_subprocess_exec(
        str(program),
        "connect",
        port,
        *arguments,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise AssertionError(f"mpremote {' '.join(arguments)} does not end") from None
    return process.returncode or 0, said.decode().replace("\r\n", "\n")
