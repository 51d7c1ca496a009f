"""Which interpreter the virtual board runs, and whether it will do."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kobler.errors import KoblerError

OLDEST = (1, 24, 0)
_REMEDY = "set KOBLER_MICROPYTHON to a MicroPython of the unix port, 1.24 or later"
_PROBE = "import sys; i = sys.implementation; print(i.name, *i.version[:3]); import vfs; vfs.VfsLfs2"


def micropython() -> Path:
    """KOBLER_MICROPYTHON, else the one installed beside Python, else one on PATH; checked that it answers."""
    named = os.environ.get("KOBLER_MICROPYTHON")
    beside = Path(sys.executable).parent / "micropython"
    if named:
        found = shutil.which(named)
        if found is None:
            raise KoblerError(f"KOBLER_MICROPYTHON names {named}, which is not a program; {_REMEDY}")
    elif beside.exists():
        found = str(beside)
    else:
        found = shutil.which("micropython")
        if found is None:
            raise KoblerError(f"no MicroPython for the virtual board on this machine; {_REMEDY}")
    _check(found)
    return Path(found)


@functools.cache
def _check(program: str) -> None:
    try:
        done = subprocess.run([program, "-c", _PROBE], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KoblerError(f"{program} does not run as MicroPython: {error}; {_REMEDY}") from error
    words = done.stdout.split()
    if len(words) != 4 or words[0] != "micropython":
        raise KoblerError(f"{program} does not answer as MicroPython; {_REMEDY}")
    if tuple(int(word) for word in words[1:]) < OLDEST:
        raise KoblerError(f"{program} is MicroPython {'.'.join(words[1:])}; {_REMEDY}")
    if done.returncode:
        raise KoblerError(f"{program} lacks the littlefs file system (vfs.VfsLfs2); {_REMEDY}")
