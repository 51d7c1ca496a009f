"""A time server (SNTP) on loopback, that answers what a test wants."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable


class Ntp:
    """answer(request) -> the datagrams it sends. `name`: as a configuration has it."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.name = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ending.is_set():
            try:
                request, peer = self._socket.recvfrom(1024)
            except TimeoutError:
                continue
            for packet in self._answer(request):
                self._socket.sendto(packet, peer)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()


def time_now(request: bytes, ahead: float = 0, first: int = 0x24, stratum: int = 2) -> bytes:
    now = time.time() + 2208988800 + ahead
    stamp = struct.pack(">II", int(now), int(now % 1 * 4294967296))
    return bytes((first, stratum)) + bytes(10) + b"DENY" + bytes(8) + request[40:48] + stamp + stamp
