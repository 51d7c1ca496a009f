"""The cloud is switched off: wherever the link is at that moment, it ends within a second, and nothing goes out any
more. Each peer is silent at one stage of the way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_hub import Azure
from uplink_peers import CONNACK, Peer, Server, frame, upgrade, ws
from uplink_world import INTERPRETERS, UNIT_ID, Ca, Loop, free_port, unit

both = pytest.mark.parametrize("interpreter", INTERPRETERS)


class Ear:
    """Counts what arrives."""

    def __init__(self) -> None:
        self.bytes = 0

    async def listen(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            self.bytes += len(data)

    def after(self, *steps: Peer) -> Peer:
        """A peer that takes these steps and is silent from then on."""

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for step in steps:
                await step(reader, writer)
            await self.listen(reader, writer)

        return peer


async def accepts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await frame(reader)
    writer.write(ws(CONNACK))


def stops(
    interpreter: str, files: Path, cloud: dict[str, Any], stage: str, heard: Callable[[], int], **given: Any
) -> int:
    """Switches the cloud off in this stage; how many bytes were heard before it."""
    with unit(interpreter, files, cloud, until={"state": stage}, settle=0.2, linger=5, **given) as one:
        end = one.ended()
        assert end["stopped_in"] == stage and end["status"]["state"] == "stopped"
        assert end["stop_ms"] < 1000
        time.sleep(0.2)  # what was sent before has arrived
        before = heard()
        time.sleep(0.5)
        assert heard() == before, "nothing goes out any more"
        return before


@both
def test_while_the_name_is_asked_for(files: Path, interpreter: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        mute.setblocking(False)
        got: list[bytes] = []

        def heard() -> int:
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(mute.recv(2048))
            return len(got)

        place = f"127.0.0.1:{mute.getsockname()[1]}"
        cloud = {"port": 1, "host": "broker.example.com"}
        assert stops(interpreter, files, cloud, "resolving", heard, dns=[place, place]) == 1


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A port whose queue of connections is full: further ones get no answer."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
        time.sleep(0.1)
        yield port


@both
def test_while_tcp_gets_no_answer(files: Path, interpreter: str) -> None:
    with full() as port:
        stops(interpreter, files, {"port": port}, "connecting", lambda: sockets_to(port))
        assert sockets_to(port) <= 3, "the unit has closed its own"


def sockets_to(port: int) -> int:
    """How many sockets of this machine are connecting or connected to that port."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[2].endswith(f":{port:04X}") and row.split()[3] in ("01", "02") for row in rows)


STAGES: list[tuple[str, bool, tuple[Peer, ...]]] = [
    ("tls", False, ()),
    ("websocket", True, ()),
    ("mqtt", True, (upgrade,)),
    ("online", True, (upgrade, accepts)),
]


@both
@pytest.mark.parametrize(("stage", "tls", "steps"), STAGES, ids=[stage[0] for stage in STAGES])
def test_while_the_peer_is_silent(
    loop: Loop, ca: Ca, files: Path, interpreter: str, stage: str, tls: bool, steps: tuple[Peer, ...]
) -> None:
    ear = Ear()
    server = Server(loop, ear.after(*steps), ca if tls else None)
    try:
        stops(interpreter, files, {"port": server.port}, stage, lambda: ear.bytes + 10000 * server.connections)
        assert server.connections == 1
    finally:
        server.close()


@both
def test_while_the_provisioning_service_lets_it_wait(loop: Loop, ca: Ca, files: Path, interpreter: str) -> None:
    azure = Azure(loop, ca, ("hub-1.localhost",), "dps.localhost")
    azure.dps.retry_after = 60
    azure.dps.enrolments[UNIT_ID] = "hub-1.localhost"
    cloud = {"host": "dps.localhost", "port": azure.ports["wss"], "dialect": "azure", "scope": azure.dps.scope}
    try:
        stops(interpreter, files, cloud, "registering", lambda: len(azure.record))
        assert not azure.violations
    finally:
        azure.close()


@both
def test_while_it_waits_for_the_next_attempt(files: Path, interpreter: str) -> None:
    stops(interpreter, files, {"port": free_port()}, "waiting", lambda: 0, base_ms=10**7, cap_ms=10**7)
