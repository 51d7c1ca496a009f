"""Write a build with one call of the unmodified esptool.

Only the build's regions are written: the partitions `nvs` (counters) and `journal` (records) keep what they
hold, unless the whole flash is erased first.
"""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from ..build import Build
from ..errors import KoblerError

Progress = Callable[[float, str], None]

BAUD = 921600
# Erasing 16 MB takes up to two minutes and esptool is silent meanwhile.
_SILENCE_S = 300.0

_WRITING = re.compile(r"Writing at (0x[0-9a-f]+)")
_ERROR = re.compile(r"ERROR: (?:A (?:fatal|serial exception) error occurred: )?(.*)")

# (what esptool or the system says, what to do about it); the first that is found
_REMEDIES = (
    (
        r"No such file|FileNotFoundError|cannot find the file",
        "plug the board in and name its port with --port",
    ),
    (r"Connection refused|Name or service|No route|timed out", "nothing answers at this address: start what serves it"),
    (r"Permission denied|\[Errno 13\]", "your user may not use the port (on Linux: join the group dialout)"),
    (r"busy or|Access is denied|exclusively lock|Errno 16", "close other programs that use the port"),
    (r"Wrong chip|This chip is", "choose the --board that is connected"),
    (r"Failed to connect|No serial data|Invalid head", "hold BOOT, press RESET, let BOOT go, and try again"),
    (
        r"will not fit|flash size|exceed",
        "the board's flash is smaller than its file says: choose another --board",
    ),
)
_OTHERWISE = "check the cable, try again with a lower --baud"


def command(build: Build, port: str, baud: int, erase: bool) -> list[str]:
    """esptool's command line; -P keeps an esptool.py in the current folder out."""
    module = "kobler.flash.rfc2217" if port.startswith("rfc2217:") else "esptool"
    line = [
        sys.executable,
        "-P",
        "-m",
        module,
        "--chip",
        build.contents.chip,
        "--port",
        port,
        "--baud",
        str(baud),
    ]
    line += ["write-flash", *(["--erase-all"] if erase else [])]
    for offset, path in build.regions:
        line += [f"{offset:#x}", str(path)]
    return line


def flash(build: Build, port: str, baud: int = BAUD, progress: Progress | None = None, *, erase: bool = False) -> None:
    """Write every region, verified by esptool; `progress(fraction, what)` hears of it.

    `port`: a serial port or a pyserial URL. Raises KoblerError with esptool's own words and a remedy.
    """
    say = progress or (lambda fraction, what: None)
    # Plain wide lines, whatever terminal or colour settings are in force here.
    # Passphrases and PINs (pki/secret.py) are none of its business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KOBLER_")}
    environment |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONIOENCODING"] = "utf-8"
    process = subprocess.Popen(
        command(build, port, baud, erase),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    lines: list[str] = []
    try:
        say(0.0, f"connecting to {port}")
        for line in _output(process, port):
            lines.append(line)
            step = _step(line, build, erase)
            if step is not None:
                say(*step)
        status = process.wait(_SILENCE_S)
    finally:
        # Also on Ctrl-C: esptool must not keep the port.
        if process.poll() is None:
            process.kill()
            process.wait()
    if status:
        raise KoblerError(_failure(lines, port, status))
    say(1.0, "flashed and verified")


def _output(process: subprocess.Popen[str], port: str) -> Iterator[str]:
    """esptool's lines as they come; KoblerError if it says nothing for too long."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    out = process.stdout
    assert out is not None

    def pump() -> None:
        with out:
            for line in out:
                lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=pump, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_SILENCE_S)
        except queue.Empty:
            raise KoblerError(f"{port}: esptool has said nothing for {_SILENCE_S:.0f} s; {_OTHERWISE}") from None
        if line is None:
            return
        yield line


def _step(line: str, build: Build, erase: bool) -> tuple[float, str] | None:
    """How far the whole write is, as far as a line tells."""
    regions = build.contents.regions
    total = sum(region.size for region in regions)
    if match := _WRITING.search(line):
        at, before = int(match[1], 16), 0
        for region in regions:
            if region.offset <= at <= region.offset + region.size:
                return (before + at - region.offset) / total, f"writing {region.name}"
            before += region.size
    if line.startswith("Erasing flash") and erase:
        return 0.0, "erasing the whole flash"
    return None


def _failure(lines: list[str], port: str, status: int) -> str:
    """esptool's error, its explanation in brackets if there is one, and what to do."""
    for index, line in enumerate(lines):
        if match := _ERROR.search(line):
            why = lines[index + 1] if lines[index + 1 :] and lines[index + 1].startswith("(") else ""
            said = f"{match[1].rstrip('.')} {why}".strip()
            remedy = next((text for sign, text in _REMEDIES if re.search(sign, why or said)), "")
            remedy = remedy or next((text for sign, text in _REMEDIES if re.search(sign, said)), _OTHERWISE)
            return f"{port}: esptool: {said}; {remedy}"
    last = next((line for line in reversed(lines) if line.strip()), "nothing")
    return f"{port}: esptool ended with status {status} after saying: {last}"
