"""The board's USB serial port as an RFC 2217 server on loopback: what pyserial's `rfc2217://` URLs reach.

One client at a time, like a serial port that is opened exclusively.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from kobler.errors import KoblerError
from kobler.sim.telnet import Telnet

BUSY = b"\r\nThis virtual board's USB port is in use by another program.\r\n"
# A closing client and the next one can arrive in the same turn of the loop.
_HANDOVER_S = 0.5
# Output nobody reads is lost, as on a UART; this bounds what waits for a slow reader.
_BACKLOG = 4 << 20


class UsbPort:
    """`on_data` takes the host's bytes, `on_lines` DTR and RTS (True: asserted), `on_baud` its rate."""

    def __init__(
        self,
        on_data: Callable[[bytes], None],
        on_lines: Callable[[bool, bool], None],
        on_baud: Callable[[int], None],
        port: int = 0,
    ) -> None:
        self._on_data = on_data
        self._on_lines = on_lines
        self._on_baud = on_baud
        self._telnet: Telnet | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = 0
        # Bound but not listening: the number stays ours while the board is without power.
        self._place = _bind(port)
        self.port = int(self._place.getsockname()[1])

    @property
    def url(self) -> str:
        return f"rfc2217://127.0.0.1:{self.port}"

    async def plug(self) -> None:
        """The port appears to the host."""
        listener = _bind(self.port)
        try:
            self._server = await asyncio.start_server(self._accept, sock=listener)
        except OSError as error:
            listener.close()
            raise KoblerError(f"{self.url}: {error.strerror}; choose another port") from error

    async def unplug(self) -> None:
        """The cable is pulled: the client loses its connection, new ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        await self.unplug()
        self._place.close()

    def write(self, data: bytes) -> None:
        """Bytes from the chip to the host; lost when nobody has the port open."""
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size() > _BACKLOG:
            self.lost += len(data)
            return
        writer.write(data.replace(b"\xff", b"\xff\xff"))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await self._take_port():
                try:
                    await self._session(reader, writer)
                finally:
                    self._writer = None
                    self._free.set()
                    # The driver lets both lines go when the port is closed.
                    self._on_lines(False, False)
            else:
                writer.write(BUSY)
                await writer.drain()
        except OSError:
            pass  # the client is gone
        finally:
            writer.close()

    async def _take_port(self) -> bool:
        try:
            await asyncio.wait_for(self._free.wait(), _HANDOVER_S)
        except TimeoutError:
            return False
        if not self._free.is_set():
            return False
        self._free.clear()
        return True

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        telnet = Telnet(writer.write, self._on_data, self._on_lines, self._on_baud)
        self._writer = writer
        telnet.begin()
        while data := await reader.read(65536):
            telnet.feed(data)


def _bind(port: int) -> socket.socket:
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        place.close()
        reason = error.strerror if isinstance(error, OSError) else "not a TCP port"
        raise KoblerError(f"USB port {port} on 127.0.0.1: {reason}; choose another, or 0 for a free one") from error
    return place
