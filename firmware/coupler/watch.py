# Keeps the unit's tasks running, and the hardware watchdog fed only while those that must not stand still do not.
#
# - A task that fails is named, counted and started again, after a pause that doubles up to a minute.
# - A task that promised to beat and is silent for _PATIENCE_MS is not restarted but ends the feeding: the watchdog then
#   restarts the whole unit, since nobody knows what else is stuck.
import asyncio

from coupler.const import const

_HARDWARE_MS = const(30000)
_PATIENCE_MS = const(120000)
_FEED_MS = const(1000)
_PAUSE_MIN_MS = const(1000)
_PAUSE_MAX_MS = const(60000)


class Watch:
    """Call start() for each task, then await run() for ever."""

    def __init__(self, hal):
        self._hal = hal
        self._beats = {}
        self._tasks = []
        self.restarts = {}
        self.failure = None  # text of the last failure
        self._hardware = None

    def start(self, name, work, beats=False):
        """work() -> coroutine. With beats, the task calls beat(name) at least every two minutes."""
        self.restarts[name] = 0
        if beats:
            self.beat(name)
        self._tasks.append(asyncio.create_task(self._keep(name, work)))

    def beat(self, name):
        self._beats[name] = self._hal.ticks_ms()

    async def run(self):
        hal = self._hal
        self._hardware = hardware = hal.watchdog(_HARDWARE_MS)
        try:
            while True:
                now = hal.ticks_ms()
                if all([hal.ticks_diff(now, beat) < _PATIENCE_MS for beat in self._beats.values()]):
                    hardware.feed()
                await hal.sleep_ms(_FEED_MS)
        finally:
            self.relax()
            for task in self._tasks:
                task.cancel()

    def relax(self):
        """Someone took over the console, and may need time there."""
        if self._hardware:
            self._hardware.relax()

    async def _keep(self, name, work):
        pause = _PAUSE_MIN_MS
        while True:
            began = self._hal.ticks_ms()
            try:
                await work()
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the unit goes on, and it is told
                self.restarts[name] += 1
                self._tell(name, error)
            if self._hal.ticks_diff(self._hal.ticks_ms(), began) > _PAUSE_MAX_MS:
                pause = _PAUSE_MIN_MS
            await self._hal.sleep_ms(pause)
            pause = min(_PAUSE_MAX_MS, pause * 2)

    def _tell(self, name, error):
        # Where memory ran out there may be none for words either, and a failure in here would end the task for good.
        self.failure = name
        try:
            self.failure = "%s: %s: %s" % (name, type(error).__name__, error)
            print("kobler: task failed:", self.failure)
        except Exception:  # noqa: BLE001, S110 - restarts[name] has counted it
            pass
