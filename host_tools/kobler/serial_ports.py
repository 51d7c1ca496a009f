"""Serial ports of this computer, and why one of them cannot be opened."""

from __future__ import annotations

import errno

import serial
import serial.tools.list_ports


def ports() -> list[str]:
    """The serial ports of this machine that belong to a USB device."""
    return sorted(port.device for port in serial.tools.list_ports.comports() if port.vid is not None)


def why_not(port: str) -> str:
    """What keeps a port (a device's name, or a URL of pyserial) from being opened: it is tried once more to see."""
    try:
        serial.serial_for_url(port, timeout=1, exclusive=True).close()
    except ValueError:
        return f"{port} is not a serial port: give a device's name or rfc2217://HOST:PORT"
    except OSError as error:
        text = str(error)
        if error.errno == errno.ENOENT or "FileNotFoundError" in text:
            here = ", ".join(ports()) or "none"
            return f"there is no port {port}: is it plugged in? USB serial ports here: {here}"
        if error.errno == errno.EACCES:
            return f"you may not open {port}: add yourself to its group (often dialout)"
        if error.errno in (errno.EBUSY, errno.EAGAIN) or "PermissionError" in text:
            return f"{port} is busy: close the other program that uses it"
        if "does not seem to support RFC2217" in text:
            return f"{port} is busy, or is no RFC 2217 server: close the other program that uses it"
        if "refused" in text:
            return f"nobody serves {port}: is its server running (that of a virtual board: `kobler sim run`)?"
        return f"cannot open {port}: {text}"
    return f"cannot open {port} at the first attempt: run the command again"
