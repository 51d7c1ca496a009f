"""Flashing with the unmodified esptool: the virtual board over RFC 2217, and everything that can go wrong before it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kobler import boards
from kobler.build import Build, build
from kobler.errors import KoblerError
from kobler.flash import flash
from kobler.flash.cli import flash as command
from kobler.flash.writer import command as command_line
from typer import Typer
from typer.testing import CliRunner

posix = pytest.mark.skipif(os.name != "posix", reason="the virtual board runs on POSIX systems")


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(boards.load("virtual"), tmp_path_factory.mktemp("state") / "build" / "virtual")


class Powered:
    """A virtual board that runs in a thread of its own while the test waits for esptool."""

    def __init__(self, image: Path, chip: str = "esp32", size: int = 4 << 20) -> None:
        from kobler.sim.board import Board

        self.image = image
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

        async def start() -> Board:
            board = Board(image, chip, size)
            await board.start()
            return board

        self.board = asyncio.run_coroutine_threadsafe(start(), self.loop).result(30)
        self.url = self.board.usb_url

    def content(self, offset: int, size: int) -> bytes:
        with self.image.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.board.stop(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


JOURNAL, NVS = 0x300000, 0x9000


@pytest.fixture
def powered(tmp_path: Path) -> Iterator[Powered]:
    """A board whose journal and counters hold something."""
    image = tmp_path / "flash.bin"
    content = bytearray(b"\xff" * (4 << 20))
    content[JOURNAL : JOURNAL + 7] = b"records"
    content[NVS : NVS + 8] = b"counters"
    image.write_bytes(content)
    board = Powered(image)
    yield board
    board.stop()


@posix
def test_the_flash_holds_what_was_built_and_the_journal_what_it_held(virtual: Build, powered: Powered) -> None:
    heard: list[tuple[float, str]] = []
    started = time.monotonic()
    flash(virtual, powered.url, progress=lambda fraction, what: heard.append((fraction, what)))
    # Without the shortcut for read timeouts it takes half a minute.
    assert time.monotonic() - started < 15
    for offset, path in virtual.regions:
        assert powered.content(offset, path.stat().st_size) == path.read_bytes(), path.name
    assert powered.content(JOURNAL, 7) == b"records"
    assert powered.content(NVS, 8) == b"counters"
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert {"writing bootloader", "writing vfs"} <= {what for _, what in heard}


@posix
def test_erase_takes_the_journal_too(virtual: Build, powered: Powered) -> None:
    flash(virtual, powered.url, erase=True)
    offset, path = virtual.regions[0]
    assert powered.content(offset, path.stat().st_size) == path.read_bytes()
    assert powered.content(JOURNAL, 7) == powered.content(NVS, 7) == b"\xff" * 7


@posix
def test_esptool_verifies_the_flash(virtual: Build, powered: Powered) -> None:
    flash(virtual, powered.url)
    (offset, path) = virtual.regions[1]
    # Without the shortcut for read timeouts the same takes 20 s.
    line = [sys.executable, "-m", "kobler.flash.rfc2217", "--chip", "esp32", "--port", powered.url, "--no-stub"]
    line += ["verify-flash", hex(offset), str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100)
    assert "Verification successful" in done.stdout, done.stdout + done.stderr


@posix
def test_a_board_with_another_chip_is_left_alone(virtual: Build, tmp_path: Path) -> None:
    board = Powered(tmp_path / "s3.bin", "esp32s3")
    try:
        with pytest.raises(KoblerError, match=r"esptool: .*ESP32-S3.*; choose the --board that is connected"):
            flash(virtual, board.url)
        assert board.content(0, 4 << 20).strip(b"\xff") == b""
    finally:
        board.stop()


@posix
def test_a_flash_smaller_than_the_boards_file_says_is_named(virtual: Build, tmp_path: Path) -> None:
    board = Powered(tmp_path / "small.bin", "esp32", 2 << 20)
    try:
        with pytest.raises(KoblerError, match=r"esptool: .*; the board's flash is smaller than its file says"):
            flash(virtual, board.url)
        assert board.content(0, 2 << 20).strip(b"\xff") == b""
    finally:
        board.stop()


@posix
def test_a_cable_pulled_in_the_middle_is_one_line(virtual: Build, powered: Powered) -> None:
    def pull(fraction: float, what: str) -> None:
        if what == "writing vfs":
            asyncio.run_coroutine_threadsafe(powered.board.usb.unplug(), powered.loop).result(10)

    with pytest.raises(KoblerError) as caught:
        flash(virtual, powered.url, progress=pull)
    assert "\n" not in str(caught.value)
    assert "esptool" in str(caught.value)


@posix
def test_a_port_in_use_is_named_with_the_remedy(virtual: Build, powered: Powered) -> None:
    with socket.create_connection(("127.0.0.1", int(powered.url.rpartition(":")[2]))) as other:
        other.recv(100)  # by now the port is ours
        with pytest.raises(KoblerError, match=r"^rfc2217://127\.0\.0\.1:\d+: esptool: .*; ") as caught:
            flash(virtual, powered.url)
    assert "\n" not in str(caught.value)
    assert "close other programs" in str(caught.value)


def test_a_port_that_is_not_there_is_named_with_the_remedy(virtual: Build) -> None:
    with pytest.raises(KoblerError, match=r"^/dev/ttyNONE: esptool: .*; plug the board in and name its port") as caught:
        flash(virtual, "/dev/ttyNONE")
    assert "\n" not in str(caught.value)
    with pytest.raises(KoblerError, match=r"Connection refused.*; nothing answers at this address"):
        flash(virtual, "rfc2217://127.0.0.1:1")


@posix
def test_a_port_with_nothing_behind_it_is_named_with_the_remedy(virtual: Build) -> None:
    near, far = os.openpty()
    try:
        with pytest.raises(KoblerError, match=r"esptool: Failed to connect.*; hold BOOT, press RESET"):
            flash(virtual, os.ttyname(far))
    finally:
        os.close(near)
        os.close(far)


def test_esptool_does_not_outlive_an_interruption(virtual: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def remember(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(real(*args, **options))
        return started[-1]

    def interrupt(fraction: float, what: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", remember)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts and says nothing
        with pytest.raises(KeyboardInterrupt):
            flash(virtual, f"rfc2217://127.0.0.1:{silent.getsockname()[1]}", progress=interrupt)
        (process,) = started
        assert process.poll() is not None


def test_esptool_gets_no_passphrase_and_no_pin(virtual: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def refuse(*_: Any, env: dict[str, str], **__: Any) -> None:
        seen.append(env)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("KOBLER_ROOT_PASSPHRASE", "KOBLER_ROOT_PIN", "KOBLER_PKCS11_PIN"):
        monkeypatch.setenv(name, "top secret")
    with pytest.raises(KeyboardInterrupt):
        flash(virtual, "/dev/ttyX")
    assert "top secret" not in seen[0].values() and seen[0]["PATH"] == os.environ["PATH"]


def test_a_serial_port_gets_esptool_itself_in_one_call(virtual: Build) -> None:
    line = command_line(virtual, "COM3", 460800, erase=False)
    assert line[:4] == [sys.executable, "-P", "-m", "esptool"]
    assert line.count("write-flash") == 1
    assert line[line.index("write-flash") + 1 :] == [
        text for offset, path in virtual.regions for text in (hex(offset), str(path))
    ]


@posix
def test_the_command(virtual: Build, powered: Powered) -> None:
    app = Typer()
    app.command()(command)
    state = str(virtual.folder.parents[1])
    options = ["--board", "virtual", "--port", powered.url, "--state", state, "--json"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    event = json.loads(done.stdout)
    assert (event["event"], event["board"]) == ("flashed", "virtual")
    assert event["bytes"] == sum(region.size for region in virtual.contents.regions)
    missing = CliRunner().invoke(app, ["--board", "virtual", "--port", powered.url, "--state", state + "/none"])
    assert isinstance(missing.exception, KoblerError)
    assert "kobler build" in str(missing.exception)
