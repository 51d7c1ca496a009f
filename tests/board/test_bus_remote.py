"""`kobler bus scan`, `read` and `write` through a running coupler, by its methods: the whole chain."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    "config.getoption('--board')", reason="the demonstration's devices are on the virtual board's bus only"
)

_DEMO = Path(__file__).parents[2] / "host_tools" / "kobler" / "sim" / "demo.toml"


def _writable(text: str, name: str, rules: str) -> str:
    """The demonstration with a point of the air handling unit made writable."""
    at = text.index(f'name = "{name}"', text.index('name = "ahu"'))
    end = text.index("\n\n", at)
    return text[:end] + f"\nwrite = {rules}" + text[end:]


CONFIG = _DEMO.read_text(encoding="utf-8")
for point in (
    ("setpoint", "{ min = 10.0, max = 30.0, verify = true }"),
    ("fan", "{ max = 100 }"),
    ("running", "{ verify = true }"),
):
    CONFIG = _writable(CONFIG, *point)


def command(coupler: Any, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "kobler", "bus", *arguments, "--state", str(coupler.state)]


def run(coupler: Any, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(coupler, *arguments), capture_output=True, text=True, timeout=60, check=False, **more)


def bus(coupler: Any, *arguments: str) -> list[dict[str, Any]]:
    done = run(coupler, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(coupler: Any, *arguments: str, code: int = 1) -> str:
    done = run(coupler, *arguments)
    assert done.returncode == code, done.stdout
    assert done.stderr.startswith("kobler: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(autouse=True)
def live(coupler: Any) -> None:
    """The coupler has a connection and has read its points."""
    if not coupler.messages:
        coupler.wait(lambda topic, _: topic == "telemetry")


def test_registers_are_read_as_at_an_adapter(coupler: Any) -> None:
    (row,) = bus(coupler, "read", "17", "input", "52", "--type", "float32")
    assert row["count"] == 2 and 500 < row["values"][0] < 4500
    (row,) = bus(coupler, "read", "1", "coil", "0", "--bus", "field")
    assert row["raw"] in ([0], [1])
    text = refused(coupler, "read", "17", "holding", "900")
    assert "unit 17" in text and "address 900" in text and "exception 2 (illegal data address)" in text
    text = refused(coupler, "read", "33", "holding", "0")
    assert "unit 33" in text and "timeout" in text
    assert "there is no bus attic" in refused(coupler, "read", "17", "input", "52", "--bus", "attic")


def test_a_point_is_read_by_its_name(coupler: Any) -> None:
    (row,) = bus(coupler, "read", "field/meter/power")
    assert row["event"] == "point" and row["unit"] == "W" and row["quality"] == "good" and row["age"] < 5
    assert 500 < row["value"] < 4500
    shown = run(coupler, "read", "field/meter/power").stdout
    assert shown.startswith("field/meter/power: ") and " W, good, read " in shown
    assert "there is no point field/meter/colour" in refused(coupler, "read", "field/meter/colour")


def test_a_scan_finds_the_devices_while_the_coupler_goes_on_reading(coupler: Any) -> None:
    lines = bus(coupler, "scan", "--units", "1-20", "--timeout", "100ms")
    found = {line["unit"]: line["product"] for line in lines if line["event"] == "found"}
    assert found == {1: "ahu", 5: "heatpump", 17: "meter"}
    assert lines[-1]["found"] == [1, 5, 17] and lines[-1]["complete"]
    other = ("--baud", "9600", "--parity", "even", "--timeout", "30ms")
    assert "no device answered" in refused_after_lines(coupler, "scan", "--units", "16-18", *other)
    lines = bus(coupler, "scan", "--units", "16-18", "--baud", "9600,19200", "--parity", "even", "--timeout", "50ms")
    assert lines[0].items() >= {"unit": 17, "baud": 19200, "parity": "even"}.items()
    # The bus has its own speed again.
    began = time.monotonic()
    assert bus(coupler, "read", "field/meter/power")[0]["age"] < 3
    coupler.wait(lambda topic, _: topic == "telemetry")
    assert time.monotonic() - began < 15


def refused_after_lines(coupler: Any, *arguments: str) -> str:
    done = run(coupler, *arguments)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_ctrl_c_shows_what_was_found_so_far(coupler: Any) -> None:
    scan = subprocess.Popen(
        command(coupler, "scan", "--units", "1,60-247"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert scan.stdout is not None and scan.stdout.readline().startswith("unit   1")
    time.sleep(0.5)
    scan.send_signal(signal.SIGINT)
    out, err = scan.communicate(timeout=20)
    assert scan.returncode == 130 and "stopped; so far 1 found: 1" in out, err
    assert "Traceback" not in err


def test_a_point_is_written_by_the_rules_of_the_configuration(coupler: Any) -> None:
    (row,) = bus(coupler, "write", "field/ahu/setpoint", "21.5")
    assert (row["event"], row["value"], row["verified"]) == ("written", 21.5, True)
    assert bus(coupler, "read", "1", "holding", "0")[0]["raw"] == [215]
    assert "from 10.0 to 30.0 Cel" in refused(coupler, "write", "field/ahu/setpoint", "99")
    assert "is not writable" in refused(coupler, "write", "field/ahu/supply", "20")
    assert "is not allowed" in refused(coupler, "write", "field/ahu/fan", "-5")
    assert bus(coupler, "read", "1", "holding", "0")[0]["raw"] == [215]
    for text, value in ("off", False), ("1", True), ("false", False), ("on", True):
        assert bus(coupler, "write", "field/ahu/running", text)[0]["value"] is value


def test_a_write_that_is_not_verified_shows_what_was_read_after_it(coupler: Any) -> None:
    before = bus(coupler, "read", "field/ahu/fan")[0]["value"]
    wanted = 40 if before != 40 else 50
    (row,) = bus(coupler, "write", "field/ahu/fan", str(wanted))
    assert (row["value"], row["verified"]) == (wanted, False)


def test_registers_are_written_only_where_a_writable_point_is(coupler: Any) -> None:
    (row,) = bus(coupler, "write", "1", "holding", "0", "20.5", "--type", "i16", "--scale", "0.1")
    assert row["after"] == [205]
    text = refused(coupler, "write", "1", "holding", "1", "5")
    assert "unit 1, holding register 1" in text and "no writable point" in text
    assert "from 10.0 to 30.0" in refused(coupler, "write", "1", "holding", "0", "20")
    assert "timeout" in refused(coupler, "write", "33", "holding", "0", "20")
    assert bus(coupler, "read", "1", "holding", "0")[0]["raw"] == [205]


def test_a_point_too_is_confirmed_on_a_terminal(coupler: Any) -> None:
    bus(coupler, "write", "field/ahu/setpoint", "20")
    master, slave = pty.openpty()
    try:
        os.write(master, b"n\n")
        done = run(coupler, "write", "field/ahu/setpoint", "25", stdin=slave)
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 1 and "field/ahu/setpoint: 20 -> 25. Write it?" in done.stderr
    assert bus(coupler, "read", "field/ahu/setpoint")[0]["value"] == 20


def test_another_certificate_and_an_unknown_device(coupler: Any) -> None:
    issued = subprocess.run(
        [sys.executable, "-P", "-m", "kobler", "pki", "issue", "technician", "--state", str(coupler.state)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "technician" in issued.stdout
    clients = coupler.state / "pki" / "clients"
    own = ["--cert", str(clients / "technician.pem"), "--key", str(clients / "technician.key")]
    own += ["--ca", coupler.endpoint["ca"], "--broker", coupler.endpoint["broker"]]
    assert bus(coupler, "read", "field/meter/power", *own, "--device", coupler.endpoint["device"])[0]["unit"] == "W"
    text = refused(coupler, "read", "field/meter/power", *own, "--device", "0242ac11ffff")
    assert "never heard of a coupler 0242ac11ffff" in text
    assert "--device" in refused(coupler, "read", "field/meter/power", *own, code=2)
