# The cloud link: connects, keeps the MQTT session, drains the source and moves its cursor only on acknowledgement.
#
# One connection has three tasks: read, pump (the only one that writes) and this one, which watches the clock.
# Whatever goes wrong in one of them ends the connection, never the session. Every wait has a bound.
import asyncio

from coupler.const import const
from coupler.net.errors import NetError
from coupler.uplink import mqtt
from coupler.uplink.inbox import Inbox
from coupler.uplink.link import Link
from coupler.uplink.outbox import Outbox

_KEEP_ALIVE_S = const(60)
_STABLE_MS = const(30000)  # a link that held for so long earns a fresh start of the back-off
_GOODBYE_S = 0.4  # with the close of WebSocket and TLS, stop() takes less than a second
_AGAIN_S = 0.1
_EASE_MS = const(1)
_PIECE_MS = const(20)  # between two looks at what the source passes over
_MAX_OUT = const(4096)  # bytes of answers that wait to be written, before reading stops


class Session:
    """cloud: the compiled configuration's part. identity: id, cert, key, ca (DER). source: as of Outbox.

    info: boot, firmware, reported (a callable that gives a dict). Call wake() when the source has something new."""

    base_ms = 2000
    cap_ms = 60000
    bus = None  # turn() and done(): the handshake's arithmetic takes a turn of its own on it
    patience_ms = 20000  # a packet unanswered for so long means that the link is dead

    def __init__(self, hal, cloud, identity, source, info):
        if cloud["dialect"] == "plain":
            from coupler.uplink.plain import Plain as Dialect
        elif cloud["dialect"] == "azure":
            from coupler.uplink.azure import Azure as Dialect
        else:
            raise ValueError("cloud dialect %r is not known" % cloud["dialect"])
        self._hal = hal
        self.identity = identity
        self._info = info
        self.dialect = dialect = Dialect(identity["id"], cloud)
        will = (dialect.presence, dialect.state("offline", info), dialect.retain)
        self._mqtt = mqtt.Mqtt(dialect.client_id, _KEEP_ALIVE_S, max_packet=dialect.max_packet, will=will)
        self.count = {"attempts": 0, "connects": 0, "failures": 0, "packs": 0, "samples": 0, "acked": 0, "repeated": 0}
        self.count.update({"received": 0, "refused": 0, "oversize": 0, "answers_lost": 0, "stalled_ms": 0})
        self.status = {"state": "idle", "error": None, "text": "", "broker": None, "address": None, "since": None}
        self.status["count"] = self.count
        self.outbox = Outbox(hal, dialect, self._mqtt, source, cloud, self.count)
        self.inbox = Inbox(self)
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._drained = asyncio.Event()
        self._again = asyncio.Event()
        self._out = bytearray()
        self._link = None
        self._failed = 0  # connections in a row that did not hold
        self._up_ms = 0
        self._error = None
        self._stopping = False
        self._task = self._ending = None  # the attempt, and what ends it
        self._using = None  # the identity of the connection
        self.proved = None  # the one with which the broker accepted a connection last
        self._serving = False
        self.clock_doubted = False  # since the last connection a broker's certificate was out of its time

    def wake(self):
        """The source has something new."""
        self._wake.set()

    def retry(self):
        """Try now instead of waiting the back-off out (the network came up, someone asked)."""
        self._again.set()

    def stop(self):
        """Ends run() within a second, saying goodbye to the broker if there is one."""
        self._stopping = True
        self._over.set()
        self._again.set()
        if self._task:
            self._ending = asyncio.create_task(self._end(self._task))

    async def _end(self, task):
        # Again and again: cancel() is lost on a wait whose time is just over.
        while not task.done():
            if not self._serving:
                task.cancel()
            await asyncio.sleep(_AGAIN_S)

    def renew(self):
        """The unit has another address: the connection is given up, and tried again at once."""
        self._over.set()
        self._again.set()

    def use(self, identity):
        """Connect with this identity, at once."""
        self.identity = identity
        self.renew()

    def report(self):
        """Publishes the reported properties, if connected: they are sent at each connect anyway."""
        if self._mqtt.connected:
            dialect = self.dialect
            reported = self._info.get("reported")
            payload = dialect.report(reported() if callable(reported) else reported or {})
            self.post(dialect.reported, payload, dialect.retain)

    def post(self, topic, payload, retain=False):
        """Publish at QoS 1, once, for what is no sample; False when there is no room or no connection."""
        packet = self._mqtt.publish(topic, payload, 1, retain) if self._mqtt.connected else None
        if packet is None:
            return False
        self._put(self._link.frame(packet))
        return True

    async def run(self):
        """Until stop() or cancelled."""
        self._stopping = False
        self._again.clear()
        try:
            while not self._stopping:
                self._task = asyncio.create_task(self._attempt())  # a task of its own, for stop() to cancel
                try:
                    await self._task
                except asyncio.CancelledError:
                    if not self._stopping:
                        raise
                if not self._stopping:
                    await self._pause()
        finally:
            self._task = None
            self._stage("stopped")

    # --- one attempt: every address of the first name, then of the second, until one of them works

    def _stage(self, state):
        self.status["state"] = state

    def _reached(self, state):
        self._stage(state)
        if self._stopping:
            raise asyncio.CancelledError  # cancel() is lost on a wait that is just over

    def _fault(self, e):
        self.count["failures"] += 1
        kind = getattr(e, "kind", None)
        if kind is None:
            kind = "memory" if isinstance(e, MemoryError) else "closed" if isinstance(e, OSError) else "internal"
        self.status["error"] = kind
        if kind == "tls-clock":
            self.clock_doubted = True
        self.status["text"] = str(e) or repr(e)

    async def _attempt(self):
        self.count["attempts"] += 1
        self._up_ms = 0
        try:
            for part in ("ca", "cert", "key"):
                if not self.identity.get(part):
                    raise NetError("tls", "this unit has no certificate yet (%s is missing)" % part)
            if self.dialect.prepare:
                await self.dialect.prepare(self._hal, self.identity, self._reached, self.status["error"], self.bus)
            places = [self.dialect.cloud]
            places.extend(self.dialect.cloud.get("more", ()))
            for place in places:
                if await self._reach(place):
                    break
        except Exception as e:  # noqa: BLE001 - whatever it is, it ends this attempt only, and it is named
            self._fault(e)
        self._failed = 0 if self._up_ms >= _STABLE_MS else self._failed + 1

    async def _reach(self, place):
        # True when a broker there accepted us: if it broke later, all is begun afresh, with the first name.
        self.status["broker"] = place["host"]
        self._reached("resolving")
        try:
            left = await self._resolve(place["host"])
        except Exception as e:  # noqa: BLE001 - the next place may be reached
            self._fault(e)
            return False
        while left:
            self._reached("connecting")
            stream, ip, left = await self._dial(left, place["port"])
            if stream and await self._connection(place, ip, stream):
                return True
        return False

    async def _resolve(self, host):
        from coupler.net.resolve import resolve

        return await resolve(self._hal, host)

    async def _dial(self, addresses, port):
        from coupler.net.dial import dial

        try:
            return await dial(self._hal, addresses, port, Link.tcp_ms, self._fault)
        finally:
            self._hal.forget("coupler.net.dial")

    async def _connection(self, place, ip, stream):
        self._using = self.identity
        self._link = link = Link(self._hal, place, self._using, self.bus)
        self.status["address"] = ip
        self._over.clear()
        code = 1000
        self._mqtt.user = self.dialect.user
        try:
            try:
                await link.open(ip, self._reached, self._mqtt.connect(), stream)
            finally:
                self.count["stalled_ms"] = max(self.count["stalled_ms"], link.stalled)
            self._reached("mqtt")
            self._serving = True
            await self._serve(link)
        except Exception as e:  # noqa: BLE001 - whatever it is, it ends this connection only, and it is named
            self._fault(e)
            code = getattr(e, "code", 1000)
        finally:
            self._serving = False
            accepted = self._mqtt.connected
            self._mqtt.reset()
            self.status["since"] = None
            await link.close(code)
            self._link = None
            self._hal.forget("coupler.net.tls_faults")
        return accepted

    def backoff_ms(self):
        """How long to wait now. Full jitter (anything up to the limit), so that a fleet does not return in step."""
        limit = min(self.cap_ms, self.base_ms << min(self._failed, 10))
        return int.from_bytes(self._hal.urandom(2), "big") * limit >> 16

    async def _pause(self):
        self._stage("waiting")
        try:
            await asyncio.wait_for(self._again.wait(), self.backoff_ms() / 1000)
        except asyncio.TimeoutError:
            pass
        self._again.clear()

    # --- one connection

    async def _serve(self, link):
        if self._over.is_set():
            return  # stop() or renew() came while it was opened
        self._error = None
        self._out = bytearray()
        tasks = [asyncio.create_task(self._guard(self._read(link))), asyncio.create_task(self._guard(self._pump(link)))]
        try:
            await self._watch(link)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                await task
        if self._stopping:
            if self._mqtt.connected:
                try:
                    await asyncio.wait_for(self._goodbye(link), _GOODBYE_S)
                except (asyncio.TimeoutError, NetError):
                    pass  # the broker tells the others, by the last will
        elif self._error:
            raise self._error

    async def _watch(self, link):
        hal = self._hal
        last = hal.ticks_ms()
        while not self._over.is_set() and not self._stopping:
            try:
                await asyncio.wait_for(self._over.wait(), 1)
            except asyncio.TimeoutError:
                pass
            now = hal.ticks_ms()
            ms = hal.ticks_diff(now, last)
            last = now
            if self._mqtt.connected:
                self._up_ms += ms
            packet = None if self._over.is_set() else self._mqtt.elapsed(ms, self.patience_ms)
            if packet:
                self._put(link.frame(packet))
            if self._mqtt.connected:
                self._due(ms)
            if self._mqtt.connected and self.outbox.elapsed(ms):
                self.wake()

    async def _guard(self, work):
        try:
            await work
        except asyncio.CancelledError:
            pass  # only _serve() cancels, and it waits
        except Exception as e:  # noqa: BLE001 - _serve() raises it
            self._error = self._error or e  # what follows from the first fault is not its cause
        self._over.set()

    async def _read(self, link):
        while True:
            await link.receive(self._chunk, self._put)
            while len(self._out) > _MAX_OUT:
                self._drained.clear()
                await self._drained.wait()  # ends with the connection, which elapsed() bounds

    def _put(self, frame):
        self._out += frame
        self._wake.set()

    def _chunk(self, view):
        self._mqtt_events(self._mqtt.receive(view))

    def _mqtt_events(self, events):
        for kind, a, b in events:
            if kind == mqtt.ACKED:
                self.outbox.acked(a)
                self._wake.set()
            elif kind == mqtt.REPLY:
                self._put(self._link.frame(a))
            elif kind == mqtt.MESSAGE or kind == mqtt.REPEATED:
                self.count["received"] += 1
                self.inbox.message(a, b, kind == mqtt.REPEATED)
            elif kind == mqtt.CONNECTED:
                self._connected(a)
            elif kind == mqtt.OVERSIZE:
                self.count["oversize"] += 1
            elif kind == mqtt.SUBSCRIBED:
                if 128 in a:
                    self.count["refused"] += 1
                    self.status["error"] = "mqtt-refused"
                    self.status["text"] = "the broker refused a subscription"
                self._due(None)

    def _connected(self, session_present):
        self.count["connects"] += 1
        self.clock_doubted = False
        self.proved = self._using
        self.status["error"] = None
        self.status["text"] = ""
        self.status["since"] = self._hal.now_ms()
        self._stage("online")
        self.outbox.connected(session_present)
        self._put(self._link.frame(self._mqtt.subscribe(self.dialect.subscriptions(self.dialect.cloud["ack"]))))
        self.post(self.dialect.presence, self.dialect.state("online", self._info), self.dialect.retain)
        self.report()

    def _due(self, ms):
        due = self.dialect.due
        for topic, payload in due(ms) if due else ():
            self.post(topic, payload)

    async def _pump(self, link):
        while True:
            if self._out:
                out = self._out
                self._out = bytearray()
                await link.write(out)
                self._drained.set()
                continue
            if self._mqtt.connected:
                packet = self.outbox.next()
                if packet:
                    await link.write(link.frame(packet))
                    # The others' turn: the socket may take it all at once, and what is old has time.
                    await self._hal.sleep_ms(_EASE_MS if self.outbox.behind else 0)
                    continue
                if self.outbox.more:
                    await self._hal.sleep_ms(_PIECE_MS)
                    continue
            self._wake.clear()
            await self._wake.wait()

    async def _goodbye(self, link):
        dialect = self.dialect
        packet = self._mqtt.publish(dialect.presence, dialect.state("offline", self._info), 0, dialect.retain)
        await link.write(link.frame(packet))
        await link.write(link.frame(self._mqtt.disconnect()))
        await link.ended()
