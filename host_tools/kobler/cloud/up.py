"""`kobler up`, what ./flash.sh runs: build, power a board, flash, provision, connect it to a broker, show
what it reports.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import boards, build, flash, provision
from ..build.cli import folder_of
from ..config import compile_config, load
from ..errors import KoblerError, UsageError
from ..mqtt_link import Credentials, Endpoint
from ..pki import Authority
from .background import Background
from .broker import Broker
from .feed import Feed, Presence, Sample
from .interrupt import Interrupts, Stopped
from .listen import address_for
from .live import Live
from .narrator import Narrator
from .ntp import NtpServer
from .state import endpoint, locked
from .virtual import VirtualBoard
from .watch import Remote

_FRAME_S = 0.25
_DEMO = Path(__file__).parents[1] / "sim" / "demo.toml"

Inbox = queue.SimpleQueue[tuple[str, bytes]]


@dataclass(frozen=True)
class Options:
    """The command line of `kobler up`."""

    board: str
    port: str | None
    config: Path | None
    seconds: float | None
    as_json: bool
    state: Path
    rs485: Path | None
    runtime: str
    broker: bool
    listen: str | None
    image: Path | None

    @property
    def virtual(self) -> bool:
        """Whether the board has to be powered up by us."""
        return self.port is None


@dataclass(frozen=True)
class Cloud:
    """Where the unit will report: our broker, or the one its configuration names."""

    url: str
    config: bytes
    name: str
    ntp: list[str]
    background: Background | None


def up(options: Options, interrupts: Interrupts) -> int:
    """The whole command; returns the exit code. KoblerError says in a line what went wrong, Stopped that it was asked
    to end before it was live.
    """
    _check(options)
    with locked(options.state.absolute()) as state, ExitStack() as stack:
        try:
            return _Run(options, state, stack, interrupts).through()
        finally:
            # What follows takes everything down again; a second Ctrl-C must not leave half of it standing.
            interrupts.hold()


def _check(options: Options) -> None:
    standin = boards.load(options.board).image is None and options.image is None
    if options.port is None and not standin:
        raise UsageError(f"--board {options.board} is hardware: name its port with --port")
    if options.port is not None and "://" not in options.port and standin:
        # Its image is a stand-in that no chip can run.
        raise UsageError(
            f"--port {options.port} is a real board, {options.board!r} is none: name its kind with --board"
        )
    if options.port is not None and options.rs485 is not None:
        raise UsageError("--rs485 is for the virtual board: leave --port away")
    if options.listen is not None and not options.broker:
        raise UsageError("--listen is for the embedded broker: leave --no-broker away")
    if options.listen in ("0.0.0.0", "::"):
        raise UsageError(f"--listen {options.listen}: name the one address that the coupler is to connect to")


class _Run:
    """One run; what has to be undone is on the stack."""

    def __init__(self, options: Options, state: Path, stack: ExitStack, interrupts: Interrupts) -> None:
        self.options, self.state, self.stack, self.interrupts = options, state, stack, interrupts
        self.say = Narrator(options.as_json)
        self.inbox: Inbox = queue.SimpleQueue()
        self.began = time.monotonic()
        self.since = time.time()
        self.board: VirtualBoard | None = None

    def through(self) -> int:
        options = self.options
        chosen = boards.load(options.board)
        authority = Authority.open_or_create(self.state / "pki")
        with self.say.working():
            cloud = self._cloud(authority, chosen)
            if options.virtual:
                # It starts while the firmware is being compiled.
                self.board = VirtualBoard(self.state, options.board, options.rs485, options.runtime)
                self.stack.enter_context(self.board)
            made = self._step("built", f"building the firmware for {chosen.name}", lambda: self._build(chosen))
            port = options.port or self._ready()
            self._step("flashed", f"flashing {chosen.name} at {port}", lambda: self._flash(made, port))
            unit = self._step(
                "provisioned",
                "provisioning: the unit makes its key",
                lambda: self._provision(port, authority, cloud),
            )
        where: dict[str, Any] = {"broker": cloud.url, "ca": str(authority.ca_pem), "device": unit["device"]}
        self.stack.enter_context(endpoint(self.state, **where, usb=port, page=None, ntp=cloud.ntp))
        if cloud.background is None:
            issued = authority.issue_client("watch")
            credentials = Credentials(issued.ca_pem, issued.cert_pem, issued.key_pem)
            remote = Remote(cloud.url, credentials, unit["device"], self.inbox)
            self.stack.enter_context(remote)
            return self._live(unit["device"], cloud, lambda: remote.trouble)
        return self._live(unit["device"], cloud, lambda: "")

    def _step(self, event: str, text: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self.interrupts.check()
        self.say.step(text)
        began = time.monotonic()
        found = work()
        shown = {key: value for key, value in found.items() if not key.startswith("_")}
        self.say.event(event, **shown, seconds=round(time.monotonic() - began, 2))
        return found

    def _cloud(self, authority: Authority, board: boards.Board) -> Cloud:
        options = self.options
        path = options.config or _DEMO
        config = load(path)
        if not options.broker:
            if not config.cloud.enabled or config.cloud.url is None:
                raise UsageError(f"--no-broker: {path} has [cloud] enabled = false, so there is nothing to watch")
            where = config.cloud.url
            url = Endpoint(where.scheme, where.host, where.port, where.path).url
            return Cloud(url, compile_config(config, board), config.device.name, config.network.ntp, None)
        listen = options.listen or ("127.0.0.1" if options.virtual else address_for(options.port or ""))
        broker, clock = Broker(authority, listen=listen), NtpServer(listen)
        broker.subscribe(lambda *message: self.inbox.put(message))
        background = self.stack.enter_context(Background(broker, clock))
        servers = [clock.address, *(() if broker.host == "localhost" else config.network.ntp)]
        config = config.with_cloud(broker.url).with_ntp(servers)
        return Cloud(broker.url, compile_config(config, board), config.device.name, servers, background)

    def _build(self, chosen: boards.Board) -> dict[str, Any]:
        out = folder_of(self.state, chosen.name)
        cache = self.state / "cache"
        made = build.build(chosen, out, self.options.image, None, self.say.detail, cache=cache)
        regions = {region.name: region.size for region in made.contents.regions}
        return {"board": chosen.name, "folder": str(out), "regions": regions, "_build": made}

    def _ready(self) -> str:
        assert self.board is not None
        return self.board.ready()

    def _flash(self, made: dict[str, Any], port: str) -> dict[str, Any]:
        flash.flash(made["_build"], port, progress=lambda fraction, what: self.say.detail(what, fraction))
        return {"port": port, "bytes": sum(made["regions"].values())}

    def _provision(self, port: str, authority: Authority, cloud: Cloud) -> dict[str, Any]:
        done = provision.provision(port, authority, cloud.config, self.say.detail)
        return {"device": done.id, "fingerprint": done.fingerprint, "revision": done.rev}

    def _live(self, device: str, cloud: Cloud, trouble: Callable[[], str]) -> int:
        live, feed = Live(f"{cloud.name}   unit {device}   {cloud.url}", self.since), Feed()
        seconds = self.options.seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        interrupted = False
        try:
            self._show(live, feed, device, deadline)
        except Stopped as stopped:
            interrupted = True
            if seconds is not None and not live.good:
                return stopped.exit_code
        if self.board is not None:
            # What the broker has acknowledged meanwhile is not lost: it is told, too.
            self.board.end()
            while not self.inbox.empty():
                self._take(live, feed, device)
        reason = live.failure()
        requests, errors = live.bus
        self.say.event(
            "summary",
            samples=live.samples,
            good=live.good,
            bus={"requests": requests, "errors": errors},
            malformed=feed.malformed,
            heap_free=live.heap_free,
            seconds=round(time.monotonic() - self.began, 1),
            reason=reason,
        )
        if interrupted or seconds is None or reason is None:
            return 0
        raise KoblerError(f"{reason} ({trouble() or feed.last_error or f'waited {seconds:.0f} s'})")

    def _show(self, live: Live, feed: Feed, device: str, deadline: float | None) -> None:
        from rich.live import Live as Screen

        console = self.say.console if self.options.as_json else None
        moving = console is None and sys.stdout.isatty()
        with ExitStack() as stack:
            screen = stack.enter_context(Screen(auto_refresh=False)) if moving else None
            due = 0.0
            while deadline is None or time.monotonic() < deadline:
                self.interrupts.check()
                if self.board is not None:
                    self.board.check()
                self._take(live, feed, device)
                now = time.monotonic()
                if screen is not None and now >= due:
                    screen.update(live.render(now), refresh=True)
                    due = now + _FRAME_S
        if not moving and not self.options.as_json:
            from rich import print as show

            show(live.render(time.monotonic()))

    def _take(self, live: Live, feed: Feed, device: str) -> None:
        try:
            topic, payload = self.inbox.get(timeout=_FRAME_S)
        except queue.Empty:
            return
        for event in feed.take(topic, payload):
            if event.device != device:
                continue
            live.take(event, time.monotonic())
            if isinstance(event, Sample):
                self.say.event(**_named(event.as_json()))
            elif isinstance(event, Presence) and event.online:
                seconds = round(time.monotonic() - self.began, 1)
                self.say.event("online", device=device, firmware=event.firmware, boot=event.boot, seconds=seconds)


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    return {"name": fields.pop("event"), **fields}
