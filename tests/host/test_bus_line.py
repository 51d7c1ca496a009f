"""`kobler bus scan`, `read` and `write` through an adapter of this computer: a pseudo-terminal on the virtual RS-485
bus, and an RFC 2217 server (pyserial's own) that knows speed and parity.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial.rfc2217
from hypothesis import given
from hypothesis import strategies as st
from kobler.bus import commands, pdu
from kobler.bus.cli import app
from kobler.bus.line import find_answer, sealed
from kobler.bus.scan import runs
from kobler.bus.value import Coding
from kobler.errors import KoblerError, UsageError
from kobler.sim.devices import demonstration
from kobler.sim.modbus_server import ModbusServer
from kobler.sim.rs485 import Bus
from kobler.sim.rs485_format import Format
from test_devices import Registers
from test_rs485_pty import SERVER
from typer.testing import CliRunner

AT_115200 = ("--baud", "115200", "--parity", "none")


class Wires:
    """The virtual bus with devices, in a thread of its own; its far ends are pseudo-terminals at these paths."""

    def __init__(self, paths: list[Path], devices: list[Any]) -> None:
        self._paths, self._devices = paths, devices
        self._ready, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Bus:
        self._thread.start()
        assert self._ready.wait(10)
        return self.bus

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(10)

    async def _run(self) -> None:
        self.bus = Bus(Format(115200, "none"))
        for device in self._devices:
            self.bus.attach(device)
        for path in self._paths:
            self.bus.attach_pty(path)
        self._ready.set()
        while not self._ending.is_set():
            await asyncio.sleep(0.02)
        self.bus.close()


class WriteOnly(Registers):
    """Holding register 3 takes a value, and never shows it; register 5 shows 0 whatever it takes."""

    def read(self, table: str, address: int, count: int) -> list[int]:
        if table == "holding" and address == 3:
            self.tables["none"] = {}
            return super().read("none", address, count)
        found = super().read(table, address, count)
        return [0] if table == "holding" and address == 5 else found


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("wires") / "far"
    with Wires([path], [*demonstration(), Registers(9), WriteOnly(10)]):
        yield str(path)


def bus(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: str, stdin: str | None = None) -> str:
    with pytest.raises(KoblerError) as caught:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False, input=stdin)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_registers_are_shown_in_hex_and_decimal_with_the_way_to_their_meaning(port: str) -> None:
    lines = shown("read", "9", "holding", "1", "2", "--port", port, *AT_115200).splitlines()
    assert lines[0] == "unit 9, holding registers 1-2"
    assert [line.split() for line in lines[1:3]] == [["1", "0001", "1"], ["2", "0002", "2"]]
    assert lines[3].endswith('kobler bus decode "0001 0002"')
    assert shown("read", "1", "coil", "0", "--port", port, *AT_115200).split() == ["unit", "1,", "coil", "0", "0", "on"]


def test_values_have_a_type_an_order_and_a_scale(port: str) -> None:
    (power,) = bus("read", "17", "input", "52", "--type", "float32", "--port", port, *AT_115200)
    assert power["event"] == "read" and power["count"] == 2 and 500 < power["values"][0] < 4500
    swapped = [*(f"{word:04x}" for word in power["raw"])]
    assert power["hex"].split() == swapped
    (three,) = bus("read", "5", "input", "0", "3", "--type", "i16", "--scale", "0.1", "--port", port, *AT_115200)
    assert len(three["values"]) == 3 and all(abs(v * 10 - round(v * 10)) < 1e-9 for v in three["values"])
    (status,) = bus("read", "5", "input", "6", "--type", "bits(0,4)", "--port", port, *AT_115200)
    assert status["values"][0] < 16
    (inputs,) = bus("read", "1", "discrete", "0", "3", "--port", port, *AT_115200)
    assert inputs["raw"][2] == 1 and "values" not in inputs
    assert "float32 ABCD" in shown("read", "17", "input", "52", "--type", "float32", "--port", port, *AT_115200)


def test_what_is_written_is_read_back_and_shown(port: str) -> None:
    at = ("--port", port, *AT_115200)
    text = shown("write", "1", "holding", "0", "21.5", "--type", "i16", "--scale", "0.1", *at)
    assert text == "unit 1, holding register 0: was 19.5, holds 21.5\n"
    (row,) = bus("write", "9", "holding", "2", "7", "0x8", *at)
    assert row["event"] == "written" and (row["before"], row["after"]) == ([2, 3], [7, 8])
    (row,) = bus("write", "9", "holding", "4", "0", "--type", "bits(2,1)", *at)
    assert (row["before"], row["after"]) == ([4], [0])
    (row,) = bus("write", "9", "coil", "0", "on", "off", "on", *at)
    assert row["after"] == [1, 0, 1]
    assert "holds off" in shown("write", "9", "coil", "0", "off", *at)
    (row,) = bus("write", "9", "holding", "0", "9", "--multiple", *at)
    assert row["after"] == [9]
    assert bus("write", "9", "holding", "0", "0", *at)[0]["after"] == [0]


def test_what_the_device_does_otherwise_is_said(port: str) -> None:
    at = ("--port", port, *AT_115200)
    assert "1 (hex 0001) written; it cannot be read back" in shown("write", "10", "holding", "3", "1", *at)
    assert "took 1 (hex 0001), but holds 0" in refused("write", "10", "holding", "5", "1", *at)
    text = refused("write", "9", "holding", "1", "300", *at)
    assert text.startswith("unit 9, holding register 1: exception 3 (illegal data value")
    assert refused("read", "17", "holding", "900", "2", *at).startswith(
        "unit 17, holding registers 900-901: exception 2 (illegal data address"
    )
    began = time.monotonic()
    assert refused("read", "33", "input", "0", "--timeout", "100ms", *at) == (
        "unit 33, input register 0: no answer within 100 ms"
    )
    assert time.monotonic() - began < 1
    # Nothing is written to a device that is not there.
    assert "no answer" in refused("write", "33", "holding", "0", "1", "--timeout", "50ms", *at)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("read", "17", "inputs", "0"), "TABLE inputs: allowed: coil"),
        (("read", "256", "input", "0"), "UNIT 256: allowed: 0 to 255"),
        (("read", "17", "input", "65536"), "ADDRESS 65536"),
        (("read", "17", "input", "65535", "2"), "addresses are 0 to 65535"),
        (("read", "17", "input", "0", "126"), "1 to 125"),
        (("read", "17", "input", "0", "3", "--type", "float32"), "COUNT 3"),
        (("read", "17", "input", "0", "--type", "double"), "--type: 'double' is not a type"),
        (("read", "17", "input", "0", "--type", "u16", "--order", "BACD"), "--order BACD"),
        (("read", "17", "input", "0", "--scale", "2"), "need --type"),
        (("read", "17", "coil", "0", "--type", "u16"), "on or off"),
        (("read", "17", "input"), "give UNIT TABLE ADDRESS"),
        (("read", "17", "input", "0", "--timeout", "5"), "--timeout: '5' is not a duration"),
        (("read", "17", "input", "0", "--bus", "field"), "--bus is for a coupler"),
        (("read", "field/meter/power"), "to a coupler only"),
        (("write", "1", "input", "0", "1"), "read only"),
        (("write", "1", "holding", "0"), "give UNIT TABLE ADDRESS VALUE"),
        (("write", "1", "holding", "0", "--tpye", "u16"), "'--tpye' is no register"),
        (("write", "1", "holding", "0", "21.5"), "--type"),
        (("write", "1", "holding", "0", "21.5", "--type", "u16"), "no whole number"),
        (("write", "1", "holding", "0", "-1", "--type", "u16"), "0 to 65535"),
        (("write", "1", "holding", "0", "1e39", "--type", "float32"), "more than a float32"),
        (("write", "1", "coil", "0", "2"), "neither on nor off"),
        (("write", "1", "holding", "0", "*", "--type", "string(0)"), "string(1)"),
        (("scan", "--units", "0-5"), "--units 0-5"),
        (("scan", "--units", "9-5"), "--units 9-5"),
        (("scan", "--baud", "fast"), "--baud fast"),
        (("scan", "--parity", "mark"), "--parity mark"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_on_the_command_line_is_named_before_anything_is_sent(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(app, [*arguments, "--port", "/nonexistent"], catch_exceptions=False)
    assert said in str(caught.value)


def test_without_a_port_a_coupler_is_meant_and_each_has_its_own_options(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path))
    assert "or name a serial adapter with --port" in refused("read", "17", "input", "0", *state)
    assert "are for --port" in refused("read", "17", "input", "0", "--baud", "9600", *state)
    assert "--device" in refused("read", "a/b/c", "--broker", "wss://localhost:1/mqtt", *state)


def test_a_scan_finds_each_device_and_what_it_says_it_is(port: str) -> None:
    lines = bus("scan", "--port", port, *AT_115200, "--units", "1-18", "--timeout", "40ms")
    found = {line["unit"]: line for line in lines if line["event"] == "found"}
    assert sorted(found) == [1, 5, 9, 10, 17]
    assert found[17].items() >= {"vendor": "Kobler", "product": "meter", "revision": "1.0", "baud": 115200}.items()
    assert found[9]["product"] == "P" * 100  # in two answers
    assert lines[-1]["event"] == "summary" and lines[-1]["found"] == [1, 5, 9, 10, 17] and lines[-1]["complete"]
    text = shown("scan", "--port", port, *AT_115200, "--units", "17", "--timeout", "40ms")
    assert "unit  17  115200 baud 8N1  Kobler meter 1.0" in text and "1 found: 17" in text
    assert "no device answered" in refused("scan", "--port", port, *AT_115200, "--units", "33", "--timeout", "20ms")


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "kobler", "bus", *arguments]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more))
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            one.kill()
        one.communicate()


def test_ctrl_c_shows_what_was_found_so_far(port: str, program: Any) -> None:
    scan = program("scan", "--port", port, *AT_115200, "--units", "1,100-247")
    assert scan.stdout.readline().startswith("unit   1")
    time.sleep(0.3)
    scan.send_signal(signal.SIGINT)
    out, err = scan.communicate(timeout=10)
    assert scan.returncode == 130 and "stopped; so far 1 found: 1" in out
    assert "Traceback" not in err


def test_the_exit_code_is_1_with_one_line_or_2_for_wrong_usage(port: str, program: Any) -> None:
    for arguments, code in (["33", "input", "0"], 1), (["33", "input"], 2):
        done = program("read", *arguments, "--timeout", "50ms", "--port", port, *AT_115200)
        _, err = done.communicate(timeout=20)
        assert done.returncode == code and err.count("\n") == 1 and err.startswith("kobler: "), err


@pytest.mark.parametrize(("said", "code", "holds"), [("n\n", 1, 8), ("y\n", 0, 5)])
def test_on_a_terminal_a_write_is_confirmed(port: str, program: Any, said: str, code: int, holds: int) -> None:
    at = ("--port", port, *AT_115200)
    master, slave = pty.openpty()
    try:
        bus("write", "9", "holding", "8", "8", *at)
        write = program("write", "9", "holding", "8", "5", *at, stdin=slave)
        os.write(master, said.encode())
        out, err = write.communicate(timeout=20)
    finally:
        os.close(master)
        os.close(slave)
    assert write.returncode == code, err
    assert "unit 9, holding register 8: 8 (hex 0008) -> 5 (hex 0005). Write it?" in err
    assert ("nothing was written" in err) is bool(code) and ("holds 5" in out) is not bool(code)
    assert bus("read", "9", "holding", "8", *at)[0]["raw"] == [holds]


def test_a_foreign_server_is_read_through_the_virtual_bus(tmp_path: Path) -> None:
    """pymodbus' RTU server on one pseudo-terminal, `kobler` on another, the wires in between."""
    with Wires([tmp_path / "server", tmp_path / "here"], []):
        server = subprocess.Popen([sys.executable, "-c", SERVER.replace("19200", "115200"), str(tmp_path / "server")])
        try:
            at = ("--port", str(tmp_path / "here"), *AT_115200)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    rows = bus("read", "17", "input", "52", "--type", "float32", *at)
                    break
                except KoblerError:
                    time.sleep(0.2)
            assert rows[0]["values"] == [803.0]
            assert bus("write", "17", "holding", "60", "-5", *at)[0]["after"] == [65531]
            assert bus("write", "17", "holding", "60", "5", "6", *at)[0]["after"] == [5, 6]
        finally:
            server.kill()
            server.wait()


