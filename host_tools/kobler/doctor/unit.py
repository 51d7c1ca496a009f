"""The same questions asked by the unit itself: its own doctor (coupler/doctor.py), started over its serial port.

The unit's application is stopped for it, its bus is not read meanwhile. The unit's doctor restarts the unit when it
ends, however it ends; what is here sees to the rest: a unit that has not begun, and Ctrl-C at this computer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

from ..config.firewall import Needs
from ..errors import KoblerError
from ..provision.console import MARK, Console, Refused
from .finding import Finding
from .remedies import remedy

# The unit's own bounds end any step sooner: coupler/doctor.py, and those of what it calls.
_SILENCE_S = 150.0
_BOOT_S = 15.0
_LOAD = "from coupler import hal\nh=hal.get()\nfrom coupler import doctor"
_RESET = "import machine\nimport time\ntime.sleep(0.1)\nmachine.reset()"
_RUNS = b"kobler: firmware"  # what its application says first

Unit = dict[str, Any]
Event = Finding | Needs | Unit


def examine(port: str, say: Callable[[str], None]) -> Generator[Event, None, None]:
    """What the unit at `port` says, as it comes: who it is (a dict), its findings, and what it needs of a firewall.

    KoblerError when it cannot be asked. The unit is back in its normal run afterwards, or `say` tells that it is not
    known to be."""
    say(f"stopping the unit at {port}: it goes on by itself when this is over")
    with Console(port) as console:
        _load(console)
        lines = console.lines("doctor.main(h)", "examining its connection", _SILENCE_S)
        ended = False
        try:
            for line in lines:
                event = _read(line)
                if event is None:
                    continue
                if event.get("event") == "end":
                    ended = True
                    if event.get("why"):
                        raise KoblerError(f"the unit at {port} gave up ({event['why']}): run the command again")
                    break
                found = _event(event)
                if found is not None:
                    yield found
            if not ended:
                raise KoblerError(f"the unit at {port} broke off: run the command again")
        finally:
            # Closing the port moves its lines, which resets some boards: not in the middle of the unit's own restart.
            if not ended:
                _stop(console)
            if not console.await_words(_RUNS, _BOOT_S):
                say(f"the unit at {port} has not said that it runs again: if it does not, press its reset button")


def _load(console: Console) -> None:
    step = "loading its doctor"
    try:
        console.run(_LOAD, step)
    except Refused as refused:
        _restart(console)
        if refused.kind == "ImportError":
            raise KoblerError(
                f"the unit at {console.port} has no doctor of its own: put this firmware on it with `kobler flash`"
            ) from None
        raise KoblerError(f"the unit at {console.port} failed while {step}: {refused}") from None
    except BaseException:
        _restart(console)
        raise


def _restart(console: Console) -> None:
    try:
        console.reset(_RESET)
    except KoblerError:
        pass  # its watchdog sees to it


def _stop(console: Console) -> None:
    # Its doctor ends with a restart of the unit.
    try:
        console.interrupt()
    except KoblerError:
        pass  # it ends by itself, every step has its bound


def _read(line: str) -> dict[str, Any] | None:
    if not line.startswith(MARK):
        return None
    try:
        found = json.loads(line[len(MARK) :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _event(line: dict[str, Any]) -> Event | None:
    kind = line.pop("event", None)
    try:
        if kind == "unit":
            return line
        if kind == "needs":
            return Needs.said(line["needs"])
        if kind == "check":
            return _finding(line)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return None


def _finding(line: dict[str, Any]) -> Finding:
    check, ok, what = str(line["check"]), line["ok"], str(line.get("kind") or "")
    detail = "".join(char if char.isprintable() else "?" for char in str(line["detail"]))
    todo = ""
    if ok is False or what:
        todo = remedy(check, what, detail, str(line.get("host") or ""), int(line.get("port") or 0))
    return Finding(check, ok if isinstance(ok, bool) else None, detail, todo, float(line["ms"]) / 1000)
