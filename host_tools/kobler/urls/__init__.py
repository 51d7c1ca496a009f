"""pyserial URL handlers, found by pyserial once `use()` has put this package in its list."""

from __future__ import annotations


def use() -> None:
    """Let `serial.serial_for_url` look here first, in this process."""
    import serial

    if __name__ not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.insert(0, __name__)
