"""A whole coupler on a virtual board, its bus polled all the time, while its way to the cloud fails in every way.

`Site` is the coupler, its network and its broker; BROKER_FAULTS and NETWORK_FAULTS say what happens to it; its method
`suffer` makes one happen, ends it, and measures what the bus, the memory and the cloud noticed; `judge` says whether
that is good.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from faulty_network import NameServer, Peer, TimeServer, Wire
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.config import compile_config, load
from kobler.pki import Authority, certificates, files
from kobler.provision import provision
from kobler.provision.console import Console
from kobler.sim.interpreter import micropython
from polled_board import schedule

NAME = "broker.example.com"
ELSEWHERE = "127.0.0.2"
DAY_S = 86400.0
YEAR_S = 365.25 * DAY_S
HEAP = 330_000  # 64-bit words: twice an ESP32's bytes
POLL_S = 0.1
_AROUND_S = 0.03  # a poll that is due so soon after a handshake may still have to wait for the one before
_EARLY_S = 0.01  # no poll is so early
_CLOCK_S = 15.0  # the first pause of the unit's time client
_ALLOWED_S = 3.0  # for a connection's own work, on a busy computer
_FRESH_S = 5.0
_DAY_SAMPLES = 12_000
_FLAT = 4096  # bytes of heap, of 146,000
_MORE = 2  # tries
_BLOCKED_MS = 900  # nothing that waits for a network does so for less

SITE = """
[device]
name = "faults"
[cloud]
enabled = true
url = "wss://broker.example.com:{port}/mqtt"
[[bus]]
name = "field"
kind = "rtu"
[[bus.unit]]
id = 1
name = "meter"
point = [
  {{ name = "a", table = "holding", address = 0, type = "u16", poll = "100ms" }},
  {{ name = "b", table = "holding", address = 200, type = "u16", poll = "100ms" }},
  {{ name = "c", table = "holding", address = 400, type = "u16", poll = "100ms" }},
]
"""

# The real firmware with other times, which tells on its console how each attempt ended and how long it will wait.
MAIN = """
import json
from coupler import app, hal
from coupler.uplink.link import Link
from coupler.uplink.session import Session

Session.base_ms, Session.cap_ms, Session.patience_ms, Link.tcp_ms, Link.tls_ms, Link.http_ms = %s
limit = Session.backoff_ms

def told(self):
    wait = limit(self)
    print("@link " + json.dumps([self.status["error"], self.status["text"], wait]))
    return wait

Session.backoff_ms = told
app.main(hal.get())
"""

_WITNESS = """
import time
due = time.ticks_us()
while True:
    due = time.ticks_add(due, 20000)
    time.sleep_us(max(0, time.ticks_diff(due, time.ticks_us())))
    print(time.ticks_diff(time.ticks_us(), due))
