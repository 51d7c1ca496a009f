# What `kobler doctor --port` runs at the console in the application's place: the way to the cloud step by step, by the
# very parts that the application uses, with the unit's own network, configuration and identity. Each line is JSON
# behind a mark; the host knows by its kind what to do about a failure. Every wait has a bound, and however it ends, by
# Ctrl-C or with nobody at the cable any more, the unit restarts into its normal run.
import asyncio
import json
import time

from coupler import VERSION
from coupler.const import const
from coupler.net.errors import NetError
from coupler.net.resolve import is_ip, resolve, split

_MARK = "@kobler "
_STEP_MS = const(180000)  # the watchdog's patience with one step, which has its own bounds
_REGISTER_S = const(60)
_ADDRESS_MS = const(15000)  # as long as hal takes for one interface
_KNOCK_MS = const(5000)  # for one address; the resolver gives eight at most
_FLUSH_S = 0.2  # the last line is to be out before the reset
_WAY = ("dns", "tcp", "tls", "websocket", "mqtt")
_IDENTITY = ("ca", "cert", "key")


class _OneServer:
    """A hal whose network has one DNS server, so that each is asked by itself."""

    def __init__(self, hal, server):
        self._hal = hal
        self._server = server

    def __getattr__(self, name):
        return getattr(self._hal, name)

    def network_info(self):
        return dict(self._hal.network_info(), dns=(self._server,))


