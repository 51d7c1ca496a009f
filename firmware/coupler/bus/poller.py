# Reads the blocks of one bus, each in its period, one request at a time.
#
# - Oldest due first, so no block starves under overload; what came too late to be read is counted as `late`.
# - A unit that does not answer costs the bus its timeout each time. While others have work due, such units together
#   get at most a fifth of the bus; after three failures in a row a unit is probed with one block only, at growing
#   intervals, and its other blocks are reported as failed with it.
# - Only a missing answer counts against a unit. A unit that answers an exception is alive.

from coupler.bus.errors import BusError
from coupler.const import const

_OPEN_AFTER = const(3)  # failures in a row
_PROBE_MIN = const(2000)
_PROBE_MAX = const(60000)
_SHARE = const(4)  # suspects wait four times what one of them cost
_NAP = const(1000)


class _Unit:
    def __init__(self, cfg, now):
        self.cfg = cfg
        self.blocks = []
        self.answers = False  # when last asked
        self.failures = 0  # in a row
        self.after = now  # not to be asked before


class _Block:
    def __init__(self, unit, cfg, now, phase):
        self.unit = unit
        self.cfg = cfg
        self.due = now
        self.phase = phase  # until the first poll


class Poller:
    """on_block(unit_cfg, block_cfg, data, error) after each poll: data is None when error is a BusError.

    `path` names this bus in errors of the configuration (ValueError)."""

    def __init__(self, client, bus_cfg, hal, on_block, path="bus[0]"):
        from coupler.bus.plan import check  # once: app forgets it

        check(bus_cfg, path)
        self._client = client
        self._hal = hal
        self._on_block = on_block
        self._blocks = blocks = []
        self._start = self._suspects_after = now = hal.ticks_ms()
        count = sum([len(unit["blocks"]) for unit in bus_cfg["units"]])
        for cfg in bus_cfg["units"]:
            unit = _Unit(cfg, now)
            for block in cfg["blocks"]:
                unit.blocks.append(_Block(unit, block, now, block["ms"] * len(blocks) // count))
                blocks.append(unit.blocks[-1])
        self.stats = {"polls": 0, "failed": 0, "late": 0, "skipped": 0, "silent": 0}

    async def run(self):
        while self._blocks:
            await self.step()

    async def step(self):
        """Read the block whose turn it is, or sleep until there is one, at most a second."""
        hal = self._hal
        now = hal.ticks_ms()
        block, wait = self._choose(now)
        if block is None:
            await hal.sleep_ms(wait)
            return
        self._plan_next(block, now)
        unit = block.unit
        cfg = block.cfg
        self.stats["polls"] += 1
        try:
            data = await self._client.read(unit.cfg["id"], cfg["fc"], cfg["a"], cfg["n"], unit.cfg["timeout"])
        except BusError as error:
            self.stats["failed"] += 1
            if error.kind == "exception":
                self._alive(unit)
                self._on_block(unit.cfg, cfg, None, error)
            else:
                self._silent(unit, block, error, now)
        else:
            self._alive(unit)
            self._on_block(unit.cfg, cfg, data, None)

    def _choose(self, now):
        # (block, 0), or (None, milliseconds until there may be one).
        diff = self._hal.ticks_diff
        good = suspect = None
        good_wait = suspect_wait = _NAP
        for block in self._blocks:
            wait = diff(block.due, now)
            if block.unit.answers:
                if wait < good_wait:
                    good_wait = wait
                    good = block
            else:
                wait = max(wait, diff(block.unit.after, now))
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

    def _silent(self, unit, block, error, began):
        hal = self._hal
        now = hal.ticks_ms()
        unit.answers = False
        unit.failures += 1
        pause = self._client.settles_in(unit.cfg["id"], block.cfg["fc"])
        blocks = (block,)
        if unit.failures >= _OPEN_AFTER:
            if unit.failures == _OPEN_AFTER:
                self.stats["silent"] += 1
            pause = max(pause, min(_PROBE_MAX, _PROBE_MIN << min(8, unit.failures - _OPEN_AFTER)))
            blocks = unit.blocks
        unit.after = hal.ticks_add(now, pause)
        # A first failure may be chance, or one of many units not asked before: these get up to half of the bus.
        share = 1 if unit.failures == 1 else _SHARE
        self._suspects_after = hal.ticks_add(now, share * hal.ticks_diff(now, began))
        for each in blocks:
            self._on_block(unit.cfg, each.cfg, None, error)
