"""The unit's Modbus TCP client over real sockets, against servers that are not ours, on every interpreter."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from coupler.bus.errors import BusError
from coupler.bus.tcp import TcpClient
from coupler.hal.cpython import Hal
from kobler.sim.interpreter import micropython
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer

_HERE = Path(__file__).parent
_FIRMWARE = _HERE.parents[1] / "firmware"

interpreters = pytest.mark.parametrize("interpreter", ["cpython", "micropython"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def ask(interpreter: str, port: int, requests: list[tuple[int, str, int]], folder: Path, flight: int = 4) -> list[str]:
    """What the client on that interpreter gets: PDUs in hex, or the errors' qualities."""
    plan = folder / "requests.json"
    plan.write_text(json.dumps(requests), encoding="utf-8")
    program = sys.executable if interpreter == "cpython" else str(micropython())
    command = [program, _HERE / "modbus_unit.py", _FIRMWARE, str(port), str(flight), plan]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


# - libmodbus


@contextmanager
def libmodbus(program: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Registers 100 to 299 hold their address."""
    values = [str(value) for value in range(100, 300)]
    command = [program, "tcp", str(port), "-", "-", "100", *values]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout and server.stdout.readline() == "ready\n"
            yield server
        finally:
            server.kill()


def _registers(first: int, count: int) -> str:
    return struct.pack(f">{count}H", *range(first, first + count)).hex()


@interpreters
def test_libmodbus_answers_every_function(interpreter: str, server_program: Path, tmp_path: Path) -> None:
    dialogue = [
        ("0300640001", "0302" + _registers(100, 1)),
        ("030064007d", "03fa" + _registers(100, 125)),
        ("0400c80003", "0406" + _registers(200, 3)),
        ("0200000009", "02024900"),
        ("0500030000", "0500030000"),
        ("050004ff00", "050004ff00"),
        ("0f0008000a02cd01", "0f0008000a"),
        ("010000 0040".replace(" ", ""), "0108" + "10cd01" + "00" * 5),
        ("0600641234", "0600641234"),
        ("160064 00f2 0025".replace(" ", ""), "16006400f20025"),
        ("0300640001", "03020035"),
        ("1000650002 04 00070008".replace(" ", ""), "1000650002"),
        ("17 0066 0002 0067 0001 02 abcd".replace(" ", ""), "17040008abcd"),
        ("0300000001", "exception:2"),
        ("2b0e0100", "exception:1"),
    ]
    port = _free_port()
    with libmodbus(server_program, port):
        got = ask(interpreter, port, [(1, request, 2000) for request, _ in dialogue], tmp_path)
    # Four are in flight at once, and the server takes them in the order in which they were written.
    assert got == [answer for _, answer in dialogue]


# - pymodbus, which answers only the first of several requests that come in one segment, and late on demand


@contextmanager
def pymodbus_server(delay: Callable[[bytes], bytes]) -> Iterator[int]:
    """delay(packet) -> the packet to send instead, run in the server's own thread."""
    port = _free_port()
    loop = asyncio.new_event_loop()
    block = ModbusSequentialDataBlock(1, list(range(200)))
    context = ModbusServerContext(devices=ModbusDeviceContext(hr=block, ir=block), single=True)
    ready = threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        server = ModbusTcpServer(
            context, address=("127.0.0.1", port), trace_packet=lambda sending, data: delay(data) if sending else data
        )
        stop.append(server)
        await server.listen()
        ready.set()
        await asyncio.Event().wait()

    def run() -> None:
        task = loop.create_task(serve())
        stop.append(task)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.run_until_complete(stop[1].shutdown())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop[0].cancel)
        thread.join(10)
        loop.close()


@interpreters
def test_pymodbus_is_read_from_and_written_to(interpreter: str, tmp_path: Path) -> None:
    dialogue = [
        ("030005000a", "0314" + _registers(5, 10)),
        ("0400000002", "0404" + _registers(0, 2)),
        ("0600051234", "0600051234"),
        ("1000060002040007 0008".replace(" ", ""), "1000060002"),
        ("0300050003", "0306123400070008"),
    ]
    with pymodbus_server(lambda data: data) as port:
        got = ask(interpreter, port, [(1, request, 2000) for request, _ in dialogue], tmp_path, 1)
    assert got == [answer for _, answer in dialogue]


