"""`kobler doctor --port` at a coupler that runs: it finds all well, and the coupler goes back to work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from running_coupler import Coupler

CHECKS = ["configuration", "network", "time", "identity", "dns", "tcp", "tls", "websocket", "mqtt"]


def command(coupler: Coupler, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "kobler", "doctor", "--port", coupler.usb, *options]


def back_to_work(coupler: Coupler) -> int:
    """The number of the start after which samples come again."""
    presence = coupler.wait(lambda kind, said: kind == "presence" and said["state"] == "online")
    coupler.wait(lambda kind, _: kind == "telemetry")
    return int(presence["boot"])


def test_a_coupler_finds_its_own_way_and_goes_back_to_work(coupler: Coupler) -> None:
    before = back_to_work(coupler)
    done = subprocess.run(command(coupler, "--json"), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["event"] == "unit" and lines[0]["id"] == coupler.endpoint["device"]
    checks = [line for line in lines if line["event"] == "check"]
    assert list(dict.fromkeys(line["check"] for line in checks)) == CHECKS
    assert all(line["ok"] is True and not line["remedy"] for line in checks)
    # A handshake takes its time on any unit.
    assert all(line["seconds"] > 0 for line in checks if line["check"] == "tls")
    port = int(coupler.endpoint["broker"].rpartition(":")[2].partition("/")[0])
    assert (port, "TCP") in [(line["port"], line["protocol"]) for line in lines if line["event"] == "rule"]
    coupler.wait(lambda kind, said: kind == "presence" and said["state"] == "offline")
    assert back_to_work(coupler) == before + 1


def test_ctrl_c_sets_the_coupler_going_again(coupler: Coupler) -> None:
    process = subprocess.Popen(command(coupler, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["event"] == "unit"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    coupler.wait(lambda kind, said: kind == "presence" and said["state"] == "offline")
    back_to_work(coupler)
