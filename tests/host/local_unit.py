"""A unit in a folder: the real enrolment of the firmware, on CPython, spoken to as over a cable."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import coupler.hal
from coupler.hal.cpython import Hal
from coupler.trust import enrol
from kobler.provision.console import Refused


class LocalConsole:
    """What `kobler.provision.console.Console` is for a unit at a port. One unit at a time."""

    def __init__(self, folder: Path, unit_id: str) -> None:
        self.port = str(folder)
        self.hal: Any = Hal(str(folder))
        self.hal.unique_id = lambda: bytes.fromhex(unit_id)
        self.hal.reset = self.boot
        self.wire = ""
        self._names: dict[str, Any] = {}
        coupler.hal._hal = self.hal  # type: ignore[assignment]

    def boot(self) -> None:
        self._names = {}
        enrol.recover(self.hal)

    def run(self, code: str, _step: str, _seconds: float = 20.0) -> str:
        return str(self._do(lambda: exec(code, self._names), code))

    def ask(self, expression: str, _step: str, _seconds: float = 20.0) -> Any:
        found: list[Any] = []
        self._do(lambda: found.append(eval(expression, self._names)), expression)
        self.wire += json.dumps(found[0])
        return json.loads(json.dumps(found[0]))

    def reset(self, _code: str) -> None:
        self.boot()

    def _do(self, work: Any, code: str) -> str:
        self.wire += code
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                work()
        except Exception as error:  # noqa: BLE001 - whatever the unit fails with is its answer
            raise Refused(type(error).__name__, str(error)) from None
        self.wire += said.getvalue()
        return said.getvalue()
