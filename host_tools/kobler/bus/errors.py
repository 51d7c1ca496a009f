"""What a request to a device on the bus may come to, whichever way it went."""

from __future__ import annotations

from ..errors import KoblerError


class BusFailure(KoblerError):
    """A request brought no answer that could be used."""


class NoAnswer(BusFailure):
    """Nothing came in time."""


class Garbled(BusFailure):
    """Something came, but no answer."""


class DeviceRefused(BusFailure):
    """The device answered with an exception."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
