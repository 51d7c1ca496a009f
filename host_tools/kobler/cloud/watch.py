"""Watching a broker from outside, with a certificate of an observer: `kobler watch`, and `kobler up --no-broker`."""

from __future__ import annotations

import json
import math
import queue
import sys
import threading
import time
from datetime import datetime
from typing import TextIO

from ..errors import KoblerError
from ..mqtt_client import Credentials, Endpoint, Link, LinkError, MqttClient
from .feed import Feed, Presence, Sample
from .interrupt import Interrupts, Stopped

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


class Watching:
    """`kobler watch`: prints samples of one coupler, or of all (`device` None), until Ctrl-C or for `seconds`."""

    def __init__(self, url: str, credentials: Credentials, device: str | None, as_json: bool) -> None:
        self._url, self._credentials, self._device, self._as_json = url, credentials, device, as_json
        self._feed, self._count = Feed(), 0
        # Printed outside the client, which takes every OSError, a closed standard output too, for its connection's.
        self._printable: list[tuple[str, TextIO]] = []

    def run(self, seconds: float | None) -> int:
        """The exit code. KoblerError when the broker cannot be reached at first, or no sample came in time."""
        with Interrupts():
            try:
                deadline = None if seconds is None else time.monotonic() + seconds
                client: MqttClient | None = self._connect()
                while (left := math.inf if deadline is None else deadline - time.monotonic()) > 0:
                    client = self._turn(client, left)
                if client is not None:
                    client.close()
            except Stopped as stopped:
                return 0 if seconds is None and stopped.exit_code == 130 else stopped.exit_code
        if not self._count:
            raise KoblerError(f"no sample came within {seconds:g} s: is the coupler online? `kobler doctor` says more")
        return 0

    def _connect(self) -> MqttClient:
        client = connect(self._url, self._credentials)
        client.subscribe(_TOPICS.format(device=self._device or "+"), self._take)
        return client

    def _turn(self, client: MqttClient | None, left: float) -> MqttClient | None:
        # What was connected once is connected again, for as long as it takes.
        try:
            if client is None:
                client = self._connect()
                print("kobler: connected again", file=sys.stderr)
            client.loop(min(0.5, left))
        except LinkError as error:
            if client is not None:
                client.close()
                client = None
                print(f"kobler: {error}; trying again every {_RETRY_S:.0f} s", file=sys.stderr)
            time.sleep(min(_RETRY_S, left))
        while self._printable:
            text, stream = self._printable.pop(0)
            print(text, file=stream, flush=True)
        return client

    def _take(self, topic: str, payload: bytes) -> None:
        for event in self._feed.take(topic, payload):
            if isinstance(event, Sample):
                self._count += 1
                self._printable.append((json.dumps(event.as_json()) if self._as_json else line(event), sys.stdout))
            elif isinstance(event, Presence) and not self._as_json:
                self._printable.append((f"{event.device} is {'online' if event.online else 'offline'}", sys.stderr))


def line(sample: Sample) -> str:
    """One sample for people."""
    moment = "time unknown" if sample.time is None else f"{datetime.fromtimestamp(sample.time):%H:%M:%S}"
    value = "" if sample.value is None else f"{sample.value:.6g}" if isinstance(sample.value, float) else sample.value
    text = f"{moment}  {sample.point:32} {value!s:>12} {sample.unit:6} {sample.quality}"
    return "".join(char if char.isprintable() else "?" for char in text)
