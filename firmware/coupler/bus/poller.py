# Reads the blocks of one bus, each in its period.
#
# - Oldest due first, so no block starves under overload; what came too late to be read is counted as `late`.
# - A unit that does not answer costs the bus its timeout each time. From the second failure in a row on it is silent:
#   probed with one block only, at growing intervals, and its other blocks are reported as failed with it. While others
#   have work due, all silent units together get a twentieth of the bus.
# - Only a missing answer counts against a unit. A unit that answers an exception is alive.
# - A block that the device refuses (exceptions 02 and 03) is divided, so that one register it does not have costs one
#   point. What is refused undivided is asked for once a minute at most.

from coupler.bus.errors import BusError
from coupler.const import const

_OPEN_AFTER = const(2)  # failures in a row
_PROBE_MIN = const(2000)
_PROBE_MAX = const(60000)
_SHARE = const(19)  # the silent wait nineteen times what one of them cost
_NAP = const(1000)
_REFUSED = const(60000)
_MOST_SPLITS = const(32)
_MOST_HOLES = const(16)


class _Unit:
    def __init__(self, cfg, now):
        self.cfg = cfg
        self.blocks = []
        self.answers = False  # when last asked
        self.failures = 0  # in a row
        self.busy = 0  # requests under way
        self.after = now  # not to be asked before
        self.requests = self.errors = 0
        self.rtt = [0, 0, 0]  # milliseconds: least, sum, most


class _Block:
    def __init__(self, unit, cfg, due, phase):
        self.unit = unit
        self.cfg = cfg
        self.due = due
        self.phase = phase  # until the first poll
        self.busy = False


