# What the clients of both kinds of bus have: turns, in the order of asking, and figures.

import asyncio

from coupler.bus.errors import KINDS, BusError


class Base:
    """turns: how many transactions may be under way at once."""

    def __init__(self, hal, turns):
        self.hal = hal
        self._free = turns
        self._waiting = []
        self._rtt_sum = 0
        self.rtt = 0  # of the last answer, milliseconds
        self.stats = {
            "requests": 0,
            "answers": 0,
            "retries": 0,
            "errors": {kind: 0 for kind in KINDS},
            "foreign": 0,
            "sent": 0,
            "received": 0,
            "rtt_min": 0,  # milliseconds from the request's first bit until the answer was taken
            "rtt_mean": 0,
            "rtt_max": 0,
        }

    async def turn(self):
        # Who is done hands its turn on, so nobody can come in between.
        if self._free:
            self._free -= 1
            return
        event = asyncio.Event()
        self._waiting.append(event)
        mine = False
        try:
            await event.wait()
            mine = True
        finally:
            if not mine:  # cancelled
                if event.is_set():
                    self.done()
                else:
                    self._waiting.remove(event)

    def done(self):
        if self._waiting:
            self._waiting.pop(0).set()
        else:
            self._free += 1

    def _answered(self, us):
        stats = self.stats
        self.rtt = ms = us // 1000
        if not stats["answers"] or ms < stats["rtt_min"]:
            stats["rtt_min"] = ms
        if ms > stats["rtt_max"]:
            stats["rtt_max"] = ms
        stats["answers"] += 1
        self._rtt_sum += ms
        stats["rtt_mean"] = self._rtt_sum // stats["answers"]

    def failed(self, kind, frame, code=0):
        # The error of a request; frame: its unit and PDU.
        self.stats["errors"][kind] += 1
        fc = frame[1]
        if fc == 43:
            address, count = frame[4], 1
        else:
            address = frame[2] << 8 | frame[3]
            count = 1 if fc in (5, 6, 22) else frame[4] << 8 | frame[5]
        return BusError(kind, frame[0], fc, address, count, code)
