"""Heap taken by each module on a 32-bit heap: the wasm MicroPython under node, within 20 % of the chip's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from main import Row, row

_PACKAGE = "@micropython/micropython-webassembly-pyscript@1.27.0"
_PROBE = Path(__file__).with_name("heap.mjs")

# Modules that need no socket, UART or asyncio to be imported, in the order in which the unit loads them.
_RUNNING = (
    "const", "bus.errors", "bus.pdu", "bus.plan", "bus.rtu", "bus.client", "bus.poller", "points.codec",
    "points.report", "points.table", "store.queue", "net.errors", "net.dns", "net.resolve", "net.sntp",
    "uplink.errors", "uplink.utf8", "uplink.websocket", "uplink.mqtt", "uplink.senml", "uplink.plain",
    "uplink.link", "uplink.outbox", "uplink.inbox", "uplink.session", "watch", "health", "app",
)  # fmt: skip
# Imported for an enrolment only, while nothing else runs.
_ENROLMENT = ("trust.der", "trust.p256", "trust.csr", "trust.x509", "trust.switch", "trust.enrol")


def _node_folder() -> Path:
    """A folder with the package installed, kept between runs beside the other state."""
    folder = Path(__file__).parents[2] / ".kobler" / "bench"
    if not (folder / "node_modules").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), _PACKAGE], check=True, timeout=120
        )
    return folder


def modules_on_32_bit() -> Iterator[Row]:
    if not shutil.which("npm") or not shutil.which("node"):
        print("heap: node and npm are not here, so the 32-bit heap is not measured", file=sys.stderr)
        return
    from kobler.build.modules import compile_all
    from kobler.resources import firmware_dir

    folder = _node_folder()
    with tempfile.TemporaryDirectory() as scratch:
        for module in compile_all(firmware_dir()):
            path = Path(scratch) / module.target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(module.data)
        modules = ["coupler." + name for name in (*_RUNNING, *_ENROLMENT)]
        command = ["node", str(_PROBE), str(folder / "node_modules"), scratch, *modules]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    taken = json.loads(done.stdout)
    for name, size in taken.items():
        yield row(f"heap.module.{name.removeprefix('coupler.')}", size, "bytes", None)
    yield row("heap.running", sum(taken["coupler." + name] for name in _RUNNING), "bytes", 64 * 1024)
    yield row("heap.enrolment", sum(taken["coupler." + name] for name in _ENROLMENT), "bytes", 64 * 1024)
