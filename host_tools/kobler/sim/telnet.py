"""The server side of telnet with the COM-PORT option (RFC 854, RFC 2217), sans-IO: bytes in, calls out."""

from __future__ import annotations

import re
from collections.abc import Callable

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
BINARY, ECHO, SGA, COM_PORT = 0, 1, 3, 44

(SET_BAUDRATE, SET_DATASIZE, SET_PARITY, SET_STOPSIZE, SET_CONTROL) = range(1, 6)
NOTIFY_MODEMSTATE = 7
(SET_LINESTATE_MASK, SET_MODEMSTATE_MASK, PURGE_DATA) = range(10, 13)
_ANSWER = 100  # the server's commands are the client's plus 100

_DTR, _RTS = {8: True, 9: False}, {11: True, 12: False}
# Carrier, data set ready and clear to send are always on: the chip's UART has no flow control.
_MODEM_STATE = 0x80 | 0x20 | 0x10
_OURS = {BINARY, ECHO, SGA, COM_PORT}
_THEIRS = {BINARY, SGA, COM_PORT}
_MAX_OPTION = 64

_SPECIAL = re.compile(b"\xff")


class Telnet:
    def __init__(
        self,
        send: Callable[[bytes], None],
        on_data: Callable[[bytes], None],
        on_lines: Callable[[bool, bool], None],
        on_baud: Callable[[int], None],
    ) -> None:
        self._send = send
        self._on_data = on_data
        self._on_lines = on_lines
        self._on_baud = on_baud
        self._dtr = self._rts = False
        self._settings = {
            SET_BAUDRATE: (115200).to_bytes(4, "big"),
            SET_DATASIZE: b"\x08",
            SET_PARITY: b"\x01",
            SET_STOPSIZE: b"\x01",
        }
        self._ours: set[int] = set()
        self._theirs: set[int] = set()
        self._rest = b""

    def begin(self) -> None:
        """Offer 8-bit data both ways, without go-ahead."""
        self._ours |= {BINARY, SGA}
        self._theirs |= {BINARY}
        self._send(bytes((IAC, WILL, BINARY, IAC, WILL, SGA, IAC, DO, BINARY)))

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        self._rest = b""
        at = 0
        plain = bytearray()
        while at < len(data):
            special = _SPECIAL.search(data, at)
            end = special.start() if special else len(data)
            plain += data[at:end]
            if special is None:
                break
            length = _sequence(data, end)
            if length == 0:
                self._rest = data[end:]
                break
            at = end + length
            sequence = data[end:at]
            if sequence[1] == IAC:
                plain.append(IAC)
                continue
            # Data before a command takes effect before it: a baud rate or a reset must not overtake it.
            if plain:
                self._on_data(bytes(plain))
                plain.clear()
            self._command(sequence)
        if plain:
            self._on_data(bytes(plain))

    def _command(self, sequence: bytes) -> None:
        if sequence[1] == SB:
            body = sequence[2:-2].replace(b"\xff\xff", b"\xff")
            if len(body) >= 2 and body[0] == COM_PORT:
                self._com_port(body[1], body[2:])
        elif len(sequence) == 3:
            self._negotiate(sequence[1], sequence[2])

    def _negotiate(self, command: int, option: int) -> None:
        """Answer only what changes something, or two polite ends would go on for ever."""
        if command in (DO, DONT):
            asks, known, state, yes, no = command == DO, _OURS, self._ours, WILL, WONT
        else:
            asks, known, state, yes, no = command == WILL, _THEIRS, self._theirs, DO, DONT
        if asks and option not in known:
            self._send(bytes((IAC, no, option)))
        elif asks and option not in state:
            state.add(option)
            self._send(bytes((IAC, yes, option)))
            if option == COM_PORT:
                self._answer(NOTIFY_MODEMSTATE, bytes((_MODEM_STATE,)))
        elif not asks and option in state:
            state.discard(option)
            self._send(bytes((IAC, no, option)))

    def _com_port(self, command: int, value: bytes) -> None:
        if command in self._settings:
            # Zero asks for the present value.
            if len(value) == len(self._settings[command]) and any(value):
                self._settings[command] = value
                if command == SET_BAUDRATE:
                    self._on_baud(int.from_bytes(value, "big"))
            self._answer(command, self._settings[command])
        elif command == SET_CONTROL and len(value) == 1:
            self._control(value[0])
        elif command == NOTIFY_MODEMSTATE:
            self._answer(NOTIFY_MODEMSTATE, bytes((_MODEM_STATE,)))
        elif command in (SET_LINESTATE_MASK, SET_MODEMSTATE_MASK, PURGE_DATA):
            self._answer(command, value)

    def _control(self, value: int) -> None:
        if value in _DTR:
            self._dtr = _DTR[value]
            self._on_lines(self._dtr, self._rts)
        elif value in _RTS:
            self._rts = _RTS[value]
            self._on_lines(self._dtr, self._rts)
        elif value == 0:
            value = 1  # asked for the flow control in use: none
        elif value == 7:
            value = 8 if self._dtr else 9
        elif value == 10:
            value = 11 if self._rts else 12
        self._answer(SET_CONTROL, bytes((value,)))

    def _answer(self, command: int, value: bytes) -> None:
        body = bytes((command + _ANSWER,)) + value.replace(b"\xff", b"\xff\xff")
        self._send(bytes((IAC, SB, COM_PORT)) + body + bytes((IAC, SE)))


def _sequence(data: bytes, start: int) -> int:
    """The length of the command that the IAC at `start` begins; 0 when the rest is still to come."""
    if start + 2 > len(data):
        return 0
    command = data[start + 1]
    if command in (WILL, WONT, DO, DONT):
        return 3 if start + 3 <= len(data) else 0
    if command != SB:
        return 2
    at = start + 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] == SE:
            return at + 2 - start
        at += 2
    # An option that never ends is given up, or it would swallow everything that follows.
    return len(data) - start if len(data) - start > _MAX_OPTION else 0
