"""pyserial's RFC 2217 client without needless waiting: esptool over it takes a fraction of the time.

pyserial negotiates every port setting afresh, over 100 ms, whenever a program changes its read timeout,
which is none of the port's settings; esptool changes it twice a command. And it looks for an answer every 50 ms.
"""

from __future__ import annotations

import time
from typing import Any

from serial import SerialException, rfc2217

_LOOK_S = 0.001


class Serial(rfc2217.Serial):  # type: ignore[misc]
    """`rfc2217://HOST:PORT`, as pyserial documents it."""

    _negotiated: tuple[Any, ...] | None = None

    def open(self) -> None:
        self._negotiated = None
        super().open()

    def _reconfigure_port(self) -> None:
        wanted = (
            self._baudrate,
            self._bytesize,
            self._parity,
            self._stopbits,
            self._rtscts,
            self._xonxoff,
            self._write_timeout,
        )
        if wanted != self._negotiated:
            super()._reconfigure_port()
            self._negotiated = wanted

    def rfc2217_send_purge(self, value: bytes) -> None:
        self._request("purge", value)

    def rfc2217_set_control(self, value: bytes) -> None:
        if self._ignore_set_control_answer:
            super().rfc2217_set_control(value)
        else:
            self._request("control", value)

    def _request(self, name: str, value: bytes) -> None:
        option = self._rfc2217_options[name]
        option.set(value)
        deadline = time.monotonic() + self._network_timeout
        while not option.is_ready():
            if time.monotonic() > deadline:
                raise SerialException(f"timeout while waiting for option {name!r}")
            time.sleep(_LOOK_S)