class Settings:
    """The serial port behind an RFC 2217 server: only its settings matter."""

    baudrate, bytesize, parity, stopbits = 9600, 8, "N", 1
    xonxoff = rtscts = cts = dsr = ri = cd = dtr = rts = break_condition = False

    def reset_input_buffer(self) -> None:
        pass

    reset_output_buffer = reset_input_buffer


class Adapter:
    """A remote adapter: `answer(frame)` gives what comes back, if speed and parity are the bus's."""

    def __init__(
        self, answer: Callable[[bytes], list[tuple[float, bytes]]], fmt: tuple[int, str] = (19200, "E")
    ) -> None:
        self._answer, self._fmt = answer, fmt
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: set[tuple[int, str]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Adapter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                self._serve(link)

    def _serve(self, link: socket.socket) -> None:
        settings = Settings()
        connection: Any = type("Connection", (), {"write": lambda _, data: link.sendall(data)})()
        manager = serial.rfc2217.PortManager(settings, connection)
        frame, due = b"", []
        link.settimeout(0.005)
        while True:
            try:
                data = link.recv(1024)
                if not data:
                    return
                frame += b"".join(manager.filter(data))
                continue
            except TimeoutError:
                pass
            except OSError:
                return
            now = time.monotonic()
            if frame:
                fmt = (settings.baudrate, settings.parity)
                self.seen.add(fmt)
                if fmt == self._fmt:
                    due += [(now + delay, data) for delay, data in self._answer(frame)]
                frame = b""
            for one in [one for one in due if one[0] <= now]:
                due.remove(one)
                link.sendall(b"".join(manager.escape(one[1])))


def device(unit: int, delay: float = 0.0) -> Callable[[bytes], list[tuple[float, bytes]]]:
    server = ModbusServer(unit, Registers(unit))

    def answer(frame: bytes) -> list[tuple[float, bytes]]:
        found = server.answer(frame, 0.0)
        return [(delay, found)] if found else []

    return answer


def test_the_scan_finds_speed_and_parity_and_stops_there() -> None:
    with Adapter(device(3), (19200, "N")) as adapter:
        scan = ("scan", "--port", adapter.url, "--units", "3", "--timeout", "60ms")
        lines = bus(*scan)
        assert lines[0].items() >= {"unit": 3, "baud": 19200, "parity": "none", "stop_bits": 1}.items()
        assert adapter.seen == {(9600, "E"), (9600, "N"), (9600, "O"), (19200, "E"), (19200, "N")}
        adapter.seen.clear()
        assert len([line for line in bus(*scan, "--all") if line["event"] == "found"]) == 1
        assert len(adapter.seen) == 12


def test_a_device_that_is_slower_than_the_timeout_is_found_and_not_taken_for_its_neighbour() -> None:
    slow, quick = device(3, 0.16), device(4)
    with Adapter(lambda frame: slow(frame) + quick(frame)) as adapter:
        lines = bus("scan", "--port", adapter.url, "--baud", "19200", "--parity", "even", "--units", "2-5",
                    "--timeout", "50ms")  # fmt: skip
        assert lines[-1]["found"] in ([3, 4], [4, 3])


def test_an_adapter_that_hears_itself_writes_only_what_the_device_confirms() -> None:
    server = device(9)
    with Adapter(lambda frame: [(0.0, frame), *server(frame)]) as adapter:
        at = ("--port", adapter.url)
        assert bus("write", "9", "holding", "1", "200", *at)[0]["after"] == [200]
        assert "exception 3" in refused("write", "9", "holding", "1", "300", *at)
        assert bus("read", "9", "holding", "1", *at)[0]["raw"] == [200]
    # The write's echo is all that comes: it is not taken for an answer.
    with Adapter(lambda frame: [(0.0, frame), *([] if frame[1] == 6 else server(frame))]) as adapter:
        text = refused("write", "9", "holding", "1", "77", "--timeout", "50ms", "--port", adapter.url)
        assert text.startswith("unit 9, holding register 1: no answer within 50 ms; it holds 200")


def test_an_unanswered_write_that_was_done_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    server = device(9)

    def answer(frame: bytes) -> list[tuple[float, bytes]]:
        found = server(frame)
        return [] if frame[1] == 6 else found

    with Adapter(answer) as adapter:
        done = CliRunner().invoke(
            app, ["write", "9", "holding", "1", "5", "--timeout", "50ms", "--port", adapter.url], catch_exceptions=False
        )
    assert done.exit_code == 0 and "holds 5" in done.stdout
    assert "no answer within 50 ms; it holds the value all the same" in done.stderr


def test_stray_bytes_and_frames_of_others_are_no_answer() -> None:
    server = device(9)
    spoilt = [
        lambda found: b"\xff\x00" + found,  # noise before it
        lambda found: b"\x09\x03" + found,  # what looks like its beginning
        lambda found: sealed(b"\x08" + found[1:-2]) + found,  # another unit's
    ]
    for spoil in spoilt:
        with Adapter(lambda frame, spoil=spoil: [(0.0, spoil(found)) for _, found in server(frame)]) as adapter:
            assert bus("read", "9", "holding", "1", "2", "--port", adapter.url)[0]["raw"] == [1, 2]
    with Adapter(lambda frame: [(0.0, found[:-1] + b"?") for _, found in server(frame)]) as adapter:
        assert "what came is no answer (09 03 04 00 01" in refused(
            "read", "9", "holding", "1", "2", "--timeout", "50ms", "--port", adapter.url
        )
        assert "no device answered" in refused(
            "scan", "--port", adapter.url, "--baud", "19200", "--parity", "even", "--units", "9", "--timeout", "20ms"
        )


def test_a_bus_that_is_never_silent_is_not_written_to() -> None:
    heard = b""

    def chatter(listener: socket.socket) -> None:
        nonlocal heard
        with listener.accept()[0] as link:
            link.settimeout(0.001)
            try:
                while True:
                    link.sendall(bytes(10))
                    try:
                        heard += link.recv(100)
                    except TimeoutError:
                        continue
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=chatter, args=(listener,), daemon=True).start()
        url = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        time.sleep(0.1)
        assert "the bus is never silent" in refused("write", "9", "coil", "1", "on", "--port", url, "--baud", "300")
    assert heard == b""


