# The composition root: reads the configuration, builds the parts, joins them by callables and bounded queues.
#
#   bus --blocks--> points --values--> report --samples--> journal --packs--> session
#
# Nothing of the cloud is imported, let alone connected, unless the configuration enables it.
import asyncio

from coupler import VERSION
from coupler.const import const
from coupler.health import Health
from coupler.net.errors import NetError
from coupler.watch import Watch

CONFIG = "/etc/config.json"
_CLOCK_RETRY_MS = const(15000)  # then twice as long each time,
_CLOCK_RETRY_MAX_MS = const(900000)  # up to this
_CLOCK_AGAIN_MS = const(6 * 3600000)
_AGE_MS = const(5000)
_INTERFACE_MS = const(5000)
_KEEP_MS = const(1000)
_COUNT = const(8)  # samples at a time, for the statistics,
_COUNT_MS = const(30)  # and the pause between, while there are more
_SETTLE = const(10)  # of these: the cursor is written down
_REPORT_MS = const(5000)  # after the start, then twice as long each time,
_REPORT_MAX_MS = const(60000)  # up to this
_SECOND_CHANCE_MS = const(600000)
_LOCKED = const(1)
_CLOUD_ROLE = "operator"  # of whoever may publish to the unit's topics
_CALLED = (
    "coupler.access.methods",
    "coupler.access.writes",
    "coupler.trust.roles",
    "coupler.points.describe",
    "coupler.points.write",
    "coupler.points.encode",
    "coupler.points.kinds",
    "coupler.bus.scan",
    "coupler.access.history",
    "coupler.store.history",
    "coupler.store.groups",
    "coupler.store.entries",
)