class Doctor:
    """tell(line): is handed each finding, a dict."""

    answer_s = 10  # for the broker to answer in MQTT

    def __init__(self, hal, tell):
        self._hal = hal
        self._tell = tell
        self._began = 0
        self._config = None
        self._identity = None
        self._hub = None
        self._dns = ()

    # --- findings: ok None is what was not tried

    def _pass(self, check, detail, host=None, port=None):
        self._finding(check, True, None, detail, host, port)

    def _fail(self, check, error, host=None, port=None):
        kind = getattr(error, "kind", None)
        text = str(error)
        if kind is None:
            kind = "internal"
            if isinstance(error, asyncio.TimeoutError):
                kind = "timeout"
                text = "no answer in time"
            elif isinstance(error, MemoryError):
                kind = "memory"
            elif isinstance(error, OSError):
                kind = "closed"
            elif isinstance(error, ValueError):
                kind = "config"
        self._finding(check, False, kind, text or repr(error), host, port)

    def _finding(self, check, ok, kind, detail, host, port):
        hal = self._hal
        now = hal.ticks_ms()
        ms = 0 if ok is None else hal.ticks_diff(now, self._began)
        self._began = now
        line = {"event": "check", "check": check, "ok": ok, "kind": kind, "detail": detail, "ms": ms}
        if host:
            line["host"] = host
            line["port"] = port
        self._tell(line)

    def _skip(self, checks, why):
        for check in checks:
            self._finding(check, None, None, "not tried: " + why, None, None)

    async def _step(self, check, work, host=None, port=None):
        # What `work` gives is (detail, value); None when it failed.
        self._began = self._hal.ticks_ms()
        try:
            detail, value = await work
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this step's outcome, and it is told
            self._fail(check, error, host, port)
            return None
        self._pass(check, detail, host, port)
        return value

    # --- the steps

    async def run(self):
        hal = self._hal
        who = {"event": "unit", "id": _unit_id(hal), "firmware": VERSION, "board": hal.board.get("name")}
        who["runtime"] = hal.name
        self._tell(who)
        hal.raise_floor(hal.get_number("time") or 0)
        wanted = await self._step("configuration", self._load())
        if wanted is None:
            self._skip(("network", "time", "identity") + _WAY, "without a configuration there is nothing to try")
            return
        net = self._config["net"]
        up = await self._network(net)
        if up:
            await self._clock(net["ntp"], wanted)
        else:
            self._skip(("time",), "no network")
        if not wanted:
            enabled = self._config["cloud"]["enabled"]
            why = "somebody switched the cloud off at this unit" if enabled else "its configuration has the cloud off"
            self._finding("cloud", None, "switched" if enabled else "disabled", why, None, None)
        elif await self._step("identity", self._check_identity()) is None:
            self._identity = None
        if wanted and up:
            await self._go(self._config["cloud"])
        elif wanted:
            self._skip(_WAY, "no network")
        self._tell_needs()

    async def _load(self):
        # -> whether the cloud is wanted, by the configuration and by who switched it off since
        hal = self._hal
        data = hal.read_file("/etc/config.json")
        if data is None:
            raise NetError("missing", "this unit has no configuration")
        from coupler.compose import check

        try:
            config = check(hal, data)
        except ValueError as error:
            raise NetError("config", "this firmware cannot run it: %s" % error)
        finally:
            del check
            hal.forget("coupler.compose", "coupler.bus.plan", "coupler.bus.poller", "coupler.points.table")
            hal.forget("coupler.points.load", "coupler.points.kinds", "coupler.health")
        config["history"] = False
        for bus in config["bus"]:
            for unit in bus.pop("units", ()):
                for block in unit["blocks"]:
                    for point in block["p"]:
                        config["history"] |= bool(point.get("h"))
        self._config = config
        wanted = config["cloud"]["enabled"] and self._setting("cloud")
        return "%s, revision %s" % (config["name"], config["rev"]), wanted

    def _setting(self, name):
        from coupler.store.layout import open_flash
        from coupler.store.settings import Settings

        try:
            flash, regions = open_flash(self._hal)
            return Settings(flash, regions["settings"][0]).get(name, True)
        finally:
            self._hal.forget("coupler.store.settings", "coupler.store.snapshot", "coupler.store.layout")

    async def _network(self, net):
        # -> whether an interface has an address; those that are preferred to it have none
        hal = self._hal
        fallback = net.get("fallback", ())
        for one in fallback:
            one["after"] = _ADDRESS_MS  # not to be waited for at length today
        self._began = hal.ticks_ms()
        info: dict = {}
        try:
            for _ in range(1 + 2 * len(fallback)):
                if await hal.network_up(net, hal.board):
                    info.update(hal.network_info())
                    break
        except Exception as error:  # noqa: BLE001 - as in _step()
            self._fail("network", error)
            return False
        for kind in [net["kind"]] + [one["kind"] for one in fallback]:
            if info and info.get("kind", kind) == kind:
                self._dns = [server for server in info["dns"] if server and server != "0.0.0.0"]
                told = (kind, info["ip"], info["mask"], info["gateway"], ", ".join(self._dns) or "none")
                self._pass("network", "%s: %s, mask %s, gateway %s, DNS %s" % told)
                return True
            self._fail("network", NetError("network", "%s: no address in %d s" % (kind, _ADDRESS_MS // 1000)))
        return False

    async def _clock(self, servers, wanted):
        if not (wanted or self._config["history"]):
            return
        if not servers:
            self._began = self._hal.ticks_ms()
            self._fail("time", NetError("config", "no time server is configured"))
        refused = 0
        for server in servers:
            host, port = server, 123
            try:
                host, port = split(server, port)
            except NetError:
                pass  # the step says so
            known = await self._step("time", self._ask_time(server), host, port)
            refused += known is None
        # Servers that give a doubtful time are believed when they agree.
        if refused == len(servers) > 1:
            await self._step("time", self._ask_time(*servers))

    async def _ask_time(self, *servers):
        from coupler.net import sntp

        hal = self._hal
        before = hal.now_ms()
        if len(servers) == 1:
            await resolve(hal, split(servers[0], 0)[0])  # a name that is not known is another trouble
        began = hal.ticks_ms()
        now, server, trip = await sntp.query(hal, servers)
        passed = hal.ticks_diff(hal.ticks_ms(), began)
        hal.set_time(now)
        detail = "%s says %s UTC, round trip %d ms" % (server, sntp.date(now), trip)
        if before is None:
            return detail + "; this unit's clock was not set", now
        return detail + "; this unit's clock was off by %d ms" % (before + passed - now), now

    async def _check_identity(self):
        hal = self._hal
        found: dict = {"id": _unit_id(hal)}
        for part in _IDENTITY:
            found[part] = hal.read_file("/etc/%s.der" % part)
            if not found[part]:
                raise NetError("missing", "this unit has no certificate yet (%s is missing)" % part)
        self._identity = found
        from coupler.net.sntp import date
        from coupler.trust import x509

        try:
            shown = x509.split(found["cert"])
            own = x509.Certificate(shown[0])
        except ValueError as error:
            raise NetError("identity", "its certificate is damaged: %s" % error)
        finally:
            hal.forget("coupler.trust.x509", "coupler.trust.p256", "coupler.trust.der")
        if own.common_name() != found["id"]:
            raise NetError("identity", "its certificate is for %s, this unit is %s" % (own.common_name(), found["id"]))
        now = hal.now_ms()
        until = date(1000 * own.not_after)
        if now is not None and now > 1000 * own.not_after:
            raise NetError("expired", "its certificate has expired on %s" % until)
        if now is not None and now < 1000 * own.not_before:
            raise NetError("expired", "its certificate is valid from %s on only" % date(1000 * own.not_before))
        detail = "certificate of %s, valid until %s" % (found["id"], until)
        if len(shown) > 1:
            detail += ", with %d of the authorities above it" % (len(shown) - 1)
        return detail, True

    async def _go(self, cloud):
        if cloud["dialect"] == "azure":
            from coupler.uplink.azure import Azure as Dialect
        else:
            from coupler.uplink.plain import Plain as Dialect
        dialect = Dialect(_unit_id(self._hal), cloud)
        if "scope" in cloud:
            if not await self._reach(cloud):
                return self._skip(("registration",) + _WAY, "the provisioning service is not reached")
            why = self._obstacle()
            if why:
                return self._skip(("registration",) + _WAY, why)
            place = (cloud["host"], cloud["port"])
            self._hub = await self._step("registration", self._register(dialect), *place)
            if not self._hub:
                return self._skip(_WAY, "no hub is known")
        # The first broker that works is the one that is used; the others are there for when it does not.
        target: dict = dialect.cloud  # pyright: ignore[reportAssignmentType] - it has one by now
        for place in [target] + target.get("more", []):
            await self._visit(place, dialect)

    async def _visit(self, target, dialect):
        rest = list(_WAY[2:])
        if target["scheme"] != "wss":
            rest.remove("websocket")
        ip = await self._reach(target)
        why = self._obstacle()
        if ip and not why:
            await self._open(target, dialect, ip, rest)
        else:
            self._skip(rest, why if ip else "the broker is not reached")

    def _obstacle(self):
        if not self._identity:
            return "the unit has no good certificate"
        if self._hal.now_ms() is None:
            return "without the time no certificate can be judged"
        return None

    async def _register(self, dialect):
        await asyncio.wait_for(dialect.prepare(self._hal, self._identity, _ignore, None, None), _REGISTER_S)
        hub = dialect.cloud["host"]
        return "the unit's hub is " + hub, hub

    async def _reach(self, target):
        # The first address that answers, None if none does: name and TCP
        host = target["host"]
        port = target["port"]
        addresses = await self._resolve(host, port)
        if not addresses:
            self._skip(("tcp",), "the name has no address")
            return None
        return await self._step("tcp", self._knock(addresses, port), host, port)

    async def _resolve(self, host, port):
        # Each server's word, then as the application does it: the first server that answers counts.
        servers = self._dns
        low = host.lower()
        if is_ip(host) or low == "localhost" or low.endswith(".localhost") or not servers:
            servers = (None,)
        first = None
        for server in servers:
            found = await self._step("dns", self._look_up(host, server), host, port)
            if first is None:
                first = found or ()
        if first or len(servers) < 2:
            return first
        try:
            return await resolve(self._hal, host)
        except NetError:
            return None

    async def _look_up(self, host, server):
        found = await resolve(_OneServer(self._hal, server) if server else self._hal, host)
        text = ", ".join(found)
        if server:
            return "%s says: %s is %s" % (server, host, text), found
        return "%s needs no server" % host if is_ip(host) else "%s is %s" % (host, text), found

    async def _knock(self, addresses, port):
        hal = self._hal
        good = None
        said = []
        why = None
        for ip in addresses:
            began = hal.ticks_ms()
            try:
                (await hal.net.tcp(ip, port, _KNOCK_MS)).close()
                said.append("%s answers in %d ms" % (ip, hal.ticks_diff(hal.ticks_ms(), began)))
                good = good or ip
            except NetError as error:
                why = why or error
                said.append(error.text)
        if not good:
            raise NetError(why.kind if why else "tcp", "; ".join(said))
        return "port %d: %s" % (port, "; ".join(said)), good

    async def _open(self, target, dialect, ip, rest):
        # By the application's own link, whose stages tell which step is under way.
        from coupler.uplink import mqtt
        from coupler.uplink.link import Link

        hal = self._hal
        host = target["host"]
        place = (host, target["port"])
        own = dialect.client_id
        # A hub knows its devices by this id alone. Anywhere else another id with a session that ends with it leaves the
        # unit's own session as it is, and what waits in it.
        clean = dialect.user is None
        client = mqtt.Mqtt(own + "-doctor" if clean else own, 30, max_packet=2048, user=dialect.user, clean=clean)
        said = {
            "tls": "the certificate is good: from the authority that this unit trusts, for %s, valid now" % host,
            "websocket": "%s speaks MQTT" % target.get("path"),
            "mqtt": "the broker accepts this unit",
        }
        self._began = hal.ticks_ms()

        def over():
            check = rest.pop(0)
            self._pass(check, said[check], *place)

        def stage(name):
            if name == "tls":
                self._began = hal.ticks_ms()
            elif name == "websocket":
                over()

        link = Link(hal, target, self._identity)
        try:
            await link.open(ip, stage, client.connect())
            while len(rest) > 1:
                over()
            await asyncio.wait_for(_accepted(link, client), self.answer_s)
            over()
            await asyncio.wait_for(link.write(link.frame(client.disconnect())), self.answer_s)
        except Exception as error:  # noqa: BLE001 - as in _step(); behind the last step it no longer matters
            if rest:
                self._fail(rest.pop(0), error, *place)
                self._skip(rest, "the step before failed")
        finally:
            await link.close()

    def _tell_needs(self):
        # What the host makes the firewall's table of; nothing secret.
        config = self._config
        net = config["net"]
        needs = {
            "network": {"kind": net["kind"], "address": "dhcp" if net["address"] == "dhcp" else "static"},
            "dns": self._dns,
            "ntp": net["ntp"],
            "cloud": config["cloud"],
            "history": config["history"],
            "est": (config.get("est") or {}).get("url"),
            "hub": self._hub,
            "bus": [{key: bus[key] for key in ("name", "host", "port", "gw") if key in bus} for bus in config["bus"]],
        }
        self._tell({"event": "needs", "needs": needs})


def _unit_id(hal):
    return "".join(["%02x" % byte for byte in hal.unique_id()])


def _ignore(_stage):
    pass


async def _accepted(link, client):
    from coupler.uplink import mqtt

    events = []
    while not [event for event in events if event[0] == mqtt.CONNECTED]:
        replies = []
        await link.receive(lambda view: events.extend(client.receive(view)), replies.append)
        for reply in replies:
            await link.write(reply)


def main(hal):
    """Examine, print, and restart the unit; does not return."""
    dog = hal.watchdog(_STEP_MS)

    def tell(line):
        dog.feed()
        print(_MARK + json.dumps(line))

    why = None
    try:
        asyncio.run(Doctor(hal, tell).run())
    except KeyboardInterrupt:
        why = "stopped from the console"
    except Exception as error:  # noqa: BLE001 - the host is told, and the unit restarts in any case
        why = "%s: %s" % (type(error).__name__, error)
    finally:
        try:
            tell({"event": "end", "why": why})
            time.sleep(_FLUSH_S)
        finally:
            hal.reset()