"""


@dataclass(frozen=True)
class Times:
    """Of the link, in milliseconds."""

    base: int
    cap: int
    patience: int
    tcp: int
    tls: int
    http: int

    def __str__(self) -> str:
        return f"({self.base}, {self.cap}, {self.patience}, {self.tcp}, {self.tls}, {self.http})"


REAL = Times(2000, 60000, 20000, 10000, 20000, 10000)
QUICK = Times(250, 1500, 6000, 1500, 4500, 1500)


class Named(Authority):
    """Whose server certificates are for the broker's name."""

    def server(self, names: Any = (NAME, "localhost")) -> Any:
        return super().server(names)

    @classmethod
    def made(cls, folder: Path) -> Named:
        """A new authority in this folder."""
        found = cls.open_or_create(folder)
        assert isinstance(found, Named)
        return found

    def tls(self, clients: Authority | None = None) -> ssl.SSLContext:
        """A server's side: `clients` is the authority that a client's certificate must be of."""
        issued = self.server()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.cert_pem, issued.key_pem)
        context.load_verify_locations((clients or self).chain_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def expired(self) -> ssl.SSLContext:
        """A server's side whose certificate has just expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = files.read_key(self.folder / "issuer.key", "")
        names = certificates.server_names([NAME])
        leaf = certificates.leaf(self.signer, signer, key.public_key(), NAME, names, 0, server=True)
        path = self.folder / "expired.pem"
        pems = [files.key_pem(key), *map(files.certificate_pem, [leaf, *self.chain])]
        path.write_bytes(b"".join(pems))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@dataclass
class Measured:
    """What one fault did. Times in ms, but recovery and its bound, which are in s.

    late: how late polls were, of those that no handshake was in the way of; late_handshake: of the others, the latest.
    computer: how late this computer wakes a program, 99 %. heap: bytes that are free no more. errors: text by kind."""

    fault: str
    polls: int
    late_p99: float
    late_most: float
    late_handshake: float
    computer: float
    handshakes: int
    stalled: int
    recovery: float
    bound: float
    heap: int
    errors: dict[str, str]
    waits: list[int]
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """It lasts from inject(site) until the unit has named all of `says`, kinds of error, and for `hold_s` more; then
    heal(site).

    stage: what of Times an attempt that is under way at the end may still take, and extra_s. during: the unit has to be
    online again before it ends. misdates: what is sampled meanwhile has a wrong time. late_ms: how late polls may be,
    99 %."""

    name: str
    inject: Callable[[Site], None]
    heal: Callable[[Site], None]
    says: tuple[str, ...]
    stage: str = ""
    extra_s: float = 0.0
    hold_s: float = 2.5
    during: bool = False
    misdates: bool = False
    late_ms: float = 5.0


class Site:
    """Context manager: a provisioned coupler that is online at the end of entering."""

    def __init__(self, folder: Path, times: Times) -> None:
        self.folder, self.times = folder, times
        self.authority, self.others = Named.made(folder / "pki"), Named.made(folder / "others")
        self.broker = Broker(self.authority)
        self.wire = Wire(0)
        self.names = NameServer("127.0.0.1")
        self.clocks = (TimeServer(), TimeServer())
        self.peers = {
            "impostor": Peer(self.others.tls()),
            "expired": Peer(self.authority.expired()),
            "refuses": Peer(self.authority.tls(self.others)),
            "200": Peer(self.authority.tls(), b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
            "407": Peer(self.authority.tls(), b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        }
        self.network = Background(self.broker, self.names, *self.clocks, *self.peers.values())
        self.witness = Witness()
        self._lock = threading.Lock()
        self._online: list[float] = []  # when it connected
        self._reports: list[dict[str, Any]] = []
        self._seqs: dict[int, float] = {}  # number of each sample -> how old it was, by its own time, when it came
        self._phases: dict[int, float] = {}
        self._heap = 0
        self._boot = self._bus_errors = 0
        self._misdated: set[int] = set()  # seq of samples whose time is known to be wrong

    # - up and down

    def __enter__(self) -> Site:
        self.broker.subscribe(self._heard)
        self.network.__enter__()
        try:
            self.wire.port = self.broker.port
            self.do(self.wire.start())
            self._power()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_board"):
            assert self._board.stdin and self._board.stdout
            self._board.stdin.close()
            try:
                self._board.wait(10)
            except subprocess.TimeoutExpired:
                self._board.kill()
                self._board.wait()
            self._board.stdout.close()
        self.witness.close()
        self.do(self.wire.stop())
        self.network.__exit__(None, None, None)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """In the network's loop."""
        return self.network.call(work, 15)

    def _power(self) -> None:
        program = Path(__file__).with_name("polled_board.py")
        command = [sys.executable, "-P", str(program), str(self.folder), str(HEAP)]
        self._board = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self._line()
        self.device, self.usb = ready["device"], ready["usb"]
        site = self.folder / "site.toml"
        site.write_text(SITE.format(port=self.wire.here))
        config = json.loads(compile_config(load(site)))
        # No configuration of a user's names a port of a name server.
        loopback = {"ip": "127.0.0.1", "mask": "255.0.0.0", "gateway": "127.0.0.1", "dns": [self.names.address]}
        config["net"]["address"] = loopback
        config["net"]["ntp"] = [clock.address for clock in self.clocks]
        with Console(self.usb) as console:
            console.run(f"f = open('/main.py', 'w')\nf.write({MAIN % self.times!r})\nf.close()", "other times")
        provision(self.usb, self.authority, json.dumps(config).encode())
        self.until_online(0, 30)
        # What is only loaded for a second connection is there then, too.
        began = time.monotonic()
        self.do(self.wire.drop())
        self.until_online(began, 30)
        self.until_all_is_there(30)
        with self._lock:
            self._bus_errors = 0
            self._heap, self._boot = self._reports[-1]["heap_free"], self._reports[-1]["boot"]
        self._resets = self.ask("resets")
        self.settle()

    def settle(self) -> None:
        """Learn when each block is polled while nothing is wrong."""
        self.ask("first")
        self.ask("polls")
        time.sleep(2)
        seen: dict[int, list[float]] = {}
        for t, address in self.ask("polls"):
            seen.setdefault(address, []).append(t)
        self._phases = {address: due_phase(moments) for address, moments in seen.items()}

    def restart(self, code: str, boots: int = 1) -> None:
        """Run this on the unit's console and reset it; back when it polls again. boots: as the unit counts them."""
        self.ask("fair")  # who reckons for long is not to take a processor from all others
        with Console(self.usb) as console:
            console.run(code, "running what comes before the reset", 60)
            console.reset("import machine, time\ntime.sleep(0.1)\nmachine.reset()")
        self._boot += boots
        self._resets += 1
        self.ask("polls")
        deadline = time.monotonic() + 20
        while not self.ask("polls"):
            assert time.monotonic() < deadline, self.ask("console")
            time.sleep(0.1)
        self.settle()

    # - what others see

    def _line(self) -> Any:
        assert self._board.stdout
        line = self._board.stdout.readline()
        assert line, "the board's process ended"
        return json.loads(line)

    def ask(self, what: str) -> Any:
        """Of polled_board.py."""
        assert self._board.stdin
        self._board.stdin.write(what + "\n")
        self._board.stdin.flush()
        return self._line()

    def _heard(self, topic: str, payload: bytes) -> None:
        now, kind = time.monotonic(), topic.rpartition("/")[2]
        with self._lock:
            if kind == "presence":
                if json.loads(payload)["state"] == "online":
                    self._online.append(now)
            elif kind == "reported":
                self._reports.append(json.loads(payload))
            elif kind == "telemetry":
                base = 0.0
                for record in json.loads(payload):
                    base = record.get("bt", base)
                    self._seqs.setdefault(record["seq"], time.time() - base - record.get("t", 0))

    def until_online(self, since: float, seconds: float) -> float:
        """Waits for the first connection after `since`; returns how long after it that was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                later = [moment for moment in self._online if moment > since]
            if later:
                return later[0] - since
            time.sleep(0.02)
        raise AssertionError(f"not online within {seconds:.0f} s; it says: {self.ask('console')[-1500:]}")

    def until_all_is_there(self, seconds: float) -> None:
        """Until the broker has every sample that the unit had when it reported last."""
        with self._lock:
            last = self._reports[-1]["memory"]["journal"]["last"]
        deadline = time.monotonic() + seconds
        while missing := self.missing(last):
            assert time.monotonic() < deadline, f"{len(missing)} samples are missing: {sorted(missing)[:10]}"
            time.sleep(0.05)

    def missing(self, last: int) -> set[int]:
        with self._lock:
            return set(range(1, last + 1)) - set(self._seqs)

    # - a fault

    def suffer(self, fault: Fault) -> Measured:
        """Inject it, hold it, end it, and wait until everything is as before."""
        times = self.times
        self.ask("console")
        self.ask("polls")
        self.witness.p99()
        self.wire.handshakes.clear()
        stage_ms = getattr(times, fault.stage) if fault.stage else 0
        bound = (times.cap + stage_ms) / 1000 + fault.extra_s + _ALLOWED_S
        began = time.monotonic()
        with self._lock:
            before = max(self._seqs)
        fault.inject(self)
        recovery = self.until_online(began, bound + 30) if fault.during else 0.0
        said = self._until_said(fault)
        time.sleep(fault.hold_s)
        healed = time.monotonic()
        with self._lock:
            ages = list(self._seqs.values())[-5:]
        fault.heal(self)
        if not fault.during:
            recovery = self.until_online(healed, bound + 30)
        self.until_all_is_there(30)
        if self._lost() > _FLAT:  # a backlog needs some while it is drained
            began = time.monotonic()
            self.do(self.wire.drop())
            self.until_online(began, times.cap / 1000 + 30)
            time.sleep(1)
        measured = self._measure(fault, said + self.ask("console"), recovery, bound)
        if fault.during and max(ages) > _FRESH_S:
            measured.problems.append(f"samples came late: {ages}")
        with self._lock:
            odd = {seq: age for seq, age in self._seqs.items() if not -60 < age < DAY_S + 600}
            last = self._reports[-1]["memory"]["journal"]["last"]
        if fault.misdates:
            self._misdated.update(seq for seq in odd if before < seq <= last)
        odd = {seq: age for seq, age in odd.items() if seq not in self._misdated}
        if odd:
            measured.problems.append(f"samples have a wrong time: {odd}")
        return measured

    def _lost(self) -> int:
        with self._lock:
            return self._heap - int(self._reports[-1]["heap_free"])

    def _until_said(self, fault: Fault) -> str:
        # What the unit says until it has named all errors that this fault makes; judge() will miss what is missing.
        said = ""
        deadline = time.monotonic() + 4 * self.times.cap / 1000 + 60
        while any(f'@link ["{kind}"' not in said for kind in fault.says) and time.monotonic() < deadline:
            time.sleep(0.1)
            said += self.ask("console")
        return said

    def _measure(self, fault: Fault, said: str, recovery: float, bound: float) -> Measured:
        polls = self.ask("polls")
        ends = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("@link ")]
        windows = list(self.wire.handshakes)
        free, shaken = self._lateness(polls, windows)
        free.sort()
        with self._lock:
            report = self._reports[-1]
        measured = Measured(
            fault=fault.name,
            polls=len(free),
            late_p99=round(free[len(free) * 99 // 100], 2),
            late_most=round(free[-1], 2),
            late_handshake=round(max(shaken, default=0.0), 2),
            computer=round(self.witness.p99(), 2),
            handshakes=len(windows),
            stalled=report["cloud"]["link"]["stalled_ms"],
            recovery=round(recovery, 2),
            bound=bound,
            heap=self._lost(),
            errors={kind: text for kind, text, _ in ends if kind},
            waits=[wait for _, _, wait in ends],
        )
        if "task failed" in said or "Traceback" in said:
            measured.problems.append(said[-1500:])
        if report["boot"] != self._boot or self.ask("resets") != self._resets:
            measured.problems.append("the unit was restarted")
        bus = report["bus"]["field"]
        if bus["errors"] > self._bus_errors:
            measured.problems.append(f"errors on the bus: {bus['kinds']}")
        self._bus_errors = bus["errors"]
        return measured

    def _lateness(self, polls: list[Any], windows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
        # ms of each poll that was due, and of those among them that a handshake was in the way of. A poll that was left
        # out is as late as the next one.
        self._learn(polls)
        free: list[float] = []
        shaken: list[float] = []
        last: dict[int, int] = {}
        for t, address in polls:
            phase = self._phases[address]
            number = _number(t, phase)
            for each in range(last.get(address, number - 1) + 1, number + 1):
                due = phase + each * POLL_S
                near = any(start - _AROUND_S / 2 <= due <= end + _AROUND_S for start, end in windows)
                (shaken if near else free).append((t - due) * 1000)
            last[address] = number
        return free, shaken

    def _learn(self, polls: list[Any]) -> None:
        # No poll comes before it is due.
        for t, address in polls:
            phase = self._phases[address]
            self._phases[address] += min(0.0, t - phase - _number(t, phase) * POLL_S)


def due_phase(moments: list[float]) -> float:
    """When in each POLL_S a block is due that was polled at these moments, in s: of these the one that leaves the tenth
    latest poll least late. So one that came far too late is not taken for the one that was in time."""
    within = [moment % POLL_S for moment in moments]
    return min(within, key=lambda due: sorted((moment - due) % POLL_S for moment in within)[len(within) * 9 // 10])


def _number(t: float, phase: float) -> int:
    return int((t - phase + _EARLY_S) // POLL_S)


def judge(measured: Measured, fault: Fault, times: Times) -> None:
    """AssertionError unless the bus, the memory, the watchdog and the samples took no harm and the link came back."""
    harm = _harm(measured, fault, times)
    assert not harm, (harm, measured)


def _harm(measured: Measured, fault: Fault, times: Times) -> list[str]:
    sound = {
        "no problems": not measured.problems,
        "the error is named": set(fault.says) <= set(measured.errors),
        "back within its bound": measured.recovery <= measured.bound,
        "no wait over the cap": max(measured.waits) <= times.cap,
        "memory is flat": abs(measured.heap) < _FLAT,
        "the bus was polled": measured.polls > 50,
        "in time": _in_time(measured, fault),
        "never blocked": measured.late_most < _BLOCKED_MS,
    }
    return [f"not true: {what}" for what, holds in sound.items() if not holds]


def endure(site: Site, fault: Fault) -> Measured:
    """Suffers it; up to twice more if it took harm: what the unit did comes again, what this computer did does not."""
    measured = site.suffer(fault)
    for _ in range(_MORE):
        if not _harm(measured, fault, site.times):
            break
        site.settle()  # it may be that this went wrong
        measured = site.suffer(fault)
    return measured


def _in_time(measured: Measured, fault: Fault) -> bool:
    # A computer that wakes its programs late does so to this one, too.
    return measured.late_p99 <= fault.late_ms + (10 * measured.computer if measured.computer > 1 else 0)


class Witness:
    """Another MicroPython on this computer that does nothing but wake up: how late it is, is the computer's doing."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([str(micropython()), "-c", _WITNESS], stdout=subprocess.PIPE, text=True)
        schedule(self._process.pid, first=True)
        self._late: list[float] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._late.append(int(line) / 1000)

    def p99(self) -> float:
        """Of the milliseconds since it was asked last."""
        late, self._late = sorted(self._late), []
        return late[len(late) * 99 // 100] if late else 0.0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


# - the faults


def _wire(site: Site, **attributes: Any) -> None:
    """Changes the wire and ends the connection, so that the next attempt meets it."""
    for name, value in attributes.items():
        setattr(site.wire, name, value)
    site.do(site.wire.drop())


def _to(peer: str) -> Callable[[Site], None]:
    return lambda site: _wire(site, port=site.peers[peer].port)


def _back(site: Site) -> None:
    _wire(site, port=site.broker.port)


def _gone(site: Site) -> None:
    site.do(site.wire.stop())


def _there(site: Site) -> None:
    site.do(site.wire.start())


def _vanishes(site: Site) -> None:
    site.do(site.wire.vanish())


def _heals(site: Site) -> None:
    site.do(site.wire.heal())


def _silent(site: Site) -> None:
    _wire(site, stops=0)


def _stalls(site: Site) -> None:
    _wire(site, stops=200)


def _passes(site: Site) -> None:
    _wire(site, stops=None)


def _cuts(site: Site) -> None:
    _wire(site, cuts=[3, 150, 250, 290, 330, 400] + [500] * 100)


def _throttles(site: Site) -> None:
    _wire(site, rate=1000.0)


# What a day leaves in the journal, with the times of that day.
_DAY = """
from coupler import app, compose, hal
h = hal.get()
h.set_time(h.now_ms() - 86400000)
unit = app.Coupler(h, compose.check(h, h.read_file(app.CONFIG)), h.board)
journal = unit.journal
journal.clock(h.now_ms())
ticks = h.ticks_ms()
for i in range(%d):
    journal.put(i %% 3, i, None, h.ticks_add(ticks, %d * i))
    if i %% 60 == 59:
        journal.flush()
unit.save()
h.set_time(h.now_ms() + 86400000)
"""


def _day_offline(site: Site) -> None:
    _gone(site)
    site.restart(_DAY % (_DAY_SAMPLES, DAY_S * 1000 / _DAY_SAMPLES), boots=2)


def _dns_silent(site: Site) -> None:
    site.names.addresses = None
    site.do(site.wire.drop())


def _dns_right(site: Site) -> None:
    site.names.addresses = ("127.0.0.1",)


def _dns_lies(site: Site) -> None:
    site.names.addresses = (ELSEWHERE,)
    site.do(site.wire.move("127.0.0.1", ELSEWHERE))
    _to("impostor")(site)


def _dns_truth(site: Site) -> None:
    _dns_right(site)
    _back(site)


def _moves(site: Site) -> None:
    site.do(site.wire.move(_other(site)))


def _dns_follows(site: Site) -> None:
    site.names.addresses = (_other(site),)


def _other(site: Site) -> str:
    return "127.0.0.1" if site.names.addresses == (ELSEWHERE,) else ELSEWHERE


def _wrong_years(site: Site) -> None:
    # mbedTLS here looks at this computer's clock, not at the unit's: a certificate that has expired stands for one that
    # is good, seen by a unit that is years ahead.
    for clock in site.clocks:
        clock.ahead = 5 * YEAR_S
    _to("expired")(site)
    site.restart("import machine\nmachine.RTC().datetime((2044, 5, 6, 4, 7, 8, 9, 0))")


def _right_years(site: Site) -> None:
    def told() -> None:
        site.wire.port = site.broker.port

    for clock in site.clocks:
        clock.ahead = 0.0
    site.clocks[1].on_answer = told  # a second witness is needed, for it has been five years later


BROKER_FAULTS = (
    Fault("broker gone", _gone, _there, ("tcp",)),
    Fault("half-open", _vanishes, _heals, ("mqtt", "timeout"), "tcp"),
    Fault("accepting and silent", _silent, _passes, ("timeout",), "tls"),
    Fault("TLS stalls in the handshake", _stalls, _passes, ("timeout",), "tls"),
    Fault("resets mid-frame", _cuts, _heals, ("closed",), "tls", hold_s=5),
    Fault("throttled to 1 KB/s", _throttles, _heals, (), stage="tls", hold_s=6, during=True),
    # A backlog that goes as fast as it can keeps the processor busy for all of its time.
    Fault("24 h offline", _day_offline, _there, ("tcp",), late_ms=9.0),
    Fault("refuses the certificate", _to("refuses"), _back, ("tls-refused",)),
)
NETWORK_FAULTS = (
    Fault("proxy answers 200", _to("200"), _back, ("http",)),
    Fault("proxy answers 407", _to("407"), _back, ("http",)),
    Fault("DNS silent", _dns_silent, _dns_right, ("dns",), extra_s=4),
    Fault("DNS lies", _dns_lies, _dns_truth, ("tls-authority",)),
    Fault("DNS changes its answer", _moves, _dns_follows, ("tcp",)),
    Fault("clock wrong by years", _wrong_years, _right_years, ("tls-clock",), extra_s=_CLOCK_S, misdates=True),
)
