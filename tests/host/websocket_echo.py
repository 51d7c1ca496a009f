"""The client of a WebSocket fuzzing server: sends each message back, in each of the server's cases.

usage: websocket_echo.py FIRMWARE_DIR HOST PORT [AGENT [hold]]
       websocket_echo.py FIRMWARE_DIR PATH     one connection, which is standard input and output
The server's protocol: /getCaseCount tells how many cases there are, /runCase?case=N&agent=X is one of them, and
/updateReports?agent=X ends the run. Blocking sockets and little memory, so that CPython, MicroPython and CircuitPython
run it as it is. On a CircuitPython board, which has no arguments: run(socketpool.SocketPool(wifi.radio), HOST, PORT).
CircuitPython's unix port has no sockets: whoever starts it connects, and gives it the connection.
"""

import os
import sys

_PIECE = 4096  # of a message that is sent back while it still arrives
_MOST = 16777216  # bytes of the largest message in the suite
_END_S = 5  # for the server to close the connection


def run(pool, host, port, agent="kobler", hold=False):
    """All cases; pool: the module socket, or what has its functions.

    hold: send nothing of a message back before it is whole, for a server that does not read while it writes; else a
    message of any size takes the memory of a piece."""
    told = []
    _case(pool, host, port, hold, "/getCaseCount", told.append)
    cases = int(b"".join(told))
    for case in range(1, cases + 1):
        try:
            _case(pool, host, port, hold, f"/runCase?case={case}&agent={agent}", None)
        except OSError as e:  # the server may reset what it has judged; its report tells
            print(f"case {case}: {e!r}")
    _case(pool, host, port, hold, "/updateReports?agent=" + agent, None)
    return cases


def _case(pool, host, port, hold, path, text):
    # One connection: messages go to text() or, if that is None, back.
    from coupler.uplink import websocket

    ws = websocket.WebSocket(f"{host}:{port}", path, None, os.urandom, _MOST)
    s = pool.socket()
    try:
        s.connect(pool.getaddrinfo(host, port)[0][-1])
        _send(s, ws.request())
        buf = bytearray(_PIECE)
        back = None if text else _Echo(ws, hold)
        while ws.state != websocket.CLOSED:
            n = _receive(s, buf)
            if not n:
                return
            try:
                for kind, data, last in ws.receive(memoryview(buf)[:n]):
                    if kind == websocket.REPLY:
                        _send(s, data)
                    elif kind == websocket.TEXT or kind == websocket.BINARY:
                        if text:
                            text(bytes(data))
                        else:
                            for frame in back.frames(kind, data, last):
                                _send(s, frame)
            except websocket.ProtocolError as e:
                _send(s, ws.close(e.code))
                break
        s.settimeout(_END_S)  # it is the server's part to end the connection
        try:
            while _receive(s, buf):
                pass
        except OSError:  # it ended it by a reset
            pass
    finally:
        s.close()


class _Echo:
    """A message in frames of up to _PIECE bytes, whatever the pieces are in which it comes."""

    def __init__(self, ws, hold):
        self._ws = ws
        self._hold = hold
        self._held = bytearray()  # less than a frame
        self._frames = []
        self._begun = False

    def frames(self, kind, data, last):
        held = self._held
        held += data
        if last or len(held) >= _PIECE:
            self._frames.append(self._ws.send(held, 0 if self._begun else kind, last))
            self._begun = not last
            self._held = bytearray()
            if last or not self._hold:
                frames = self._frames
                self._frames = []
                return frames
        return ()


def _receive(s, buf):
    if hasattr(s, "recv_into"):
        return s.recv_into(buf)
    data = s.recv(len(buf))  # MicroPython
    buf[: len(data)] = data
    return len(data)


def _send(s, data):
    data = memoryview(data)
    while data:
        data = data[s.send(data) :]


class _Standard:
    """Standard input and output, as a pool of the one connection that they are, and as that connection."""

    def socket(self):
        return self

    def getaddrinfo(self, _host, _port):
        return ((None,),)

    def connect(self, _address):
        pass

    settimeout = connect

    def close(self):
        pass

    def recv(self, _most):
        return sys.stdin.buffer.read(1)  # read(n) would wait for n

    def send(self, data):
        return sys.stdout.buffer.write(data)


def main(firmware, *arguments):
    sys.path.insert(0, firmware)
    if len(arguments) == 1:
        _case(_Standard(), "localhost", 0, False, arguments[0], None)
        return
    import socket

    host, port = arguments[:2]
    print(run(socket, host, int(port), *arguments[2:3], hold="hold" in arguments), "cases")


if __name__ == "__main__":
    main(*sys.argv[1:])
