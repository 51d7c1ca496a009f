"""A program of the virtual chip's interpreter, on a simulated bus: no board, no flash, only the link."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import kobler.sim
from kobler.sim.link import Link
from kobler.sim.rs485 import Bus
from kobler.sim.rs485_format import Format

OVERLAY = Path(kobler.sim.__file__).parent / "overlay"

PRELUDE = """
import json, sys, _chip
_chip.attach(int(_chip.getenv("KOBLER_LINK")))
from machine import UART, Pin
de = Pin(21, Pin.OUT, value=0)
u = UART(1, 19200, parity=0, tx=17, rx=18, rxbuf=512)
def say(**kw):
    print(json.dumps(kw))
    try:
        sys.stdout.flush()
    except AttributeError:
        pass
def send(data):
    de(1)
    u.write(data)
    while not u.txdone():
        pass
    de(0)
def rest(ms):
    _chip.sleep_us(ms * 1000)
"""


async def run_guest(
    program: str, script: str, devices: Any, *, prepare: Any = None, during: Any = None, meanwhile: Any = None
) -> tuple[list[Any], Bus]:
    """Run a script on the virtual chip's interpreter; its lines of JSON, and the bus as it was left."""
    bus = Bus(Format(19200))
    if prepare is not None:
        await prepare(bus)
    link = Link()
    for device in devices:
        bus.attach(device)
    node = bus.attach_uart(link, 1, 21)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link.attach(ours)
    path = str(OVERLAY)
    process = await asyncio.create_subprocess_exec(
        program,
        "-c",
        script,
        env=dict(os.environ, MICROPYPATH=f"{path}:.frozen", PYTHONPATH=path, KOBLER_LINK=str(theirs.fileno())),
        pass_fds=[theirs.fileno()],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    theirs.close()
    if during is not None:
        during(bus, node)
    if meanwhile is not None:
        await meanwhile(process)
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, out.decode()
    link.detach()
    await asyncio.sleep(0.03)  # what is settled only after a while is accounted for
    lines = [json.loads(line) for line in out.decode().splitlines()]
    stats = bus.stats
    bus.close()
    assert stats is bus.stats
    return lines, bus
