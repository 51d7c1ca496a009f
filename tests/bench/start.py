"""What a user waits for, and what the firmware costs: time to the first live value, flash by module, heap."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from kobler.sim.guest import GENEROUS_HEAP, OVERLAY_HEAP
from main import Row, row

_RUNS = 3


def flash_use() -> Iterator[Row]:
    """Bytes of each compiled module, and of all."""
    from kobler.build.modules import compile_all
    from kobler.resources import firmware_dir

    modules = compile_all(firmware_dir())
    for module in modules:
        yield row(f"flash.module.{module.target}", len(module.data), "bytes", None)
    yield row("flash.modules", sum(len(module.data) for module in modules), "bytes", None)


def first_value() -> Iterator[Row]:
    """Seconds from the command to the first value at the broker, with a warm .venv, and the unit's heap after that."""
    seconds, heap = [], []
    for _ in range(_RUNS):
        with tempfile.TemporaryDirectory() as state:
            began = time.monotonic()
            up = subprocess.Popen(
                [sys.executable, "-m", "kobler", "up", "--json", "--for", "12s", "--state", state],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            assert up.stdout is not None
            first = None
            for line in up.stdout:
                event = json.loads(line)
                if event["event"] == "sample" and first is None:
                    first = time.monotonic() - began
                if event["event"] == "summary":
                    heap.append(event["heap_free"])
            if up.wait() != 0 or first is None:
                raise SystemExit("start: kobler up did not reach the broker")
            seconds.append(first)
    yield row("start.first_value", round(statistics.median(seconds), 2), "s", 15.0)
    # The allocator keeps a part in 81 for itself; the overlay's share is the virtual board's, not the firmware's.
    whole = GENEROUS_HEAP * 80 // 81 - OVERLAY_HEAP
    yield row("start.heap_64_bit", whole - statistics.median(heap), "bytes", None)
