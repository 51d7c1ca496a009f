"""What the unit remembers, seen from outside: power fails, and the flash is what it was."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bus_fakes import Hal
from coupler.store.journal import Journal
from coupler.store.layout import layout
from coupler.store.names import Names
from coupler.store.opening import recover
from coupler.store.reader import Reader
from nor import Nor
from running_coupler import Caller

HISTORY = {"field/meter/power", "field/meter/energy", "field/ahu/supply", "field/ahu/outdoor"}  # of the demonstration

pytestmark = pytest.mark.skipif("config.getoption('--board')", reason="the power of hardware cannot be cut from here")


def single(value: float) -> bytes:
    """What a register has of a number: samples and rows write it with as many digits as each needs."""
    return struct.pack("<f", value)


def kept(state: Path) -> list[str]:
    """The points whose samples lie in the journal of the board's flash, sample by sample."""
    flash = Nor(256)
    flash.data[:] = (state / "board" / "virtual.bin").read_bytes()[0x300000:0x400000]
    regions = layout(flash.sectors)
    names = Names(flash, *regions["names"])
    journal = Journal(Hal(), flash, *regions["journal"], [], 0, 0, False)
    recover(journal)
    journal.names = 0
    reader = Reader(journal, names.load, False)
    reader.seek(0)
    found = []
    while (sample := reader.read()) is not None:
        found.append(sample[1].name)
    return found


def test_no_sample_is_missing_after_power_failed_and_a_repeated_one_is_the_same(tmp_path: Path) -> None:
    seen: dict[int, object] = {}
    lasts = [0]
    for _ in range(3):
        command = [sys.executable, "-m", "kobler", "up", "--json", "--for", "6s", "--state", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        samples = [event for event in events if event["event"] == "sample"]
        for sample in samples:
            what = (sample["point"], sample["value"], round(sample["time"], 3), sample["quality"])
            assert seen.setdefault(sample["seq"], what) == what
        lasts.append(samples[-1]["seq"])
        assert lasts[-1] > lasts[-2] + 5
    assert sorted(seen) == list(range(1, lasts[-1] + 1)), "from the first one on"


def test_what_a_point_was_can_be_asked_for(coupler: Any) -> None:
    caller = Caller(coupler)
    seen = {}
    for _ in range(6):
        for record in coupler.wait(lambda kind, _: kind == "telemetry"):
            if record["n"] == "field/meter/power":
                seen[record["seq"]] = record.get("v")
    status, answer = caller.call("history", point="field/meter/power")
    assert status == 200 and answer["unit"] == "W" and answer["columns"][:2] == ["time", "value"]
    assert {single(value) for value in seen.values()} <= {single(row[1]) for row in answer["rows"]}
    assert abs(answer["rows"][-1][0] - time.time()) < 30
    status, answer = caller.call("history", point="field/meter/power", resolution="hour")
    (row,) = answer["rows"][-1:]
    named = dict(zip(answer["columns"], row, strict=True))
    assert status == 200 and named["count"] >= len(seen) and named["min"] <= named["mean"] <= named["max"]
    assert named["time"] == time.time() // 3600 * 3600
    assert caller.call("history", point="field/meter/frequency")[0] == 409
    assert caller.call("history", point="field/meter/nothing")[0] == 404
    assert caller.call("history", point="field/meter/power", resolution="week")[0] == 400
    reported = caller.call("diagnose")[1]["memory"]
    assert reported["journal"]["dropped"] == 0 and reported["history"]["behind"] < 20
    caller.close()


def test_the_cloud_switched_off_stops_at_once_stays_off_and_the_unit_goes_on_keeping(coupler: Any) -> None:
    coupler.wait(lambda kind, _: kind == "telemetry")
    caller = Caller(coupler)
    assert caller.call("cloud", enabled="no")[0] == 400
    assert caller.call("cloud", enabled=False) == (200, {"enabled": False})
    coupler.wait(lambda kind, payload: kind == "presence" and payload["state"] == "offline", 2)
    caller.close()
    time.sleep(1)
    del coupler.messages[:]
    coupler.mpremote("reset")
    before = kept(coupler.state)
    with pytest.raises(AssertionError, match="did not come"):
        coupler.wait(lambda _kind, _payload: True, 8)
    after = kept(coupler.state)
    assert len(after) > len(before) + 5 and set(after[len(before) :]) <= HISTORY
