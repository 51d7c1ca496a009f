"""esptool over `rfc2217://`, without pyserial's detour.

The read timeout concerns only the client, but pyserial renegotiates speed, format and flow control with
the server whenever it changes, 100 ms each time, and esptool changes it twice a command: half a minute for
what takes three seconds. `python -m kobler.flash.rfc2217 …` is `python -m esptool …` less that.
"""

from __future__ import annotations

import runpy
from typing import Any


def install() -> None:
    """From here on a new read timeout of an `rfc2217://` port is not sent to the server."""
    from serial import rfc2217, serialutil

    inherited = serialutil.SerialBase.timeout

    def change(port: Any, seconds: float | None) -> None:
        # The inherited setter checks the value, and talks to the server only if the port is open.
        was_open, port.is_open = port.is_open, False
        try:
            inherited.fset(port, seconds)
        finally:
            port.is_open = was_open

    rfc2217.Serial.timeout = property(inherited.fget, change)


if __name__ == "__main__":
    install()
    runpy.run_module("esptool", run_name="__main__", alter_sys=True)
