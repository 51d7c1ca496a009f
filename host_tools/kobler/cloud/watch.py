"""Watching a broker from outside, with a certificate of an observer: `kobler watch`, and `kobler up --no-
broker`.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TextIO

from ..errors import KoblerError
from ..mqtt_client import Credentials, Endpoint, Link, MqttClient
from .feed import Feed, Presence, Sample
from .interrupt import Interrupts, Stopped
from .state import read_endpoint

_RETRY_S = 2.0
_TOPICS = "kobler/{device}/#"


def connect(url: str, credentials: Credentials) -> MqttClient:
    """A client that is connected; KoblerError names the step that failed."""
    link = Link(Endpoint.parse(url), credentials)
    try:
        link.open()
        client = MqttClient(link)
        client.connect()
    except BaseException:
        link.close()
        raise
    return client


class Remote:
    """Messages of another broker, put into `inbox`; connects again for as long as it takes."""

    def __init__(
        self, url: str, credentials: Credentials, device: str, inbox: queue.SimpleQueue[tuple[str, bytes]]
    ) -> None:
        self._url, self._credentials, self._device, self._inbox = url, credentials, device, inbox
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.trouble = ""

    def __enter__(self) -> Remote:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                client = connect(self._url, self._credentials)
                client.subscribe(_TOPICS.format(device=self._device), lambda *message: self._inbox.put(message))
                self.trouble = ""
                while not self._ending.is_set():
                    client.loop(0.25)
                client.close()
            except KoblerError as error:
                self.trouble = str(error)
                self._ending.wait(_RETRY_S)


def watch(state: Path, url: str | None, as_json: bool, seconds: float | None) -> int:
    """Print samples until Ctrl-C, or for so long; then 0 if any came, else 1. `url`: another broker than STATE's."""
    from ..pki import Authority

    where = {"broker": url} if url else read_endpoint(state)
    issued = Authority.open(state / "pki").issue_client("watch")
    device = where["device"] if isinstance(where.get("device"), str) else "+"
    feed, count = Feed(), 0
    # Printed outside the client, which takes every OSError, a closed standard output too, for its connection's.
    printable: list[tuple[str, TextIO]] = []

    def show(topic: str, payload: bytes) -> None:
        nonlocal count
        for event in feed.take(topic, payload):
            if isinstance(event, Sample):
                count += 1
                printable.append((json.dumps(event.as_json()) if as_json else line(event), sys.stdout))
            elif isinstance(event, Presence) and not as_json:
                printable.append((f"{event.device} is {'online' if event.online else 'offline'}", sys.stderr))

    with Interrupts():
        try:
            client = connect(where["broker"], Credentials(issued.ca_pem, issued.cert_pem, issued.key_pem))
            client.subscribe(_TOPICS.format(device=device), show)
            deadline = None if seconds is None else time.monotonic() + seconds
            while deadline is None or (left := deadline - time.monotonic()) > 0:
                client.loop(0.5 if deadline is None else min(0.5, left))
                while printable:
                    text, stream = printable.pop(0)
                    print(text, file=stream, flush=True)
            client.close()
        except Stopped as stopped:
            return 0 if seconds is None and stopped.exit_code == 130 else stopped.exit_code
    if not count:
        raise KoblerError(f"no sample came within {seconds:.0f} s: is the coupler online? `kobler doctor` says more")
    return 0


def line(sample: Sample) -> str:
    """One sample for people."""
    moment = "time unknown" if sample.time is None else f"{datetime.fromtimestamp(sample.time):%H:%M:%S}"
    value = "" if sample.value is None else f"{sample.value:.6g}" if isinstance(sample.value, float) else sample.value
    text = f"{moment}  {sample.point:32} {value!s:>12} {sample.unit:6} {sample.quality}"
    return "".join(char if char.isprintable() else "?" for char in text)
