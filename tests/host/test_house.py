"""The house stays as designed: who may import whom, no circles, and only hal/ knows where it runs (docs/design.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).parents[2] / "firmware"
COUPLER = FIRMWARE / "coupler"

# A room may import the rooms listed for it, itself and the constants; nothing runs back up, hal is handed in.
ALLOWED = {
    "app": {
        "access",
        "bus",
        "compose",
        "health",
        "local",
        "net",
        "points",
        "store",
        "trust",
        "update",
        "uplink",
        "watch",
    },
    "compose": {"access", "bus", "health", "local", "net", "points", "store", "trust", "update", "uplink", "watch"},
    # Runs in app's place, by the same parts.
    "doctor": {"compose", "net", "store", "trust", "uplink"},
    "update": {"trust", "uplink", "bus", "points", "store", "net"},
    "access": {"trust", "uplink", "bus", "points", "store", "net"},
    "local": {"trust", "uplink", "bus", "points", "store", "net"},
    "trust": {"net", "store"},
    "uplink": {"net", "points", "store"},
    "bus": set(),
    "points": set(),
    "store": set(),
    "net": set(),
    "hal": {"net"},  # the sockets raise net's typed errors
    "watch": set(),
    "health": set(),
    "const": set(),
}

# Modules that exist on one runtime only, or whose behaviour differs between them.
RUNTIME_MODULES = {
    "machine", "esp32", "network", "micropython", "uctypes", "select", "socket", "ssl", "tls", "vfs", "btree",
    "bluetooth", "busio", "board", "digitalio", "microcontroller", "supervisor", "wifi", "socketpool", "storage",
    "watchdog", "nvm", "serial", "pathlib", "threading", "subprocess", "_thread", "ctypes", "fcntl", "termios", "pty",
}  # fmt: skip


def sources() -> list[Path]:
    return sorted(path for path in FIRMWARE.rglob("*.py") if path.name != "manifest.py")


def module_name(path: Path) -> str:
    parts = list(path.relative_to(FIRMWARE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted module) of every import in the file, at any depth."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def room(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(FIRMWARE)))
def test_imports_run_in_the_direction_of_the_design(path: Path) -> None:
    name = module_name(path)
    for line, target in imports(path):
        where = f"{path.relative_to(FIRMWARE.parent)}:{line} imports {target}"
        assert target.split(".")[0] not in {"kobler", "host_tools"}, f"{where}: the firmware knows nothing of the host"
        if target in {"coupler.VERSION", "coupler.RELEASED_MS"}:
            continue
        if target.startswith("coupler.") and name.startswith("coupler."):
            assert room(target) in ALLOWED[room(name)] | {room(name), "const"}, f"{where}: against the import direction"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(FIRMWARE)))
def test_only_hal_names_a_runtime(path: Path) -> None:
    if path.is_relative_to(COUPLER / "hal") or path == COUPLER / "const.py":
        return
    if path.name == "boot.py":
        return  # of the chip's port: it must lock the console before it can trust any other file
    for line, target in imports(path):
        assert target.split(".")[0] not in RUNTIME_MODULES, f"{path.name}:{line} imports {target}: ask hal for it"
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"sys\.(implementation|platform)\b", text), f"{path.name} asks where it runs: only hal/ may"


def test_no_module_is_part_of_a_circle() -> None:
    known = {module_name(path): path for path in sources()}
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = set()
        for _, target in imports(path):
            # `from package.module import name` and `from package import module` look alike: the longest that exists.
            hit = target if target in known else target.rpartition(".")[0]
            if hit in known and hit != name:
                found.add(hit)
        graph[name] = found
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "circle: " + " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in graph[name]:
                walk(target, (*way, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_every_room_of_the_firmware_is_in_the_table() -> None:
    rooms = {path.stem for path in COUPLER.iterdir() if path.name not in {"__init__.py", "__pycache__"}}
    assert rooms <= set(ALLOWED)
