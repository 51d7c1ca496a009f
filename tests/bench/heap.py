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

# In the order in which the unit loads them; -NAME… where it forgets some again.
_FORGOTTEN = (
    "-trust.switch,trust.vault,store.snapshot,store.layout",
    "-compose,bus.plan,points.load,points.kinds,store.layout,store.names,store.opening,store.recovery,"
    "store.resuming,store.groups,store.entries",
    "-net.sntp,net.lookup,net.dns,net.dial",
    "-uplink.upgrade",
)
_RUNNING = (
    "const", "hal", "hal.base", "hal.chip", "hal.micropython", "trust", "trust.switch",
    "trust.vault", _FORGOTTEN[0],
    "watch", "health", "net.errors", "trust.expiry", "app",
    "store.ring", "store.samples", "store.journal", "store.cells", "store.reader",
    "store.statistics", "store.recovery", "store.opening", "store.names", "store.layout",
    "store.resuming",
    "bus.errors", "bus.pdu", "bus.plan", "points.codec", "points.report", "points.table", "points.kinds",
    "points.load",
    "bus.rtu", "bus.client", "hal.port", "bus.poller", "compose", _FORGOTTEN[1],
    "uplink.errors", "uplink.utf8", "uplink.mqtt", "uplink.plain", "uplink.inbox", "uplink.link", "uplink.senml",
    "uplink.outbox", "uplink.session", "hal.interface", "hal.micropython_net",
    "net.sntp", "net.resolve", "net.lookup", "net.dns", "net.dial", _FORGOTTEN[2], "uplink.websocket", "uplink.upgrade",
    _FORGOTTEN[3],
)  # fmt: skip
# Imported for an enrolment only, while nothing else runs.
_ENROLMENT = (
    "trust.der",
    "trust.p256",
    "trust.csr",
    "trust.x509",
    "trust.chains",
    "trust.rsa",
    "trust.switch",
    "trust.vault",
    "trust.enrol",
)


def _on_the_unit(names: str) -> str:
    sign = "-" if names.startswith("-") else ""
    return sign + ",".join("coupler." + name for name in names.lstrip("-").split(","))


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
        modules = [_on_the_unit(name) for name in (*_RUNNING, *_ENROLMENT)]
        command = ["node", str(_PROBE), str(folder / "node_modules"), scratch, *modules]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    taken = json.loads(done.stdout)
    for name, size in taken.items():
        kind = "forgotten" if name.startswith("-") else "module"
        yield row(f"heap.{kind}.{name.lstrip('-').replace('coupler.', '')}", size, "bytes", None)
    hal = sum(taken[_on_the_unit(name)] for name in _RUNNING if name.startswith("hal"))
    yield row("heap.hal", hal, "bytes", None)
    yield row("heap.running", sum(taken[_on_the_unit(name)] for name in _RUNNING), "bytes", 64 * 1024)
    yield row("heap.enrolment", sum(taken[_on_the_unit(name)] for name in _ENROLMENT), "bytes", 64 * 1024)