class Coupler:
    """One configured unit. ValueError, which names the field, when it cannot run this configuration."""

    def __init__(self, hal, config, board):
        from coupler import compose  # once: main forgets it
        from coupler.store.layout import open_flash

        self.hal = hal
        self.config = config
        self.board = board
        self.table = compose.Table(config["bus"], hal)
        self.clients = {}  # by name of the bus
        self.pollers = []  # (name of the bus, poller, how many of its blocks may be under way at once)
        self.gateways = []  # (name of the bus, gateway)
        self._watch = Watch(hal)
        self._calls = 0  # under way
        self._online = asyncio.Event()  # an address was there once
        self._clock_known = asyncio.Event()
        self._wanted = asyncio.Event()  # the cloud
        self._report_now = asyncio.Event()
        hal.raise_floor(hal.get_number("time") or 0)
        boot = (hal.get_number("boot") or 0) + 1
        hal.put_number("boot", boot)
        self.health = Health(hal, config, board, boot)
        self.flash, self.regions = open_flash(hal)
        self.session = None
        self.guard = None  # of the console, while it is locked
        self.upload = None  # what became of the last file
        self.sync = config.get("store", {}).get("sync", 0)  # ms until samples must be durable
        self.journal = compose.journal(self)
        self.history = compose.history(self)
        self.port = compose.buses(self)  # of the RS-485 transceiver, None without one
        if config["cloud"]["enabled"]:
            self.session = compose.session(self)
            if self.journal.cloud:
                self._wanted.set()
        self.expiry = None
        est = config.get("est")
        if self.session or est:
            from coupler.trust.expiry import Expiry

            self.expiry = Expiry(self, est and est["url"])
            self.health.fill("trust", self.expiry.report)

    @property
    def serial(self):
        """The client of the serial bus, None without one."""
        for bus in self.config["bus"]:
            if bus["kind"] == "rtu":
                return self.clients[bus["name"]]
        return None

    def setting(self, name, default=None):
        """What is to be remembered besides the configuration."""
        return self._settings(lambda settings: settings.get(name, default))

    def remember(self, name, value):
        """Durable when it returns."""
        self._settings(lambda settings: settings.set(name, value))

    def _settings(self, work):
        from coupler.store.settings import Settings

        try:
            return work(Settings(self.flash, self.regions["settings"][0]))
        finally:
            self.hal.forget("coupler.store.settings", "coupler.store.snapshot")

    def former(self, number):
        """The points of an earlier configuration, as the journal numbers them."""
        from coupler.store.names import Names

        try:
            return Names(self.flash, *self.regions["names"]).load(number)
        finally:
            self.hal.forget("coupler.store.names", "coupler.store.recovery")

    def dropped(self, count):
        """The journal came round before anyone fetched these samples."""
        print("kobler: the journal is full: the oldest %d samples were dropped" % count)
        self.changed()

    def changed(self):
        """Something that is reported, which is not to wait for the next time."""
        if self.session:
            self._report_now.set()

    def switch(self, cloud):
        """The owner's wish: whether anything goes to the cloud. Who asks for it has it remembered."""
        self.journal.switch(cloud)
        if cloud:
            self._wanted.set()
        else:
            self._wanted.clear()
            self.session.stop()

    def hold(self, wanted):
        """No connection with the cloud for a while, whose memory is needed; or no longer so."""
        if wanted:
            self._wanted.clear()
            self.session.stop()
        elif self.journal.cloud:
            self._wanted.set()

    async def run(self):
        """For ever: a task that fails is started again, and the watchdog watches the bus."""
        for name, poller, flight in self.pollers:
            for i in range(flight):
                task = "bus %s %d" % (name, i) if i else "bus " + name
                self._watch.start(task, lambda task=task, poller=poller: self._poll(task, poller), True)
        self._watch.start("age", self._age, True)
        if self.journal:
            self._watch.start("keep", self._keep)
        if self.history:
            self._watch.start("history", self._count)
        for name, gateway in self.gateways:
            self._watch.start("gateway " + name, lambda gateway=gateway: self._serve(gateway))
        dated = self.expiry or self.journal and self.config["net"]["ntp"]
        if dated or self.gateways or "tcp" in [bus["kind"] for bus in self.config["bus"]]:
            self._watch.start("interface", self._interface)
        if dated:
            self._watch.start("clock", self._clock)
        if self.session:
            self._watch.start("link", self._link)
            self._watch.start("report", self._report)
        if self.expiry:
            self._watch.start("expiry", self._expire)
        await self._watch.run()

    def release(self):
        """After Ctrl-C, when no task is resumed any more: the bus is left free, the watchdog gives time."""
        self.save()
        self._watch.relax()
        if self.port:
            self.port.release()

    def save(self):
        """Before a restart: what is still in memory becomes durable."""
        if self.journal:
            self.journal.flush()
            self.journal.settle()

    async def _keep(self):
        # What the flash asks for beside the samples themselves.
        hal = self.hal
        journal = self.journal
        rings = [journal.ring]
        if self.history:
            rings += [self.history.hours.ring, self.history.days.ring]
        settle = 0
        since = 0
        while True:
            await hal.sleep_ms(_KEEP_MS)
            settle += 1
            since += _KEEP_MS
            if self.sync and since >= self.sync:
                since = 0
                journal.flush()
            if settle >= _SETTLE:
                settle = 0
                journal.settle()
            for ring in rings:
                if ring.due():
                    await self._erase(ring)

    async def _erase(self, ring):
        # It stops everything for some 50 ms, so not while a frame is on a serial bus.
        serial = self.serial
        if serial:
            await serial.turn()
        try:
            ring.prepare()
        finally:
            if serial:
                serial.done()

    async def _count(self):
        # A few samples at a time, for the statistics.
        while True:
            await self.hal.sleep_ms(_COUNT_MS if self.history.step(_COUNT) else _KEEP_MS)

    async def _poll(self, name, poller):
        while True:
            await poller.step()
            self._watch.beat(name)

    async def _serve(self, gateway):
        # At the address that the unit has now.
        await self._online.wait()
        hal = self.hal
        while True:
            ip = hal.network_info()["ip"]
            task = asyncio.create_task(gateway.run(ip))
            try:
                while hal.network_info()["ip"] == ip:
                    await hal.sleep_ms(_INTERFACE_MS)
                    if task.done():
                        await task  # raises what ended it
            finally:
                task.cancel()

    async def call(self, name, arguments):
        """A method, asked for by the cloud: (status, answer)."""
        from coupler.access.methods import call

        self._calls += 1
        try:
            return await call(self, name, arguments, _CLOUD_ROLE)
        finally:
            self._calls -= 1
            if not self._calls:
                self.hal.forget(*_CALLED)

    async def _age(self):
        while True:
            self.table.age()
            self._watch.beat("age")
            await self.hal.sleep_ms(_AGE_MS)

    async def _interface(self):
        was_up = False
        place = None
        while True:
            up = await self.hal.network_up(self.config["net"], self.board)
            if not up:
                print("kobler: no network yet")
            else:
                self._online.set()
                info = self.hal.network_info()
                here = (info["kind"], info["ip"])
                if self.session and here != place:
                    self.session.renew()  # the old address cannot be reached any more
                elif self.session and not was_up:
                    self.session.retry()
                place = here
            was_up = up
            await self.hal.sleep_ms(_INTERFACE_MS)

    async def _link(self):
        await self._online.wait()
        await self._clock_known.wait()  # without the time no certificate can be verified
        while True:
            await self._wanted.wait()
            if self._wanted.is_set():  # it may have been switched off again since
                await self.session.run()

    async def _expire(self):
        await self._online.wait()
        await self._clock_known.wait()
        await self.expiry.run()

    async def _clock(self):
        hal = self.hal
        if hal.now_ms() is not None:
            self._date()  # it was running through a reset
        await self._online.wait()
        retry = _CLOCK_RETRY_MS
        while True:
            known = await self._ask_time()
            left = _CLOCK_AGAIN_MS
            while left > 0:
                await hal.sleep_ms(retry)
                if not known or self._clock_doubted():
                    retry = min(_CLOCK_RETRY_MAX_MS, 2 * retry)
                    break
                left -= retry
                retry = _CLOCK_RETRY_MS

    async def _ask_time(self):
        from coupler.net import sntp

        hal = self.hal
        try:
            now, server, trip = await sntp.query(hal, self.config["net"]["ntp"])
            hal.set_time(now)
            hal.put_number("time", now)
            self._date()
            if self._clock_doubted():
                self.session.retry()
            print("kobler: time from %s, round trip %d ms" % (server, trip))
            return True
        except NetError as error:
            print("kobler: no time:", error)
            return False
        finally:
            hal.forget("coupler.net.sntp")

    def _clock_doubted(self):
        # A broker's certificate that is out of its time may be right, and the time server wrong.
        return self.session and self.session.clock_doubted

    def _date(self):
        if self.journal:
            self.journal.clock(self.hal.now_ms())
        self._clock_known.set()

    async def _report(self):
        pause = _REPORT_MS
        while True:
            try:
                await asyncio.wait_for(self._report_now.wait(), pause / 1000)
            except asyncio.TimeoutError:
                pause = min(_REPORT_MAX_MS, pause * 2)
            self._report_now.clear()
            self.session.report()


