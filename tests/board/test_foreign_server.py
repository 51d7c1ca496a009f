"""A libmodbus server on the far end of the bus supplies the values: nothing of ours answers."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

_CONFIG = """
[device]
name = "foreign"
[network]
kind = "ethernet"
[cloud]
enabled = true
url = "wss://localhost:8443/mqtt"
[[bus]]
name = "field"
kind = "rtu"
baudrate = 38400
parity = "none"
stop_bits = 1
[[bus.unit]]
id = 17
name = "meter"
[[bus.unit.point]]
name = "power"
table = "input"
address = 52
type = "float32"
unit = "W"
poll = "500ms"
[[bus.unit.point]]
name = "energy"
table = "holding"
address = 54
type = "u32"
order = "CDAB"
scale = 0.01
unit = "kWh"
poll = "1s"
[[bus.unit]]
id = 18
name = "absent"
timeout = "200ms"
[[bus.unit.point]]
name = "nothing"
table = "holding"
address = 0
type = "i16"
"""


def _registers() -> list[str]:
    power = struct.unpack(">HH", struct.pack(">f", 1234.5))
    energy = struct.unpack(">HH", struct.pack(">I", 9_876_543))
    return [hex(word) for word in (*power, *reversed(energy))]


def test_values_of_a_libmodbus_server_reach_the_broker(server_program: Path, tmp_path: Path) -> None:
    config, bus = tmp_path / "site.toml", tmp_path / "bus"
    config.write_text(_CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "kobler", "up", "--json", "--for", "8s", "--config", config]
    command += ["--rs485", bus, "--state", tmp_path / "state"]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server = None
    try:
        deadline = time.monotonic() + 60
        while not bus.exists():
            assert up.poll() is None and time.monotonic() < deadline, up.communicate(timeout=5)
            time.sleep(0.05)
        server = subprocess.Popen([server_program, bus, "38400", "N", "17", "52", *_registers()], stdin=subprocess.PIPE)
        out, err = up.communicate(timeout=90)
    finally:
        up.kill()
        up.wait()
        if server:
            server.kill()
            server.wait()
    assert up.returncode == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    samples = [event for event in events if event["event"] == "sample"]
    good = {event["point"]: event["value"] for event in samples if event.get("quality") in (None, "good")}
    assert good["field/meter/power"] == 1234.5
    assert good["field/meter/energy"] == pytest.approx(98765.43)
    # The absent unit is silent on a real bus: its point is reported as such, and takes nothing from the others.
    assert "field/absent/nothing" not in good
    assert any(event["point"] == "field/absent/nothing" and event["quality"] == "timeout" for event in samples)
    assert events[-1]["event"] == "summary" and events[-1]["samples"] > 0
