# The composition root: reads the configuration, builds the parts, joins them by callables and bounded queues.
#
#   bus --blocks--> points --values--> report --samples--> queue --packs--> session
#
# Nothing of the cloud is imported, let alone connected, unless the configuration enables it.
import asyncio
import json

from coupler import VERSION
from coupler.const import const
from coupler.health import Health
from coupler.net.errors import NetError
from coupler.watch import Watch

CONFIG = "/etc/config.json"
_QUEUE = const(500)  # samples that wait for the link
_CLOCK_RETRY_MS = const(15000)
_CLOCK_AGAIN_MS = const(6 * 3600000)
_AGE_MS = const(5000)
_INTERFACE_MS = const(5000)
_REPORT_MS = const(5000)  # after the start, then twice as long each time,
_REPORT_MAX_MS = const(60000)  # up to this
_SECOND_CHANCE_MS = const(600000)


class Coupler:
    """One configured unit. ValueError, which names the field, when it cannot run this configuration."""

    def __init__(self, hal, config, board):
        from coupler.points.table import Table
        from coupler.store.queue import Queue

        self._hal = hal
        self._config = config
        self._board = board
        self._session = None
        self._queue = Queue(_QUEUE, hal, self._wake)
        self._watch = Watch(hal)
        self._table = Table(config["bus"], hal, self._queue.put)
        self._pollers = []
        self._port = None
        self._online = asyncio.Event()  # an address was there once
        self._clock_known = asyncio.Event()
        boot = (hal.get_number("boot") or 0) + 1
        hal.put_number("boot", boot)
        self._health = Health(hal, config, board, boot)
        for index, bus in enumerate(config["bus"]):
            self._add_bus(bus, "bus[%d]" % index)
        if config["cloud"]["enabled"]:
            self._add_session()

    def _add_bus(self, cfg, path):
        from coupler.bus.client import Client
        from coupler.bus.poller import Poller

        if not self._board.get("rs485"):
            raise ValueError("%s: this board has no RS-485 port" % path)
        if self._pollers:
            raise ValueError("%s: this board has one RS-485 port, which another bus has taken" % path)
        self._port = self._hal.uart(self._board["rs485"], cfg["baud"], cfg["parity"], cfg["stop"])
        client = Client(self._port, self._hal)
        poller = Poller(client, cfg, self._hal, self._table.on_block, path)
        self._pollers.append((cfg["name"], poller))
        self._health.add("bus", cfg["name"], lambda: bus_figures(client, poller))

    def _add_session(self):
        from coupler.uplink.session import Session

        hal = self._hal
        identity = {"id": "".join(["%02x" % byte for byte in hal.unique_id()])}
        for name in ("cert", "key", "ca"):
            identity[name] = hal.read_file("/etc/%s.der" % name)
        info = {"boot": self._health.boot, "firmware": VERSION, "reported": self._health.report}
        self._session = session = Session(hal, self._config["cloud"], identity, self._queue, info)
        self._health.add("cloud", "link", lambda: session.count)
        self._health.add("cloud", "queue", lambda: {"waiting": len(self._queue), "dropped": self._queue.dropped})

    def _wake(self):
        if self._session:
            self._session.wake()

    async def run(self):
        """For ever: a task that fails is started again, and the watchdog watches the bus."""
        for name, poller in self._pollers:
            self._watch.start("bus " + name, lambda name=name, poller=poller: self._poll("bus " + name, poller), True)
        self._watch.start("age", self._age, True)
        if self._session:
            self._watch.start("interface", self._interface)
            self._watch.start("clock", self._clock)
            self._watch.start("link", self._link)
            self._watch.start("report", self._report)
        await self._watch.run()

    def release(self):
        """After Ctrl-C, when no task is resumed any more: the bus is left free, the watchdog gives time."""
        self._watch.relax()
        if self._port:
            self._port.release()

    async def _poll(self, name, poller):
        while True:
            await poller.step()
            self._watch.beat(name)

    async def _age(self):
        while True:
            self._table.age()
            self._watch.beat("age")
            await self._hal.sleep_ms(_AGE_MS)

    async def _interface(self):
        was_up = False
        while True:
            up = await self._hal.network_up(self._config["net"], self._board)
            if not up:
                print("kobler: no network yet")
            elif not was_up:
                self._online.set()
                self._session.retry()
            was_up = up
            await self._hal.sleep_ms(_INTERFACE_MS)

    async def _link(self):
        await self._online.wait()
        await self._clock_known.wait()  # without the time no certificate can be verified
        await self._session.run()

    async def _clock(self):
        hal = self._hal
        if hal.now_ms() is not None:
            self._date()  # it was running through a reset
        await self._online.wait()
        while True:
            await hal.sleep_ms(_CLOCK_AGAIN_MS if await self._ask_time() else _CLOCK_RETRY_MS)

    async def _ask_time(self):
        from coupler.net import sntp

        hal = self._hal
        try:
            now, server, trip = await sntp.query(hal, self._config["net"]["ntp"])
            hal.set_time(now)
            self._date()
            print("kobler: time from %s, round trip %d ms" % (server, trip))
            return True
        except NetError as error:
            print("kobler: no time:", error)
            return False
        finally:
            hal.forget("coupler.net.sntp", "coupler.net.dns")

    def _date(self):
        if not self._clock_known.is_set():
            self._queue.date()
            self._clock_known.set()

    async def _report(self):
        pause = _REPORT_MS
        while True:
            await self._hal.sleep_ms(pause)
            self._session.report()
            pause = min(_REPORT_MAX_MS, pause * 2)


def bus_figures(client, poller):
    """A bus as `reported` shows it: all requests, all errors, then both by kind."""
    stats = client.stats
    figures = dict(poller.stats)
    figures.update(stats)
    figures["kinds"] = stats["errors"]
    figures["errors"] = sum(stats["errors"].values())
    return figures


def check(hal, data):
    """The configuration (JSON bytes) if this firmware can run it; ValueError names what it cannot run."""
    from coupler.bus import plan
    from coupler.points.table import Table

    config = json.loads(data)
    if not isinstance(config, dict) or config.get("v") != 1:
        raise ValueError("v: this firmware knows version 1 only")
    for name, kind in (("name", str), ("rev", str), ("net", dict), ("cloud", dict), ("bus", list)):
        if not isinstance(config.get(name), kind):
            raise ValueError("%s: missing or of the wrong kind" % name)
    for index, bus in enumerate(config["bus"]):
        plan.check(bus, "bus[%d]" % index)
    Table(config["bus"], hal, None)  # it takes the rows over, hence the second reading
    return json.loads(data)


def main(hal):
    """Run until Ctrl-C; returns at once, saying why, when the unit has nothing it can run."""
    print("kobler: firmware %s, boot cause %s" % (VERSION, hal.reset_cause()))
    data = hal.read_file(CONFIG)
    if data is None:
        print("kobler: this unit has no configuration: run `kobler provision` at its USB port")
        return
    try:
        coupler = Coupler(hal, check(hal, data), hal.board)
    except ValueError as error:
        print("kobler: the configuration cannot be run: %s; provision it again" % error)
        return
    except Exception:
        hal.watchdog(_SECOND_CHANCE_MS)  # it may run after a restart, and until then someone may come to the console
        raise
    hal.forget("coupler.bus.plan")
    try:
        asyncio.run(coupler.run())
    except KeyboardInterrupt:
        coupler.release()
        print("kobler: stopped from the console; a reset starts it again")