class Poller:
    """on_block(unit_cfg, block_cfg, data, error) after each poll: data is None when error is a BusError.

    split(block_cfg) -> the two blocks that take its place, or None if it cannot be divided.
    `path` names this bus in errors of the configuration (ValueError)."""

    def __init__(self, client, bus_cfg, hal, on_block, split, path="bus[0]"):
        from coupler.bus.plan import check  # once: app forgets it

        check(bus_cfg, path)
        self._client = client
        self._hal = hal
        self._alarm = hal.alarm() if bus_cfg["kind"] == "rtu" else None
        self._on_block = on_block
        self._split = split
        self._blocks = blocks = []
        self._units = []
        self._start = self._suspects_after = now = hal.ticks_ms()
        count = sum([len(unit["blocks"]) for unit in bus_cfg["units"]])
        for cfg in bus_cfg["units"]:
            unit = _Unit(cfg, now)
            self._units.append(unit)
            for block in cfg["blocks"]:
                unit.blocks.append(_Block(unit, block, now, block["ms"] * len(blocks) // count))
                blocks.append(unit.blocks[-1])
        self.stats = {"polls": 0, "failed": 0, "late": 0, "skipped": 0, "silent": 0}
        self._splits = _MOST_SPLITS
        self.holes = []  # what devices refused, as text

    def units(self):
        """Figures by unit name: requests, errors, least, mean and greatest round trip in milliseconds."""
        answer = {}
        for unit in self._units:
            least, total, most = unit.rtt
            answers = unit.requests - unit.errors
            answer[unit.cfg["name"]] = [unit.requests, unit.errors, least, total // answers if answers else 0, most]
        return answer

    async def step(self):
        """Read the block whose turn it is, or sleep until there is one, at most a second.

        On a TCP bus several tasks may do so at once."""
        hal = self._hal
        now = hal.ticks_ms()
        block, wait = self._choose(now)
        if block is None:
            if self._alarm:
                await self._alarm.sleep(1000 * wait)
            else:
                await hal.sleep_ms(wait)
            return
        self._plan_next(block, now)
        unit = block.unit
        cfg = block.cfg
        self.stats["polls"] += 1
        unit.requests += 1
        block.busy = True
        unit.busy += 1
        failures = unit.failures
        try:
            data = await self._client.read(unit.cfg["id"], cfg["fc"], cfg["a"], cfg["n"], unit.cfg["timeout"])
        except BusError as error:
            self.stats["failed"] += 1
            unit.errors += 1
            if error.kind == "exception":
                self._alive(unit)
                self._refused(unit, block, error)
            elif unit.failures > failures:
                self._on_block(unit.cfg, cfg, None, error)  # one that was under way with it has counted
            else:
                self._silent(unit, block, error, now)
        else:
            self._alive(unit)
            rtt = unit.rtt
            ms = self._client.rtt
            rtt[1] += ms
            if ms > rtt[2]:
                rtt[2] = ms
            if ms < rtt[0] or unit.requests - unit.errors == 1:
                rtt[0] = ms
            self._on_block(unit.cfg, cfg, data, None)
        finally:
            block.busy = False
            unit.busy -= 1

    def _choose(self, now):
        # (block, 0), or (None, milliseconds until there may be one).
        diff = self._hal.ticks_diff
        good = suspect = None
        good_wait = suspect_wait = _NAP
        for block in self._blocks:
            if block.busy:
                continue
            wait = diff(block.due, now)
            unit = block.unit
            if unit.answers:
                if "pause" in unit.cfg:
                    rest = diff(unit.after, now)
                    if rest > 0:  # when it is over, the oldest due comes first again
                        wait = max(wait, rest)
                if wait < good_wait:
                    good_wait = wait
                    good = block
            elif not unit.busy:
                wait = max(wait, diff(unit.after, now))  # the unit that had to wait longest comes first
                if wait < suspect_wait:
                    suspect_wait = wait
                    suspect = block
        if good is not None:
            suspect_wait = max(suspect_wait, diff(self._suspects_after, now))
        if suspect_wait <= 0 and (good_wait > 0 or diff(suspect.due, good.due) <= 0):
            return suspect, 0
        if good_wait <= 0:
            return good, 0
        return None, max(1, min(good_wait, suspect_wait))

    def _plan_next(self, block, now):
        hal = self._hal
        period = block.cfg["ms"]
        missed = hal.ticks_diff(now, block.due) // period
        if block.phase is not None:
            block.due = hal.ticks_add(self._start, block.phase)
            block.phase = None
        elif missed > 0:
            self.stats["late" if block.unit.answers else "skipped"] += missed
        ahead = hal.ticks_diff(now, block.due)
        if ahead >= 0:
            block.due = hal.ticks_add(block.due, (ahead // period + 1) * period)

    def _alive(self, unit):
        if unit.failures >= _OPEN_AFTER:
            self.stats["silent"] -= 1
        unit.failures = 0
        unit.answers = True
        if "pause" in unit.cfg:
            unit.after = self._hal.ticks_add(self._hal.ticks_ms(), unit.cfg["pause"])

    def _refused(self, unit, block, error):
        cfg = block.cfg
        if error.code in (2, 3) and self._splits:
            pair = self._split(cfg)
            if pair:
                self._splits -= 1
                self._divide(unit, block, pair)
                return
        if error.code <= 3:
            # It is the configuration that is wrong; asking more often does not help.
            now = self._hal.ticks_ms()
            if self._hal.ticks_diff(block.due, now) < _REFUSED:
                block.due = self._hal.ticks_add(now, _REFUSED)
            self._hole(unit, cfg["fc"], cfg["a"], cfg["n"])
        self._on_block(unit.cfg, cfg, None, error)

    def _divide(self, unit, block, pair):
        first, second = pair
        end = first["a"] + first["n"]
        if second["a"] > end:
            self._hole(unit, first["fc"], end, second["a"] - end)
        for cfg in pair:
            new = _Block(unit, cfg, self._hal.ticks_ms(), None)
            unit.blocks.append(new)
            self._blocks.append(new)
        unit.blocks.remove(block)
        self._blocks.remove(block)

    def _hole(self, unit, fc, address, count):
        text = "%s: function %d, address %d, count %d" % (unit.cfg["name"], fc, address, count)
        if text not in self.holes and len(self.holes) < _MOST_HOLES:
            self.holes.append(text)

    def _silent(self, unit, block, error, began):
        hal = self._hal
        now = hal.ticks_ms()
        unit.answers = False
        unit.failures += 1
        pause = self._client.settles_in(unit.cfg["id"], block.cfg["fc"])
        blocks = (block,)
        share = 1  # a first failure may be chance, or one of many units not asked before: these get up to half
        if unit.failures >= _OPEN_AFTER:
            if unit.failures == _OPEN_AFTER:
                self.stats["silent"] += 1
            pause = max(pause, min(_PROBE_MAX, _PROBE_MIN << min(8, unit.failures - _OPEN_AFTER)))
            blocks = unit.blocks
            share = _SHARE
        unit.after = hal.ticks_add(now, pause)
        self._suspects_after = hal.ticks_add(now, share * hal.ticks_diff(now, began))
        for each in blocks:
            self._on_block(unit.cfg, each.cfg, None, error)
