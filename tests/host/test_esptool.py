"""The unmodified esptool takes the virtual board for a real one: ROM and stub, both chips, errors included.

Most calls go through Kobler's quick RFC 2217 client, which changes no byte of esptool or of what it sends; the last
test runs pyserial's own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_board import Done, RunningBoard

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name)")

CHIPS = {"esp32": 4 << 20, "esp32s3": 16 << 20}
MODES = {"stub": (), "rom": ("--no-stub",)}


@pytest.fixture
def esp32(tmp_path):
    with RunningBoard(tmp_path / "flash.bin") as running:
        yield running


def on_every_board(tmp_path: Path, check: Callable[[RunningBoard, tuple[str, ...], Path], None]) -> None:
    """Both chips, with and without the stub, all at the same time: esptool sleeps most of its time away."""

    def go(chip: str, mode: str) -> None:
        folder = tmp_path / f"{chip}-{mode}"
        folder.mkdir()
        with RunningBoard(folder / "flash.bin", chip, CHIPS[chip]) as board:
            check(board, MODES[mode], folder)

    with ThreadPoolExecutor() as pool:
        runs = {(chip, mode): pool.submit(go, chip, mode) for chip in CHIPS for mode in MODES}
    for (chip, mode), run in runs.items():
        try:
            run.result()
        except Exception as error:
            raise AssertionError(f"{chip}, {mode}: {error}") from error


def chip_of(board: RunningBoard) -> str:
    return board.board.chip.name


def fill(board: RunningBoard, offset: int, data: bytes) -> None:
    async def program() -> None:
        board.board.flash.program(offset, data)

    board.do(program())


def mac_text(board: RunningBoard) -> str:
    return board.board.mac.hex(":")


DATA = bytes(range(256)) * 12


def compare_clients(folder: Path) -> dict[str, tuple[str, bytes, bytes]]:
    """What three calls said, what they sent to the chip, and what then lay in flash at 0x10000."""
    (folder / "data").write_bytes(DATA)

    def go(name: str, chip: str, *arguments: object, stock: bool = True) -> tuple[str, bytes, bytes]:
        with RunningBoard(folder / f"{name}.bin", chip, CHIPS[chip]) as board:
            parts = record(board)
            text = board.esptool(*arguments, stock=stock).ok()
            assert mac_text(board) in text
            return text, b"".join(parts), board.board.flash.read(0x10000, len(DATA))

    with ThreadPoolExecutor() as pool:
        runs = {
            "stub": pool.submit(go, "stub", "esp32", "write-flash", 0x10000, folder / "data"),
            "rom": pool.submit(go, "rom", "esp32s3", "--no-stub", "flash-id"),
            "quick": pool.submit(go, "quick", "esp32s3", "--no-stub", "flash-id", stock=False),
        }
        return {name: run.result() for name, run in runs.items()}


@pytest.fixture(scope="module", autouse=True)
def stock_runs(request, tmp_path_factory):
    """pyserial's own client makes esptool slow: let it run beside the other tests, if its test runs at all."""
    if not any(item.name == "test_stock_esptool_over_stock_pyserial" for item in request.session.items):
        yield None
        return
    with ThreadPoolExecutor() as pool:
        yield pool.submit(compare_clients, tmp_path_factory.mktemp("stock"))


def record(board: RunningBoard) -> list[bytes]:
    """What reaches the boot ROM from now on."""
    loader = board.board._loader
    feed = loader.feed
    parts: list[bytes] = []

    def listen(data: bytes) -> None:
        parts.append(data)
        feed(data)

    loader.feed = listen  # type: ignore[method-assign]
    return parts


def test_it_recognises_chip_flash_and_address(tmp_path):
    names = {"esp32": "ESP32-D0WD-V3 (revision v3.1)", "esp32s3": "ESP32-S3 (QFN56) (revision v0.2)"}

    def check(board: RunningBoard, mode: tuple[str, ...], folder: Path) -> None:
        text = board.esptool(*mode, "chip-id").ok()
        assert names[chip_of(board)] in text
        assert "Crystal frequency:  40MHz" in text
        assert mac_text(board) in text
        assert ("Stub flasher running." in text) is not bool(mode)
        text = board.esptool(*mode, "flash-id").ok()
        assert "Manufacturer: ef" in text
        assert f"Detected flash size: {CHIPS[chip_of(board)] >> 20}MB" in text
        assert mac_text(board) in board.esptool(*mode, "read-mac").ok()

    on_every_board(tmp_path, check)


