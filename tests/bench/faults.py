"""Faults of the link: how late the bus is polled meanwhile, how soon the link is back, what it costs in memory.

The faults of tests/board, with their shorter waits: the lateness does not depend on them, and recovery is given with
its bound.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from main import Row, row

sys.path.insert(0, str(Path(__file__).parents[1] / "board"))

from link_faults import BROKER_FAULTS, NETWORK_FAULTS, QUICK, Site, endure


def link() -> Iterator[Row]:
    """Each fault in turn, on one coupler."""
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder), QUICK) as site:
        stalled = 0
        for fault in BROKER_FAULTS + NETWORK_FAULTS:
            found = endure(site, fault)
            name = "faults." + "_".join(fault.name.lower().replace("/", " ").replace("-", " ").split())
            yield row(f"{name}.poll_late_p99", found.late_p99, "ms", 5)
            yield row(f"{name}.poll_late_most", found.late_most, "ms", None)
            if found.handshakes:
                yield row(f"{name}.poll_late_handshake", found.late_handshake, "ms", None)
            yield row(f"{name}.recovery", found.recovery, "s", found.bound)
            yield row(f"{name}.heap", found.heap, "bytes", None)
            yield row(f"{name}.problems", len(found.problems), "", 0)
            stalled = max(stalled, found.stalled)
        yield row("faults.handshake_stall", stalled, "ms", None)
