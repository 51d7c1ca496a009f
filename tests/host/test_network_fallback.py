"""A whole coupler on the virtual board whose network cable is pulled: it goes on by Wi-Fi, and back."""

from __future__ import annotations

import json
import queue
import time
from pathlib import Path
from typing import Any

import pytest
from kobler import boards
from kobler.build import build
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.cloud.ntp import NtpServer
from kobler.config import compile_config, load
from kobler.pki import Authority
from kobler.provision import provision
from kobler.sim.flash import Flash
from running_board import RunningBoard

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

SIZE = 4 << 20
SITE = """
[device]
name = "test"
[network]
kind = "ethernet"
ntp = ["{ntp}"]
[[network.fallback]]
kind = "wifi"
ssid = "plant"
password = "not a secret"
after = "2s"
[cloud]
enabled = true
url = ["wss://localhost:1/mqtt", "{url}"]
"""


class Ear:
    """What the unit reports of itself, as the broker gets it."""

    def __init__(self) -> None:
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue()

    def __call__(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/reported"):
            self._reports.put(json.loads(payload))

    def until(self, kind: str, seconds: float = 60) -> dict[str, Any]:
        """The next report that comes by this kind of interface."""
        limit = time.monotonic() + seconds
        while True:
            report = self._reports.get(timeout=max(0.1, limit - time.monotonic()))
            if report["network"]["kind"] == kind:
                return report


def test_without_its_cable_the_coupler_goes_on_by_wifi_and_back(tmp_path: Path) -> None:
    built = build(boards.load("virtual"), tmp_path / "build")
    image = Flash(tmp_path / "flash.bin", SIZE)
    for offset, file in built.regions:
        image.program(offset, file.read_bytes())
    image.close()
    authority = Authority.open_or_create(tmp_path / "pki")
    broker, clock, ear = Broker(authority), NtpServer(), Ear()
    broker.subscribe(ear)
    with Background(broker, clock), RunningBoard(tmp_path / "flash.bin") as running:
        (tmp_path / "site.toml").write_text(SITE.format(ntp=clock.address, url=broker.url))
        provision(running.url, authority, compile_config(load(tmp_path / "site.toml")))
        first = ear.until("ethernet")
        assert first["network"]["ip"] == "127.0.0.1"

        def cable(there: bool) -> None:
            running.loop.call_soon_threadsafe(running.board.network, "ethernet", there)

        cable(False)
        second = ear.until("wifi")
        assert second["boot"] == first["boot"], "nothing is restarted"
        assert second["cloud"]["link"]["connects"] > first["cloud"]["link"]["connects"]
        assert second["network"]["mac"] != first["network"]["mac"]
        cable(True)
        third = ear.until("ethernet")
        assert third["boot"] == first["boot"]
        assert third["cloud"]["link"]["connects"] > second["cloud"]["link"]["connects"]