def test_it_writes_verifies_and_reads_back(tmp_path):
    """Half of it incompressible, over something else, two files at once, at a higher rate."""
    data = os.urandom(5000) + bytes(4000)

    def check(board: RunningBoard, mode: tuple[str, ...], folder: Path) -> None:
        a, b, out = folder / "a", folder / "b", folder / "out"
        a.write_bytes(data)
        b.write_bytes(b"second")
        fill(board, 0x10000, b"\x5a" * 0x3000)
        fill(board, 0x13000, b"kept")
        text = board.esptool(*mode, "--baud", 921600, "write-flash", 0x10000, a, 0x20000, b).ok()
        assert text.count("Hash of data verified.") == 2
        flash = board.board.flash
        assert flash.read(0x10000, 0x3000) == data.ljust(0x3000, b"\xff")
        assert flash.read(0x13000, 4) == b"kept"
        assert flash.read(0x20000, 6) == b"second"
        board.esptool(*mode, "read-flash", 0x10001, 2100, out).ok()
        assert out.read_bytes() == data[1:2101]
        verify = (*mode, "verify-flash", 0x10000, a)
        assert "Verification successful" in board.esptool(*verify).ok()
        a.write_bytes(data[:100] + b"\x00\x01" + data[102:])
        assert "Verification failed" in board.esptool(*verify).failed()

    on_every_board(tmp_path, check)


@pytest.mark.parametrize("mode", MODES)
def test_it_writes_without_compression(esp32, tmp_path, mode):
    """The last block is padded: what lies behind the file's sector stays."""
    data = bytes(range(256)) * 33
    (tmp_path / "data").write_bytes(data)
    fill(esp32, 0x10000, bytes(0x4000))
    esp32.esptool(*MODES[mode], "write-flash", "--no-compress", 0x10000, tmp_path / "data").ok()
    assert esp32.board.flash.read(0x10000, 0x4000) == data.ljust(0x3000, b"\xff") + bytes(0x1000)


def test_it_erases_a_region_and_everything(tmp_path):
    def check(board: RunningBoard, mode: tuple[str, ...], folder: Path) -> None:
        flash = board.board.flash
        fill(board, 0x1F000, b"a" * 0x4000)
        fill(board, flash.size - 4, b"last")
        board.esptool(*mode, "erase-region", 0x20000, 0x2000).ok()
        assert flash.read(0x1F000, 0x4000) == b"a" * 0x1000 + b"\xff" * 0x2000 + b"a" * 0x1000
        if not mode:
            board.esptool("erase-flash").ok()
            assert flash.read(0, flash.size) == b"\xff" * flash.size
        else:
            assert "ROM does not support function erase_flash" in board.esptool(*mode, "erase-flash").failed()

    on_every_board(tmp_path, check)


@pytest.mark.parametrize("baud", [9600, 2000000])
def test_any_baud_rate_will_do(esp32, tmp_path, baud):
    data = os.urandom(2000)
    (tmp_path / "data").write_bytes(data)
    text = esp32.esptool("--baud", baud, "write-flash", 0x3000, tmp_path / "data").ok()
    assert (f"Changing baud rate to {baud}" in text) is (baud > 115200)
    assert esp32.board.flash.read(0x3000, 2000) == data


def test_the_stub_can_be_left_running_and_found_again(esp32):
    esp32.esptool("--after", "no-reset-stub", "chip-id").ok()
    assert "Stub flasher is already running" in esp32.esptool("--before", "no-reset", "flash-id").ok()
    esp32.esptool("--after", "no-reset", "chip-id").ok()
    text = esp32.esptool("--before", "no-reset", "flash-id").ok()
    assert "Running stub flasher" in text, "after no-reset it was the ROM again"


