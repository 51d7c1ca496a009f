"""The unit's MicroPython console, through mpremote's transport, with an end to every wait.

mpremote waits for ever in places (a unit that never stops printing, one that stops in the middle of a raw
paste): `_Bounded` stands between it and the port and ends any wait at the step's deadline.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import time
from collections.abc import Iterator
from typing import Any

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from ..errors import KoblerError
from ..serial_ports import why_not

_READ_TIMEOUT = 5.0  # seconds that mpremote may wait for the two bytes that open a raw paste
# Opening the port resets some boards, and what is sent while they boot is lost: so the prompt is asked twice.
_CONNECT_SECONDS = 10.0
_CONNECT_ATTEMPTS = 2
_WORDS = 400  # characters of what a unit says of an error
MARK = "@kobler "
# What a unit says instead of a prompt (coupler/trust/lock.py); with its id.
LOCKED = rb"kobler: the console of ([0-9a-f]{8,32}) is locked"
_END = b"\x04"  # of what a statement prints
# What a statement came to is one line; whatever else the unit prints is not mistaken for it.
_ASK = """
try:
 _r={"answer":%s}
except Exception as _e:
 _r={"error":type(_e).__name__,"text":str(_e)}
import json
print(%r+json.dumps(_r))
"""


def printable(text: str) -> str:
    """What a unit says, for a terminal that would obey some of it."""
    return "".join(c if c.isprintable() else "?" for c in text[:_WORDS])


class Refused(KoblerError):
    """The unit answered with an exception of its own."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = printable(kind), printable(text)
        super().__init__(f"{self.kind}: {self.text}" if text else self.kind)


class Locked(KoblerError):
    """There is no prompt, for the unit's console is locked."""

    def __init__(self, port: str, unit_id: str) -> None:
        self.id = unit_id
        super().__init__(
            f"the console of unit {unit_id} is locked: `kobler unlock --port {port}`, or restart the unit and hold "
            "its button in the first minute"
        )


class _Deadline(Exception):
    pass


