"""`kobler call`, `write` and `watch` against the embedded broker and a coupler that answers from a thread."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kobler import cli
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.cloud.watch import connect
from kobler.errors import KoblerError
from kobler.mqtt_client import Credentials
from kobler.pki import Authority
from mqtt_peer import unit as holder
from typer.testing import CliRunner

cli.furnish()
DEVICE = "0242ac110002"
SETPOINT = "field/ahu/setpoint"


class FakeCoupler:
    """A unit at the broker whose only point can be read and written."""

    def __init__(self, url: str, authority: Authority, folder: Path, device: str = DEVICE) -> None:
        mine = holder(authority, device, folder)
        self.device, self.value = device, 20.0
        self.arguments: list[dict[str, Any]] = []
        self._asked: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._client = connect(url, Credentials(mine.ca, mine.cert, mine.key))
        self._client.subscribe(f"kobler/{device}/method/#", lambda *message: self._asked.put(message))
        self._say("presence", {"state": "online", "boot": 1, "firmware": "x"}, True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _say(self, topic: str, content: Any, retain: bool = False) -> None:
        self._client.publish(f"kobler/{self.device}/{topic}", json.dumps(content).encode(), retain)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._client.loop(0.25)
            self._say(
                "telemetry", [{"bn": f"urn:dev:kobler:{self.device}:", "n": "field/meter/power", "v": 1, "seq": 1}]
            )
            while not self._asked.empty():
                topic, payload = self._asked.get()
                name, rid = topic.split("/")[3:]
                status, answer = self._answer(name, json.loads(payload))
                self._say(f"result/{status}/{rid}", answer)
        self._client.close()

    def _answer(self, name: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.arguments.append(given)
        if name == "echo":
            return 200, given
        if name not in ("read", "write"):
            return 404, {"error": f"no method {name}"}
        if given.get("point") != SETPOINT:
            return 404, {"error": f"there is no point {given.get('point')}"}
        if name == "write":
            if not isinstance(given["value"], (int, float)):
                return 400, {"error": "value: not a number"}
            if not 10 <= given["value"] <= 30:
                return 400, {"error": "value: from 10 to 30"}
            self.value = given["value"]
            return 200, {"point": SETPOINT, "value": self.value, "verified": True}
        return 200, {"point": SETPOINT, "value": self.value, "quality": "good", "age": 0, "unit": "Cel"}

    def close(self) -> None:
        self._ending.set()
        self._thread.join(10)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("call")


@pytest.fixture(scope="module")
def authority(state: Path) -> Authority:
    return Authority.open_or_create(state / "pki")


@pytest.fixture(scope="module")
def broker(authority: Authority) -> Iterator[Broker]:
    found = Broker(authority)
    with Background(found):
        yield found


@pytest.fixture(scope="module")
def coupler(broker: Broker, authority: Authority, state: Path) -> Iterator[FakeCoupler]:
    found = FakeCoupler(broker.url, authority, state)
    yield found
    found.close()


def run(state: Path, broker: Broker, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and the error's one line."""
    result = CliRunner().invoke(cli.app, [*arguments, "--state", str(state), "--url", broker.url])
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        return result.exit_code, result.stdout, ""
    assert isinstance(error, KoblerError) and "\n" not in str(error), result.output
    return error.exit_code, result.stdout, str(error)


def test_a_method_of_the_only_coupler_that_is_online(state: Path, broker: Broker, coupler: FakeCoupler) -> None:
    given = {"method": "x", "self": [1, None], "text": "Grüße"}
    code, out, _ = run(state, broker, "call", "echo", json.dumps(given), "--json")
    assert code == 0
    expected = {"event": "answer", "device": DEVICE, "method": "echo", "status": 200, "answer": given}
    assert json.loads(out) == expected and coupler.arguments[-1] == given
    code, out, _ = run(state, broker, "call", "echo", "--device", DEVICE)
    assert code == 0 and json.loads(out) == {}


def test_what_the_coupler_refuses_is_told_in_its_words(state: Path, broker: Broker, coupler: FakeCoupler) -> None:
    code, out, error = run(state, broker, "call", "read", '{"point": "x"}', "--json")
    assert code == 1 and error == f"coupler {DEVICE}: there is no point x"
    assert json.loads(out)["status"] == 404 and json.loads(out)["error"] == "there is no point x"


def test_a_point_is_written_and_read_back(state: Path, broker: Broker, coupler: FakeCoupler) -> None:
    code, out, _ = run(state, broker, "write", SETPOINT, "21.5", "--json")
    assert code == 0 and coupler.value == 21.5
    assert json.loads(out)["event"] == "written" and json.loads(out)["value"] == 21.5
    code, out, error = run(state, broker, "write", SETPOINT, "-5")
    assert code == 1 and "from 10 to 30" in error and out == "" and coupler.value == 21.5
    code, _, error = run(state, broker, "write", "field/ahu/none", "1")
    assert code == 1 and "no point field/ahu/none" in error


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["call", "echo", "{"], 2, "not JSON (Expecting property name"),
        (["call", "echo", "[1]"], 2, "no JSON object"),
        (["call", "a/b"], 2, "METHOD"),
        (["call", "echo", "--device", "+"], 2, "--device +"),
        (["call", "echo", "--device", "ffffffffffff"], 1, "never heard of a coupler ffffffffffff"),
        (["call", "echo", "--config", "site.toml"], 2, "give one of them"),
    ],
)
def test_mistakes_are_one_line(
    state: Path, broker: Broker, coupler: FakeCoupler, arguments: list[str], code: int, said: str
) -> None:
    found, out, error = run(state, broker, *arguments)
    assert found == code and said in error and out == ""


def test_several_couplers_have_to_be_chosen_from(
    state: Path, broker: Broker, authority: Authority, coupler: FakeCoupler
) -> None:
    other = FakeCoupler(broker.url, authority, state, "ffff00000001")
    try:
        code, _, error = run(state, broker, "call", "echo")
        assert code == 2 and f"choose one of {DEVICE}, ffff00000001 with --device" in error
    finally:
        other.close()


def test_a_hub_lets_nobody_watch(state: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        '[device]\nname = "x"\n[cloud]\nenabled = true\ndialect = "azure"\nurl = "wss://h.azure-devices.net"\n'
    )
    for command in (["watch"], ["call", "read"], ["write", SETPOINT, "1"]):
        result = CliRunner().invoke(cli.app, [*command, "--config", str(site), "--state", str(state)])
        assert isinstance(result.exception, KoblerError) and "az iot hub" in str(result.exception)


def test_watching_outlives_a_broker_that_goes_and_comes_back(authority: Authority, state: Path, tmp_path: Path) -> None:
    first, over = Broker(authority), threading.Event()
    running = Background(first)
    running.__enter__()

    def swap() -> None:
        time.sleep(1.5)
        running.__exit__(None, None, None)
        with Background(Broker(authority, first.port)):
            coupler = FakeCoupler(first.url, authority, tmp_path)
            over.wait(30)
            coupler.close()

    thread = threading.Thread(target=swap)
    thread.start()
    # Signals go to the main thread, so it is the one that watches.
    result = CliRunner().invoke(cli.app, ["watch", "--json", "--for", "8s", "--url", first.url, "--state", str(state)])
    over.set()
    thread.join(30)
    assert result.exit_code == 0, result.output
    assert "trying again" in result.stderr and "connected again" in result.stderr
    assert json.loads(result.stdout.splitlines()[0])["device"] == DEVICE
