"""A serial adapter of this computer as the Modbus RTU client of a bus (Modbus over Serial Line V1.02)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import serial

from ..errors import KoblerError
from ..rtu_frame import crc16, sealed
from ..serial_ports import why_not
from . import pdu
from .errors import DeviceRefused, Garbled, NoAnswer

PARITIES = ("even", "none", "odd")
_POLL_S = 0.02
# What adapters, drivers and networks add: USB adapters hand bytes over every 16 ms.
_SLACK_S = 0.05
_GAP_S = 0.1  # longer pauses do not occur inside a frame
_NOISE_S = 2.0
_REOPEN_S = 0.1
_WRITE_S = 5.0
_LONGEST = 256
_SHOWN = 16  # bytes of what is no answer


@dataclass(frozen=True)
class Format:
    """Speed and character format of a bus."""

    baud: int = 19200
    parity: str = "even"
    stop: int = 1

    def __str__(self) -> str:
        return f"{self.baud} baud 8{self.parity[0].upper()}{self.stop}"

    @property
    def character_s(self) -> float:
        return (9 + (self.parity != "none") + self.stop) / self.baud

    @property
    def silence_s(self) -> float:
        """t3.5, which separates frames: fixed above 19200 baud (2.5.1.1)."""
        return 1.75e-3 if self.baud > 19200 else 3.5 * self.character_s


class Unsupported(KoblerError):
    """The adapter cannot have that format."""


class Line:
    """The bus at a port: a device's name, or a URL of pyserial. Use as a context manager.

    RTU has no transaction numbers. What an earlier request still brings is kept out by three things: nothing is sent
    before the line is silent, what came until then is dropped, and an answer counts only if it is of the unit, function
    and length asked for. What is not told apart, a late answer to the very same request, is an answer all the same.
    """

    def __init__(self, port: str, form: Format) -> None:
        self.port, self.form = port, form
        self.settable = not port.startswith("socket://")  # whoever serves a plain socket has set the speed
        self._echoes: bool | None = None  # whether the adapter hears what it sends
        self.late: set[int] = set()  # units whose answers came when another was asked already
        try:
            self._serial = self._open(form)
        except OSError:
            raise KoblerError(why_not(port)) from None
        self._heard = time.monotonic()  # nothing is sent before it was listened for

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._serial.close()

    def _open(self, form: Format) -> Any:
        more = {} if "://" in self.port else {"write_timeout": _WRITE_S}
        try:
            return serial.serial_for_url(
                self.port, timeout=_POLL_S, exclusive=True, baudrate=form.baud, parity=form.parity[0].upper(),
                stopbits=form.stop, **more,
            )  # fmt: skip
        except ValueError:
            raise KoblerError(why_not(self.port)) if "://" in self.port else self._unsupported(form) from None
        except _termios_error() as error:
            if isinstance(error, OSError):
                raise
            raise self._unsupported(form) from None

    def use(self, form: Format) -> None:
        """Change speed and format; Unsupported."""
        wanted = {"baudrate": form.baud, "parity": form.parity[0].upper(), "stopbits": form.stop}
        self.form, self._heard = form, time.monotonic()
        try:
            for name, value in wanted.items():
                if getattr(self._serial, name) != value:
                    setattr(self._serial, name, value)
        except (OSError, ValueError, _termios_error()):
            # Some drivers do not take the parts one by one.
            self._serial.close()
            time.sleep(_REOPEN_S)
            try:
                self._serial = self._open(form)
            except OSError:
                raise self._unsupported(form) from None

    def _broken(self, error: OSError) -> KoblerError:
        return KoblerError(f"the connection to {self.port} broke ({error}): check the adapter")

    def _unsupported(self, form: Format) -> Unsupported:
        return Unsupported(f"{self.port} cannot have {form}: take another --baud, --parity or --stop-bits")

    def overhear(self, seconds: float) -> int:
        """How many bytes come by themselves. KoblerError."""
        ending, count = time.monotonic() + seconds, 0
        try:
            while time.monotonic() < ending:
                count += len(self._read())
        except OSError as error:
            raise self._broken(error) from None
        return count

    def request(self, unit: int, request: bytes, timeout: float) -> bytes:
        """The PDU that answers; `timeout` is what the device may take until it begins. BusFailure, KoblerError."""
        frame = sealed(bytes((unit,)) + request)
        what = pdu.where(unit, request)
        try:
            self._hush()
            self._serial.write(frame)
            got, answer = self._listen(unit, request, frame, timeout)
        except OSError as error:
            raise self._broken(error) from None
        late = self._strangers(unit, request, got)
        if answer is None and not got:
            raise NoAnswer(f"{what}: no answer within {timeout * 1000:.0f} ms")
        if answer is None:
            raise Garbled(f"{what}: {_garbled(late, got)}")
        if answer[0] & 0x80:
            raise DeviceRefused(f"{what}: {pdu.exception(answer[1])}", answer[1])
        return answer

    def _hush(self) -> None:
        # Drop what comes until the line is silent.
        deadline = time.monotonic() + _NOISE_S
        while True:
            if self._serial.in_waiting:
                self._read()
            elif (left := self._heard + self.form.silence_s - time.monotonic()) > 0:
                time.sleep(left)
            else:
                return
            if time.monotonic() > deadline:
                raise KoblerError(
                    f"{self.port}: the bus is never silent: does another master ask, are A and B swapped?"
                )

    def _read(self) -> bytes:
        began = time.monotonic()
        data = bytes(self._serial.read(self._serial.in_waiting or 1))
        if data:
            self._heard = time.monotonic()
        elif time.monotonic() - began < _POLL_S / 4:
            # All that pyserial shows of a lost RFC 2217 connection: nothing, and sooner than the timeout.
            raise serial.SerialException("hung up")
        return data

    def _listen(self, unit: int, request: bytes, frame: bytes, timeout: float) -> tuple[bytearray, bytes | None]:
        got, answer = bytearray(), None
        character = self.form.character_s
        deadline = time.monotonic() + len(frame) * character + timeout + _SLACK_S
        latest = deadline + _LONGEST * character + _GAP_S  # noise does not put it off for ever
        while answer is None and time.monotonic() < deadline:
            data = self._read()
            if data:
                got += data
                self._skip_echo(request, frame, got)
                answer = find_answer(unit, request, got)
                deadline = max(deadline, min(latest, time.monotonic() + _GAP_S))
        if answer is None:
            answer = find_answer(unit, request, got, over=True)
        if answer is not None and self._echoes is None and request[0] not in pdu.ECHOED:
            self._echoes = False
        return got, answer

    def _skip_echo(self, request: bytes, frame: bytes, got: bytearray) -> None:
        # Functions whose answers are their requests tell nothing about the adapter.
        if self._echoes or (self._echoes is None and request[0] not in pdu.ECHOED):
            at = got.find(frame)
            if at >= 0:
                self._echoes = True
                del got[: at + len(frame)]

    def _strangers(self, unit: int, request: bytes, got: bytearray) -> list[int]:
        if not got:
            return []
        found = [other for other in range(1, 256) if other != unit and find_answer(other, request, got, over=True)]
        self.late.update(found)
        return found


def _garbled(late: list[int], got: bytearray) -> str:
    if late:
        return f"unit {late[0]} answered, which had been asked before: give a longer --timeout"
    shown = got[:_SHOWN].hex(" ") + (" …" if len(got) > _SHOWN else "")
    return f"what came is no answer ({shown}): is it the right speed and format, and is that unit there only once?"


def find_answer(unit: int, request: bytes, got: bytearray, over: bool = False) -> bytes | None:
    """The answer's PDU. What may become one is waited for, and nothing inside it counts, until all is `over`."""
    for at, byte in enumerate(got):
        if byte != unit:
            continue
        size = pdu.answer_size(request, got[at + 1 :])
        if size == 0:
            continue
        if size is None or len(got) < at + size + 3:
            if over:
                continue
            return None
        if crc16(got[at : at + size + 3]) == 0:
            return bytes(got[at + 1 : at + 1 + size])
    return None


def _termios_error() -> type[Exception]:
    # pyserial lets it out where a driver refuses a format; Windows has no such module.
    found: type[Exception] = getattr(sys.modules.get("termios"), "error", OSError)
    return found
