"""A day without the broker, on the real MicroPython and on CPython: every sample of it arrives, with its time."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from uplink_world import INTERPRETERS, UNIT_ID, Broker, Ca, Loop, unit

HOURS = 24
POINTS = 50


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize(
    "samples",
    [pytest.param(20_000, id="20000 samples"), pytest.param(158_000, id="158000 samples", marks=pytest.mark.long)],
)
def test_a_day_offline_arrives_whole_and_dated_once_the_broker_is_back(
    loop: Loop, ca: Ca, files: Path, interpreter: str, samples: int
) -> None:
    broker = Broker(loop, ca.context())
    given = {"offline_h": HOURS, "points": POINTS, "samples": samples, "sectors": 256, "seconds": 300}
    if interpreter == "micropython":
        given["heap"] = "3m"  # 1 MB of it is the journal's flash
    try:
        with unit(interpreter, files, {"port": broker.port}, **given) as one:
            lost = one.until(lambda r: "offline_after" in r)
            broker.stop()
            began = time.time()
            back = one.until(lambda r: "online_after" in r, 100)
            assert back["waiting"] >= samples and back["dropped"] == 0
            broker.start()
            times: dict[int, float] = {}
            wanted = set(range(lost["offline_after"] + 1, back["online_after"] + 1))
            while wanted - times.keys():
                base = 0.0
                for record in broker.next(f"kobler/{UNIT_ID}/telemetry", 20):
                    base = record.get("bt", base)
                    at = base + record.get("t", 0)
                    assert times.setdefault(record["seq"], at) == at
            one.until(lambda r: r["acked"] >= back["online_after"])
    finally:
        broker.stop()
    whole = [times[seq] for seq in sorted(wanted)]
    assert whole == sorted(whole)
    assert abs(whole[0] - (began - 3600 * HOURS)) < 30 and abs(whole[-1] - began) < 30
    step = 3600 * HOURS / samples
    assert max(abs(b - a - step) for a, b in itertools.pairwise(whole)) < 1 + time.time() - began