@interpreters
def test_a_late_answer_of_a_real_server_is_dropped(interpreter: str, tmp_path: Path) -> None:
    count = 0

    def slow(data: bytes) -> bytes:
        nonlocal count
        count += 1
        if count == 2:
            time.sleep(0.6)  # it stops the whole server
        return data

    requests = [(1, f"03{address:04x}0001", 250) for address in range(2)]
    with pymodbus_server(slow) as port:
        got = ask(interpreter, port, [*requests, *[(1, f"03{a:04x}0001", 2000) for a in range(2, 8)]], tmp_path, 1)
    assert got[0] == "03020000" and got[1] == "timeout"
    assert got[2:] == [f"0302{address:04x}" for address in range(2, 8)]


# - Connections that are lost


def _run(test: Callable[[Hal], Any], folder: Path) -> None:
    asyncio.run(asyncio.wait_for(test(Hal(str(folder))), 60))


async def _resolve(hal: Hal, host: str) -> list[str]:
    return ["127.0.0.1"]


async def _until_answered(client: TcpClient, seconds: float) -> bytes:
    """Poll as a unit does, until there is an answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            return bytes(await client.read(1, 3, 100, 1, 500))
        except BusError as error:
            assert error.kind == "link" and time.monotonic() < end, str(error)
        await asyncio.sleep(0.05)


def test_a_server_that_comes_back_is_found_again(server_program: Path, tmp_path: Path) -> None:
    port = _free_port()

    async def test(hal: Hal) -> None:
        client = TcpClient(hal, "meter", port, _resolve, 2)
        began = time.monotonic()
        with pytest.raises(BusError) as refused:
            await client.read(1, 3, 100, 1, 2000)
        assert refused.value.kind == "link" and time.monotonic() - began < 1
        assert "REFUSED" in client.why
        for _ in range(2):
            with libmodbus(server_program, port):
                assert await _until_answered(client, 10) == b"\0\x64"
            began = time.monotonic()
            with pytest.raises(BusError):
                await client.read(1, 3, 100, 1, 5000)
            assert time.monotonic() - began < 1
        assert client.stats["connects"] == 2
        await client.close()

    _run(test, tmp_path)


@pytest.mark.parametrize("how", ["close", "reset", "garbage", "oversized", "protocol", "half"])
def test_whatever_ends_a_connection_fails_its_requests_at_once(how: str, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.readexactly(12)
        if how == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "garbage":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
        elif how == "oversized":
            writer.write(heard[:4] + b"\xff\xff" + bytes(300))
        elif how == "protocol":
            writer.write(heard[:2] + b"\0\1\0\5\1\3\2\0\7")
        elif how == "half":
            writer.write(heard[:4] + b"\0\5\1\3")
        if how in ("garbage", "oversized", "protocol"):
            assert await reader.read(1000) is not None  # the client closes
        writer.close()

    async def test(hal: Hal) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = TcpClient(hal, "meter", server.sockets[0].getsockname()[1], _resolve, 4)
        began = time.monotonic()
        errors = await asyncio.gather(*[client.read(1, 3, i, 1, 5000) for i in range(6)], return_exceptions=True)
        assert [getattr(error, "kind", error) for error in errors] == ["link"] * 6
        assert time.monotonic() - began < 2 and client.why
        await client.close()
        server.close()

    _run(test, tmp_path)


def test_a_server_that_reads_nothing_holds_nobody_for_long(tmp_path: Path) -> None:
    async def test(hal: Hal) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client = TcpClient(hal, "meter", deaf.getsockname()[1], _resolve, 2)
            began = time.monotonic()
            write = b"\x10\0\0\0\x7b\xf6" + bytes(246)
            errors = await asyncio.gather(*[client.transact(1, write, 100) for _ in range(10)], return_exceptions=True)
            assert {getattr(error, "kind", error) for error in errors} <= {"timeout", "link"}
            assert time.monotonic() - began < 3
            await client.close()

    _run(test, tmp_path)
