# Builds the parts of a unit from its configuration and joins them. Runs at the start, then app forgets it.
import json

from coupler import VERSION
from coupler.bus import plan
from coupler.bus.poller import Poller
from coupler.health import BusFigures
from coupler.points.table import Table


def check(hal, data):
    """The configuration (JSON bytes) if this firmware can run it; ValueError names what it cannot run."""
    config = json.loads(data)
    if not isinstance(config, dict) or config.get("v") != 1:
        raise ValueError("v: this firmware knows version 1 only")
    for name, kind in (("name", str), ("rev", str), ("net", dict), ("cloud", dict), ("bus", list)):
        if not isinstance(config.get(name), kind):
            raise ValueError("%s: missing or of the wrong kind" % name)
    for index, bus in enumerate(config["bus"]):
        plan.check(bus, "bus[%d]" % index)
    Table(config["bus"], hal)  # it takes the rows over, hence the second reading
    return json.loads(data)


def journal(unit):
    """The journal of a Coupler, joined to its table; None if nobody wants its samples."""
    points = unit.table.points
    cloud = unit.config["cloud"]["enabled"]
    if not (cloud or any([point.history for point in points])):
        return None
    from coupler.store.journal import Journal
    from coupler.store.names import Names
    from coupler.store.opening import recover

    hal = unit.hal
    first, count = unit.regions["journal"]
    wanted = cloud and unit.setting("cloud", True)
    made = Journal(hal, unit.flash, first, count, points, unit.health.boot, 0, wanted, on_drop=unit.dropped)
    hal.raise_floor(recover(made))
    made.names = Names(unit.flash, *unit.regions["names"]).keep(points, made.names)
    unit.health.add("memory", "journal", made.figures)
    unit.table.put = made.put
    unit.table.done = None if unit.sync else made.flush
    return made


def history(unit):
    """What a Coupler remembers of its points, None if none has history."""
    if not unit.journal or not any([point.history for point in unit.table.points]):
        return None
    from coupler.store.resuming import resume
    from coupler.store.statistics import History

    regions = unit.regions
    made = History(unit.hal, unit.journal, unit.former, unit.flash, regions["hours"], regions["days"])
    resume(made)
    unit.health.add("memory", "history", made.figures)
    return made


def buses(unit):
    """Give a Coupler its buses; returns the port of the RS-485 transceiver, None if no bus needs it."""
    port = None
    for index, cfg in enumerate(unit.config["bus"]):
        path = "bus[%d]" % index
        hal = unit.hal
        if cfg["kind"] == "tcp":
            from coupler.bus.tcp import TcpClient
            from coupler.net.resolve import resolve

            client = TcpClient(hal, cfg["host"], cfg["port"], resolve, cfg["flight"])
        else:
            from coupler.bus.client import Client

            if port:
                raise ValueError("%s: this board has one RS-485 port, which another bus has taken" % path)
            port = _port(unit, cfg, path)
            client = Client(port, hal)
        name = cfg["name"]
        poller = Poller(client, cfg, hal, unit.table.on_block, unit.table.split, path)
        unit.clients[name] = client
        unit.pollers.append((name, poller, cfg.get("flight", 1)))
        unit.health.add("bus", name, BusFigures(hal, client, poller).take)
        if cfg.get("gw"):
            _add_gateway(unit, cfg, client)
    return port


def _port(unit, cfg, path):
    wiring = unit.board.get("rs485")
    if not wiring:
        raise ValueError("%s: this board has no RS-485 port" % path)
    return unit.hal.uart(wiring, cfg["baud"], cfg["parity"], cfg["stop"])


def _add_gateway(unit, cfg, client):
    from coupler.access import raw
    from coupler.bus.gateway import Gateway

    rules = cfg["gw"]
    gateway = Gateway(unit.hal.net, rules, lambda to, pdu: raw.answer(client, cfg, to, pdu, rules.get("write")))
    unit.gateways.append((cfg["name"], gateway))
    unit.health.add("gateway", cfg["name"], lambda: gateway.stats)


def session(unit):
    """The session of a Coupler with its cloud."""
    from coupler.store.reader import Reader
    from coupler.uplink.session import Session

    hal = unit.hal
    identity = {"id": "".join(["%02x" % byte for byte in hal.unique_id()])}
    for name in ("cert", "key", "ca"):
        identity[name] = hal.read_file("/etc/%s.der" % name)
    info = {"boot": unit.health.boot, "firmware": VERSION, "reported": unit.health.report}
    made = Session(hal, unit.config["cloud"], identity, Reader(unit.journal, unit.former), info)
    made.inbox.call = unit.call
    made.bus = unit.serial
    if "scope" in unit.config["cloud"]:
        azure = made.dialect
        azure.assign(*unit.setting("hub", (None, None)))  # pyright: ignore[reportAttributeAccessIssue]
        azure.assigned = lambda scope, hub: unit.remember("hub", [scope, hub])  # pyright: ignore
    unit.journal.on_flush = made.wake
    unit.health.add("cloud", "link", lambda: made.count)
    return made
