"""The virtual board's USB port, reset lines and power, as host programs meet them."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st
from kobler import boards
from kobler.build import image, table
from kobler.sim.board import State
from kobler.sim.flash import Flash
from kobler.sim.telnet import COM_PORT, DO, IAC, SB, SE, WILL, Telnet
from running_board import RunningBoard, run

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name)")


def bootable(path: Path, name: str = "virtual") -> boards.Board:
    """An image with stand-in programs and a partition table; its file system is still blank."""
    model = boards.load(name)
    bootloader, app = image.stand_in(model)
    flash = Flash(path, model.flash_size)
    flash.program(model.chip_info.bootloader_offset, bootloader.data)
    flash.program(0x8000, table.encode(model.partition))
    flash.program(0x10000, app.data)
    flash.close()
    return model


@pytest.fixture
def running(tmp_path):
    bootable(tmp_path / "flash.bin")
    with RunningBoard(tmp_path / "flash.bin") as board:
        yield board


def read_until(port: serial.Serial, wanted: bytes, seconds: float = 10) -> bytes:
    data = b""
    deadline = time.monotonic() + seconds
    while wanted not in data:
        assert time.monotonic() < deadline, data
        data += port.read(max(1, port.in_waiting))
    return data


def opened(board: RunningBoard, **options: object) -> serial.Serial:
    return serial.serial_for_url(board.url, **{"baudrate": 115200, "timeout": 0.2, **options})


def test_opening_and_closing_the_port_does_not_reset(running):
    """pyserial asserts DTR, then RTS, and mpremote lets them go one after the other."""
    pid = running.board.processor.pid
    for _ in range(2):
        with opened(running) as port:
            port.rts = False
            port.dtr = False
            port.dtr = True
            port.rts = True
    assert "42" in running.mpremote("resume", "exec", "print(6*7)").ok()
    assert running.board.resets == 1
    assert running.board.processor.pid == pid


def test_mpremote_sees_a_chip_with_its_own_address(running):
    text = running.mpremote("exec", "import machine, os; print(machine.unique_id().hex(), os.uname().sysname)").ok()
    assert text.split() == [running.board.mac.hex(), "esp32"]


def test_files_outlive_a_hard_reset_a_power_cut_and_the_board(running, tmp_path):
    (tmp_path / "note.txt").write_text("still here")
    running.mpremote("cp", tmp_path / "note.txt", ":note.txt").ok()
    running.mpremote("reset").ok()
    assert "still here" in running.mpremote("cat", ":note.txt").ok()
    running.do(running.board.power_off())
    running.do(running.board.power_on())
    assert "still here" in running.mpremote("cat", ":note.txt").ok()
    path = running.board.flash.path
    running.do(running.board.stop())
    with RunningBoard(path) as again:
        assert "still here" in again.mpremote("cat", ":note.txt").ok()
        assert again.board.mac == running.board.mac


@pytest.mark.parametrize(
    ("program", "says", "cause"),
    [
        ("machine.reset()", b"rst:0xc (SW_CPU_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)", "HARD_RESET"),
        ("machine.WDT(timeout=1000)", b"Task watchdog got triggered", "WDT_RESET"),
        ("machine.deepsleep(300)", b"rst:0x5 (DEEPSLEEP_RESET)", "DEEPSLEEP_RESET"),
    ],
)
def test_the_chip_resets_itself_and_knows_why(running, program, says, cause):
    with opened(running) as port:
        port.write(b"\r\x03import machine\r" + program.encode() + b"\r")
        read_until(port, says)
        port.write(b"\r")
        read_until(port, b">>>")
        port.write(f"import machine; print(machine.reset_cause() == machine.{cause}, 'x' * 3)\r".encode())
        assert b"True xxx" in read_until(port, b" xxx")
    assert running.board.resets == 2


def test_rts_resets_and_dtr_chooses_the_loader(running):
    with opened(running, dsrdtr=False) as port:
        port.dtr = False
        port.rts = True
        assert running.board.state is State.HELD
        assert running.board.processor.pid is None
        port.rts = False
        text = read_until(port, b">>>")
        assert b"rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n" in text
        port.rts = True
        port.dtr = True  # both: neither line is pulled, EN rises slowly
        port.rts = False
        text = read_until(port, b"waiting for download\r\n")
        assert b"rst:0x1 (POWERON_RESET),boot:0x3 (DOWNLOAD_BOOT" in text
        port.dtr = False
        time.sleep(0.1)
        assert running.board.state is State.DOWNLOAD
        port.rts = True
        port.rts = False
        read_until(port, b">>>")


def test_after_esptool_the_firmware_runs(running):
    running.esptool("chip-id").ok()
    assert "1\n" in running.mpremote("resume", "exec", "import machine; print(machine.reset_cause())").ok()


def test_the_wrong_baud_rate_is_noise(running):
    with opened(running, baudrate=9600) as port:
        port.dtr = False
        port.rts = True
        port.rts = False
        time.sleep(1)
        text = port.read(200)
        assert len(text) > 20
        assert b"POWERON" not in text
        port.baudrate = 115200
        port.write(b"\r\x03")
        read_until(port, b">>>")


@pytest.mark.parametrize(
    ("chip", "says"),
    [("esp32", rb"rst:0x10 \(RTCWDT_RTC_RESET\),boot:0x13 "), ("esp32s3", rb"rst:0x10 \(RTCWDT_RTC_RST\),boot:0x8 ")],
)
def test_a_blank_flash_is_tried_again_for_ever(tmp_path, chip, says):
    with RunningBoard(tmp_path / "flash.bin", chip) as board, opened(board) as port:
        text = read_until(port, b"invalid header: 0xffffffff\r\n") + read_until(port, b"invalid header")
        assert re.search(says, text), text
        assert board.board.state is State.STUCK


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        (0x8000, b"flash_parts: partition 0 invalid magic number 0x0"),
        (0x8040, b"flash_parts: "),
        (0x10000, b"factory: image at 0x10000 has invalid magic byte 0x00"),
    ],
)
def test_a_damaged_flash_says_what_is_wrong(tmp_path, offset, says):
    bootable(tmp_path / "flash.bin")
    flash = Flash(tmp_path / "flash.bin", 4 << 20)
    flash.program(offset, bytes(4))
    flash.close()
    with RunningBoard(tmp_path / "flash.bin") as board, opened(board) as port:
        read_until(port, says)


def test_an_app_for_another_chip_does_not_start(tmp_path):
    bootable(tmp_path / "flash.bin")
    (tmp_path / "flash.bin.json").unlink(missing_ok=True)
    flash = Flash(tmp_path / "flash.bin", 4 << 20)
    flash.program(0, flash.read(0x1000, 0x100))
    flash.close()
    with RunningBoard(tmp_path / "flash.bin", "esp32s3") as board, opened(board) as port:
        read_until(port, b"factory: mismatch chip ID, expected 9, found 0")


def test_without_power_there_is_no_port_and_no_process(running):
    pid = running.board.processor.pid
    running.do(running.board.power_off())
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(serial.SerialException, match="Connection refused"):
        opened(running)
    running.do(running.board.power_on())
    opened(running).close()


def test_power_fails_while_the_firmware_writes(running):
    """The next flash operation after the cut is the one that never happens; the board is dark until switched on."""
    running.mpremote("exec", "f = open('/a', 'w'); f.write('first'); f.close()").ok()
    running.board.cut_power_after(3)
    before = running.board.flash.operations
    assert running.mpremote("exec", "f = open('/a', 'w'); f.write('x' * 9000); f.close()").status != 0
    assert running.board.state is State.OFF
    assert running.board.flash.operations == before + 3
    running.do(running.board.power_on())
    assert running.mpremote("cat", ":a").ok().strip() == "first", "littlefs keeps the last closed version"


def test_sim_run_announces_its_port_and_leaves_nothing_behind(tmp_path):
    image_path = tmp_path / "flash.bin"
    bootable(image_path)
    command = [sys.executable, "-c", "from kobler.sim.cli import app; app()", "run", "--json", "--flash", image_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r'"usb": "rfc2217://127.0.0.1:(\d+)"', line)
        assert line.startswith('{"event": "powered"') and url, line
        socket.create_connection(("127.0.0.1", int(url[1]))).close()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    Flash(image_path, 4 << 20).close()


@pytest.mark.parametrize("mistake", ["port", "image", "bus", "interpreter", "state"])
def test_sim_run_tells_a_mistake_before_it_builds(tmp_path, mistake):
    folder = tmp_path / "sim" / "virtual"
    folder.mkdir(parents=True)
    options, environment, named = [], {}, ""
    with socket.create_server(("127.0.0.1", 0)) as taken, contextlib.ExitStack() as stack:
        if mistake == "port":
            named = str(taken.getsockname()[1])
            options = ["--usb", named]
        elif mistake == "image":
            named = str(folder / "flash.bin")
            stack.callback(Flash(folder / "flash.bin", 4 << 20).close)
        elif mistake == "bus":
            named = str(tmp_path / "bus")
            (tmp_path / "bus").touch()
            options = ["--rs485", named]
        elif mistake == "interpreter":
            named = environment["KOBLER_MICROPYTHON"] = "/nonexistent"
        else:
            folder.rmdir()
            folder.touch()
            named = str(folder)
        command = [sys.executable, "-P", "-m", "kobler", "sim", "run", "--state", tmp_path, *options]
        done = run(command, 30, environment)
    assert done.status == 1
    assert done.text.startswith("kobler: ") and done.text.count("\n") == 1 and named in done.text, done.text


# - the wire


class Host:
    def __init__(self) -> None:
        self.sent = b""
        self.data = b""
        self.lines: list[tuple[bool, bool]] = []
        self.bauds: list[int] = []
        self.telnet = Telnet(self._send, self._data, lambda *lines: self.lines.append(lines), self.bauds.append)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def _data(self, data: bytes) -> None:
        self.data += data


def com_port(command: int, value: bytes) -> bytes:
    return bytes((IAC, SB, COM_PORT, command)) + value.replace(b"\xff", b"\xff\xff") + bytes((IAC, SE))


def test_settings_are_acknowledged_as_the_client_expects_them():
    host = Host()
    host.telnet.feed(com_port(1, (255 << 8).to_bytes(4, "big")) + com_port(5, b"\x08") + com_port(5, b"\x0b"))
    assert host.bauds == [255 << 8]
    assert host.lines == [(True, False), (True, True)]
    assert host.sent == com_port(101, (255 << 8).to_bytes(4, "big")) + com_port(105, b"\x08") + com_port(105, b"\x0b")
    host.sent = b""
    host.telnet.feed(com_port(5, b"\x07") + com_port(1, bytes(4)))
    assert host.sent == com_port(105, b"\x08") + com_port(101, (255 << 8).to_bytes(4, "big"))


def test_two_polite_ends_come_to_rest():
    host = Host()
    host.telnet.begin()
    for _ in range(3):
        host.telnet.feed(bytes((IAC, DO, COM_PORT, IAC, WILL, COM_PORT, IAC, DO, 99)))
    assert host.sent.count(bytes((IAC, WILL, COM_PORT))) == 1
    assert host.sent.count(bytes((IAC, DO, COM_PORT))) == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 7))
def test_data_comes_through_whole_however_it_is_cut(pieces, step):
    """Between and around commands, IAC doubled, in pieces of any size."""
    stream = b"".join(part.replace(b"\xff", b"\xff\xff") + com_port(5, b"\x08") for part in pieces)
    host = Host()
    for at in range(0, len(stream), step):
        host.telnet.feed(stream[at : at + step])
    assert host.data == b"".join(pieces)
    assert len(host.lines) == len(pieces)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_telnet_layer(noise):
    host = Host()
    host.telnet.feed(noise)
    host.telnet.feed(b"x" * 100 + bytes((IAC, SE)))
    host.telnet.feed(com_port(1, (9600).to_bytes(4, "big")))
    assert host.bauds[-1:] == [9600]