def main(hal):
    """Run until Ctrl-C; returns at once, saying why, when the unit has nothing it can run. While the console is locked
    neither happens: it never returns."""
    print("kobler: firmware %s, boot cause %s" % (VERSION, hal.reset_cause()))
    state = hal.get_number("console")  # trust/lock.py
    if state != _LOCKED:
        _run(hal, state)
        return
    from coupler.trust import lock

    lock.keep(hal, lambda: _run(hal, state))


def _run(hal, state):
    data = hal.read_file(CONFIG)
    if data is None:
        print("kobler: this unit has no configuration: run `kobler provision` at its USB port")
        return
    try:
        from coupler.compose import check

        coupler = Coupler(hal, check(hal, data), hal.board)
    except ValueError as error:
        print("kobler: the configuration cannot be run: %s; provision it again" % error)
        return
    except Exception:
        hal.watchdog(_SECOND_CHANCE_MS)  # it may run after a restart, and until then someone may come to the console
        raise
    hal.forget("coupler.compose", "coupler.bus.plan", "coupler.points.load", "coupler.points.kinds")
    hal.forget("coupler.store.layout", "coupler.store.names", "coupler.store.opening", "coupler.store.recovery")
    hal.forget("coupler.store.resuming", "coupler.store.groups", "coupler.store.entries")
    try:
        asyncio.run(_guarded(coupler, state))
    except KeyboardInterrupt:
        coupler.release()
        print("kobler: stopped from the console; a reset starts it again")


async def _guarded(coupler, state):
    if state is not None:  # else the console was never locked, and nothing is kept in memory for it
        from coupler.trust.lock import attend

        attend(coupler, coupler._watch, state)
        del attend
    await coupler.run()