def test_a_scan_on_a_bus_where_another_asks_says_so() -> None:
    def master(listener: socket.socket) -> None:
        with listener.accept()[0] as link:
            try:
                while True:
                    link.sendall(sealed(b"\x05" + REQUESTS[0]))
                    time.sleep(0.1)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=master, args=(listener,), daemon=True).start()
        url = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        done = CliRunner().invoke(app, ["scan", "--port", url, "--units", "9", "--timeout", "20ms"])
    assert "somebody talks on this bus" in done.stderr


def test_noise_without_end_ends_a_request() -> None:
    with Adapter(lambda _frame: [(0.01 * i, bytes(30)) for i in range(400)]) as adapter:
        began = time.monotonic()
        text = refused("read", "9", "holding", "1", "--timeout", "50ms", "--port", adapter.url)
        assert "what came is no answer (00 00" in text and time.monotonic() - began < 2


def test_what_cannot_be_opened_is_said() -> None:
    assert "there is no port /dev/nonexistent" in refused("read", "1", "coil", "0", "--port", "/dev/nonexistent")
    assert "not a serial port" in refused("read", "1", "coil", "0", "--port", "gopher://x")
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = f"127.0.0.1:{free.getsockname()[1]}"
    assert "nobody serves" in refused("scan", "--port", f"socket://{where}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        assert "broke" in refused("read", "1", "coil", "0", "--port", f"socket://{where}", "--timeout", "500ms")


REQUESTS = [
    pdu.read("coil", 0, 10), pdu.read("holding", 0, 10), pdu.read("input", 7, 1), pdu.read("discrete", 0, 1),
    pdu.write_coils(0, [True]), pdu.write_coils(0, [True] * 9), pdu.write_registers(0, [5]), pdu.identify(),
    pdu.write_registers(0, [5, 6]), pdu.write_bits(0, 0xF0, 0x30), pdu.write_registers(0, [5], multiple=True),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.hex())
def test_every_answer_of_the_simulated_server_is_recognised_and_no_piece_of_it(request_: bytes) -> None:
    frame = ModbusServer(9, Registers(9)).answer(sealed(b"\x09" + request_), 0.0)
    assert frame is not None
    assert find_answer(9, request_, bytearray(frame)) == frame[1:-2]
    for length in range(len(frame)):
        assert find_answer(9, request_, bytearray(frame[:length]), over=True) is None
    assert find_answer(8, request_, bytearray(frame), over=True) is None
    for other in REQUESTS:
        if other[0] != request_[0]:
            assert find_answer(9, other, bytearray(frame), over=True) is None


def test_what_looks_like_an_answer_inside_another_does_not_count_while_that_may_still_be_one() -> None:
    request = pdu.read("holding", 0, 10)
    inside = sealed(b"\x09\x83\x02")
    answer = b"\x09\x03\x14" + inside.ljust(20, b"\0")
    assert find_answer(9, request, bytearray(answer)) is None
    assert find_answer(9, request, bytearray(sealed(answer))) == answer[1:]
    assert find_answer(9, request, bytearray(answer), over=True) == b"\x83\x02"


@given(st.sampled_from(REQUESTS), st.binary(max_size=40), st.booleans())
def test_no_bytes_make_it_fail(request_: bytes, got: bytes, over: bool) -> None:
    found = find_answer(9, request_, bytearray(b"\x09" + request_[:1] + got), over)
    assert found is None or found[0] & 0x7F == request_[0]


CODINGS = [
    ("u16", "65535"), ("i16", "-2"), ("u32", "100000"), ("i32", "-100000"), ("u64", "5000000000"),
    ("i64", "-5000000000"), ("float32", "21.5"), ("float64", "-0.1"), ("string(5)", "Kobl\xe9"), ("bool", "on"),
    ("bits(3,4)", "9"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), CODINGS)
@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
def test_values_are_coded_as_the_unit_codes_them(kind: str, text: str, order: str) -> None:
    from coupler.points import codec

    coding = Coding.of(kind, order, 1.0, 0.0)
    words = coding.encode(text)
    assert len(words) == coding.type.registers
    data = struct.pack(f">{len(words)}H", *words)
    extra = coding.type.length if coding.type.kind == "string" else coding.type.first
    theirs = codec.decode(coding.type.kind, order, data, 0, extra, coding.type.count)
    assert coding.decode(words) == theirs
    assert str(theirs) in (text, "True")
    assert words[0] & coding.mask == words[0]


def test_scaled_values_go_both_ways_without_noise() -> None:
    coding = Coding.of("i16", "ABCD", 0.1, -40.0)
    for tenths in range(-300, 300, 7):
        text = f"{tenths / 10:g}"
        assert coding.decode(coding.encode(text)) == float(text)


def test_units_are_numbers_and_ranges() -> None:
    assert commands.unit_list("1-3, 7,2") == [1, 2, 3, 7]
    assert list(runs([1, 2, 3, 7, 9, 10])) == [(1, 3), (7, 7), (9, 10)]
