"""asyncio in the chip's time: it looks at its streams once a tick (10 ms), or when a soft interrupt has run."""

import asyncio.core as _core
import io
import select as _select

import _chip

_look = _core.IOQueue.wait_io_event


class _Poller:
    """select.poll for asyncio. The unix port's own waits a millisecond as soon as one stream is written in Python."""

    def __init__(self):
        self._files = _select.poll()
        self._streams = {}  # written in Python: UART, ThreadSafeFlag

    def register(self, stream, events):
        if isinstance(stream, io.IOBase):
            self._streams[id(stream)] = [stream, events]
        else:
            self._files.register(stream, events)

    def modify(self, stream, events):
        if id(stream) in self._streams:
            self._streams[id(stream)][1] = events
        else:
            self._files.modify(stream, events)

    def unregister(self, stream):
        if self._streams.pop(id(stream), None) is None:
            self._files.unregister(stream)

    def ipoll(self, _):
        for stream, events in list(self._streams.values()):
            ready = stream.ioctl(3, events)
            if ready:
                yield stream, ready
        for stream, ready in self._files.poll(0):
            yield stream, ready


class _Select:
    """What asyncio.core sees as `select`."""

    POLLPRI = getattr(_select, "POLLPRI", 2)
    POLLIN = _select.POLLIN
    POLLOUT = _select.POLLOUT
    POLLERR = _select.POLLERR
    POLLHUP = _select.POLLHUP
    poll = _Poller


def wait_io_event(self, dt):
    """Stands in for asyncio.core.IOQueue.wait_io_event; dt in ms, negative: until something happens."""
    end = _chip.now() + dt * 1000
    _chip.poll()
    while True:
        _look(self, 0)
        head = _core._task_queue.peek()
        if head and _core.ticks_diff(head.ph_key, _core.ticks()) <= 0:
            return
        t = _chip.now()
        if dt >= 0 and t >= end:
            return
        _chip.wait((t // _chip.tick_us + 1) * _chip.tick_us)


def install():
    _core.select = _Select
    _core.IOQueue.wait_io_event = wait_io_event
    _core.new_event_loop()