class _Bounded:
    """A serial port of which every call after the deadline fails; `lost` once it failed by itself."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.lost = False
        self.deadline = time.monotonic() + _CONNECT_SECONDS
        self.heard: bytearray | None = None  # while a prompt is awaited, all that came instead

    @contextlib.contextmanager
    def _call(self) -> Iterator[Any]:
        if time.monotonic() > self.deadline:
            raise _Deadline
        try:
            yield self._port
        except OSError:
            self.lost = True
            raise

    def inWaiting(self) -> int:  # the name that mpremote calls
        with self._call() as port:
            return int(port.in_waiting)

    def read(self, size: int = 1) -> bytes:
        began = time.monotonic()
        with self._call() as port:
            data = bytes(port.read(size))
            # All that pyserial shows of a lost RFC 2217 connection: nothing, and sooner than the timeout.
            if not data and size and time.monotonic() - began < _READ_TIMEOUT / 2:
                raise serial.SerialException("hung up")
        if self.heard is not None:
            self.heard += data
            found = re.search(LOCKED, self.heard)
            if found:
                raise Locked(str(self._port.port), found[1].decode())
        return data

    def write(self, data: bytes) -> int | None:
        with self._call() as port:
            written: int | None = port.write(data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_port", "lost", "deadline", "heard"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._port, name, value)


class Console:
    """One unit at its REPL: opened, interrupted and soft-reset; use as a context manager."""

    def __init__(self, port: str) -> None:
        self.port = port
        with _errors(port, "connecting"):
            try:
                self._transport = SerialTransport(port, timeout=_READ_TIMEOUT)
            except (TransportError, ValueError):
                raise KoblerError(why_not(port)) from None
            if "://" not in port:
                self._transport.serial.write_timeout = _READ_TIMEOUT
        self._bounded = _Bounded(self._transport.serial)
        self._transport.serial = self._bounded

    def __enter__(self) -> Console:
        try:
            self._enter()
        except BaseException:
            self.close()
            raise
        return self

    def _enter(self) -> None:
        self._bounded.heard = bytearray()
        for _ in range(_CONNECT_ATTEMPTS):
            self._bounded.deadline = time.monotonic() + _CONNECT_SECONDS
            try:
                with _errors(self.port, "waiting for MicroPython's prompt"):
                    self._transport.enter_raw_repl()
                self._bounded.heard = None
                return
            except Locked:
                raise
            except KoblerError as error:
                if isinstance(error.__cause__, serial.SerialException):
                    raise
        raise KoblerError(
            f"no MicroPython answers at {self.port}: is this the unit's port, and is it powered? "
            "Put the firmware on it with `kobler flash`"
        )

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str, step: str, seconds: float = 20.0) -> str:
        """Run statements; their output. `Refused` for an exception."""
        self._bounded.deadline = time.monotonic() + seconds
        with _errors(self.port, step):
            try:
                output: bytes = self._transport.exec(code)
            except TransportExecError as error:
                lines = error.error_output.strip().splitlines() or ["unknown error"]
                kind, _, text = lines[-1].partition(": ")
                raise Refused(kind, text) from None
        return output.decode("utf-8", "replace")

    def ask(self, expression: str, step: str, seconds: float = 20.0) -> Any:
        """The value of an expression, which must be JSON. `Refused` for an exception."""
        output = self.run(_ASK % (expression, MARK), step, seconds)
        for line in reversed(output.splitlines()):
            if line.startswith(MARK):
                try:
                    found = json.loads(line[len(MARK) :])
                except (ValueError, RecursionError):
                    break
                if not isinstance(found, dict):
                    break
                if "error" in found:
                    raise Refused(str(found["error"]), str(found.get("text", "")))
                if "answer" in found:
                    return found["answer"]
                break
        raise KoblerError(f"the unit at {self.port} answered nonsense while {step}: run the command again")

    def lines(self, code: str, step: str, seconds: float = 20.0) -> Iterator[str]:
        """Run statements, and give each line they print as it comes; `seconds` may pass between two. It ends with them,
        however they end.
        """
        self._bounded.deadline = time.monotonic() + seconds
        with _errors(self.port, step):
            self._transport.exec_raw_no_follow(code)
        while True:
            line = bytearray()
            self._bounded.deadline = time.monotonic() + seconds
            with _errors(self.port, step):
                while not line.endswith((b"\n", _END)):
                    line += self._bounded.read(1)
            if line.endswith(_END):
                return
            yield line.decode("utf-8", "replace").strip()

    def interrupt(self) -> None:
        """Ctrl-C to what runs."""
        if self._bounded.lost:
            return
        self._bounded.deadline = time.monotonic() + 5.0
        with _errors(self.port, "stopping the unit"):
            self._bounded.write(b"\x03")

    def send(self, data: bytes) -> None:
        """Type this, whatever reads it."""
        self._bounded.deadline = time.monotonic() + 5.0
        with _errors(self.port, "writing"):
            self._bounded.write(data)

    def find(self, pattern: bytes, seconds: float) -> re.Match[bytes] | None:
        """The first match in what the unit prints from now on; None if there is none within the time."""
        until = time.monotonic() + seconds
        self._bounded.deadline = until + 1
        said = bytearray()
        with _errors(self.port, "waiting for its answer"):
            while time.monotonic() < until:
                waiting = self._bounded.inWaiting()
                said += self._bounded.read(waiting) if waiting else b""
                found = re.search(pattern, bytes(said))
                if found:
                    return found
                if not waiting:
                    time.sleep(0.02)
        return None

    def await_words(self, words: bytes, seconds: float) -> bool:
        """Whether the unit prints this within the time. A port that belongs to the chip goes away when it resets: then
        nothing is known against it.
        """
        self._bounded.deadline = time.monotonic() + seconds
        said = bytearray()
        with contextlib.suppress(OSError, _Deadline):
            while words not in said:
                said += self._bounded.read(1)
        return words in said or self._bounded.lost

    def reset(self, code: str) -> None:
        """Run the statement that resets the unit; no answer is expected."""
        if self._bounded.lost:
            return
        self._bounded.deadline = time.monotonic() + 5.0
        with _errors(self.port, "restarting the unit"):
            self._transport.exec_raw_no_follow(code)
            time.sleep(0.3)  # the port's lines move when it is closed: not before the unit did as it was told

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._bounded.lost:
                self._bounded.close()  # mpremote's own would first wait for the lines to change
            else:
                self._transport.close()


@contextlib.contextmanager
def _errors(port: str, step: str) -> Iterator[None]:
    """mpremote prints what it cannot make sense of, and raises half a dozen kinds of exception."""
    again = "check the cable and run the command again"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except serial.SerialException as error:
        raise KoblerError(f"the connection to {port} broke while {step}: {again}") from error
    except TransportExecError:
        raise
    except (TransportError, struct.error, _Deadline) as error:
        raise KoblerError(f"the unit at {port} stopped answering while {step}: {again}") from error
    except OSError as error:
        raise KoblerError(f"the connection to {port} broke while {step} ({error}): {again}") from error
