"""esptool over `rfc2217://`, without pyserial's detour.

The read timeout concerns only the client, but pyserial renegotiates speed, format and flow control with
the server whenever it changes, 100 ms each time, and esptool changes it twice a command: half a minute for
what takes three seconds. It also looks for each answer every 50 ms only. `python -m kobler.flash.rfc2217 …`
is `python -m esptool …` less that.
"""

from __future__ import annotations

import runpy
import time
from typing import Any

_LOOK_S = 0.001


def install() -> None:
    """From here on an `rfc2217://` port's new read timeout is not sent to the server, and answers are seen at once."""
    from serial import SerialException, rfc2217, serialutil

    inherited = serialutil.SerialBase.timeout

    def change(port: Any, seconds: float | None) -> None:
        # The inherited setter checks the value, and talks to the server only if the port is open.
        was_open, port.is_open = port.is_open, False
        try:
            inherited.fset(port, seconds)
        finally:
            port.is_open = was_open

    def wait(option: Any, seconds: float = 3) -> None:
        deadline = time.monotonic() + seconds
        while not option.is_ready():
            if time.monotonic() > deadline:
                raise SerialException(f"timeout while waiting for option {option.name!r}")
            time.sleep(_LOOK_S)

    rfc2217.Serial.timeout = property(inherited.fget, change)
    rfc2217.TelnetSubnegotiation.wait = wait


if __name__ == "__main__":
    install()
    runpy.run_module("esptool", run_name="__main__", alter_sys=True)