def test_the_wrong_chip_is_refused_by_name(tmp_path):
    with RunningBoard(tmp_path / "a") as esp32, RunningBoard(tmp_path / "b", "esp32s3", 8 << 20) as s3:
        assert "This chip is ESP32, not ESP32-S3" in esp32.esptool("--chip", "esp32s3", "chip-id").failed()
        assert "This chip is ESP32-S3, not ESP32" in s3.esptool("--chip", "esp32", "chip-id").failed()


@pytest.mark.parametrize("mode", MODES)
def test_an_image_that_does_not_fit_is_refused(esp32, tmp_path, mode):
    (tmp_path / "data").write_bytes(bytes(0x2000))
    text = esp32.esptool(*MODES[mode], "write-flash", 0x3FF000, tmp_path / "data").failed()
    assert "will not fit in 4194304 bytes of flash" in text
    assert esp32.board.flash.operations == 0


def impatient(board: RunningBoard, tmp_path, *arguments: object) -> Done:
    """esptool told by its own configuration file to look for a lost port twice, not for seven seconds."""
    (tmp_path / "esptool.cfg").write_text("[esptool]\nconnect_attempts = 2\n")
    return board.esptool(*arguments, environment={"ESPTOOL_CFGFILE": str(tmp_path / "esptool.cfg")})


def during_write(board: RunningBoard, tmp_path, then) -> str:
    """Start a long write, do `then` in the middle of it, and return what esptool says of it."""
    (tmp_path / "data").write_bytes(os.urandom(3 << 20))
    before = board.board.flash.operations
    result: list[str] = []
    call = ("write-flash", 0x10000, tmp_path / "data")
    writer = threading.Thread(target=lambda: result.append(impatient(board, tmp_path, *call).failed()))
    writer.start()
    deadline = time.monotonic() + 20
    while board.board.flash.operations < before + 500 and time.monotonic() < deadline:
        time.sleep(0.01)
    board.do(then())
    writer.join(60)
    return result[0]


def test_a_cable_pulled_in_the_middle_is_esptools_own_error(esp32, tmp_path):
    text = during_write(esp32, tmp_path, esp32.board.usb.unplug)
    assert "Lost connection, retrying..." in text
    assert "Could not open port" in text
    esp32.do(esp32.board.usb.plug())
    esp32.esptool("chip-id").ok()


def test_a_power_cut_in_the_middle_leaves_what_was_written(esp32, tmp_path):
    esp32.board.cut_power_after(700)
    (tmp_path / "data").write_bytes(os.urandom(1 << 20))
    text = impatient(esp32, tmp_path, "write-flash", 0x10000, tmp_path / "data").failed()
    assert "Lost connection" in text
    assert esp32.board.flash.operations == 700
    pages = b"".join((tmp_path / "data").read_bytes()[at : at + 256] for at in range(0, 600 * 256, 256))
    assert esp32.board.flash.read(0x10000, len(pages)) == pages
    esp32.do(esp32.board.power_on())
    esp32.esptool("write-flash", 0x10000, tmp_path / "data").ok()


def test_a_second_program_is_told_that_the_port_is_busy(esp32):
    import serial

    with serial.serial_for_url(esp32.url):
        assert "the port is busy or doesn't exist" in esp32.esptool("chip-id").failed()
    esp32.esptool("chip-id").ok()


def test_stock_esptool_over_stock_pyserial(stock_runs):
    """Default options, as a person types them: no chip named, no baud rate, reset by DTR and RTS.

    And what Kobler's quick client leaves out is waiting and repeated settings, nothing that reaches the chip.
    """
    runs = stock_runs.result(100)
    text, _, written = runs["stub"]
    assert "Hash of data verified." in text
    assert written == DATA
    assert "Detected flash size: 16MB" in runs["rom"][0]
    assert runs["rom"][1].count(b"\xc0") > 50
    assert runs["rom"][1] == runs["quick"][1]


def test_the_watchdog_restarts_the_chip_once_esptool_has_said_its_last_word(tmp_path):
    with RunningBoard(tmp_path / "flash.bin", "esp32s3", CHIPS["esp32s3"]) as board:
        resets = board.board.resets
        assert "Hard resetting with a watchdog" in board.esptool("--after", "watchdog-reset", "chip-id").ok()
        assert board.board.resets >= resets + 2  # into the loader, and out of it
