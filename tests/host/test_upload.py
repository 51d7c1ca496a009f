"""History as a file in the cloud's storage: by IoT Hub, and by a URL of one's own; on both interpreters."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device.exceptions import ClientError
from azure_files import CONTAINER, Answer
from azure_hub import Azure, Hub
from cryptography.hazmat.primitives import serialization
from test_azure_link import DPS, HUB, SDK_ID, Sdk, soon
from uplink_world import FIRMWARE, HERE, INTERPRETERS, UNIT_ID, Broker, Ca, Loop

BLOBS = "store.localhost"
P0, P1, P2 = (f"field/unit/p{i}" for i in range(3))

both = pytest.mark.parametrize("interpreter", INTERPRETERS)
# The SDK asks for TLS 1.2 in a way that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2:DeprecationWarning")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def storage_ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("storage"), "Storage CA")


@pytest.fixture
def azure(loop: Loop, ca: Ca, storage_ca: Ca) -> Iterator[Azure]:
    found = Azure(loop, ca, (HUB,), DPS, storage=(BLOBS, storage_ca))
    found.hubs[HUB].add(UNIT_ID)
    yield found
    found.close()


@pytest.fixture
def hub(azure: Azure) -> Hub:
    return azure.hubs[HUB]


@pytest.fixture(scope="module")
def files(ca: Ca, storage_ca: Ca, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unit that trusts two authorities."""
    folder = ca.unit(tmp_path_factory.mktemp("unit"))
    with (folder / "ca.der").open("ab") as f:
        f.write(storage_ca.certificate.public_bytes(serialization.Encoding.DER))
    return folder


class Process:
    """upload_unit.py; what it says is kept."""

    def __init__(self, interpreter: str, files: Path, cloud: dict[str, Any], settings: dict[str, Any]) -> None:
        whole = {"host": "localhost", "scheme": "wss", "path": "/mqtt", "dialect": "plain", "ack": "broker", **cloud}
        given = {"id": UNIT_ID, "files": str(files), "cloud": whole, "hours": 60, "samples": 600, **settings}
        number = next(_numbers)
        path = files / f"upload-{number}.json"
        path.write_text(json.dumps(given))
        self._said = files / f"said-{number}.txt"
        program = [sys.executable]
        if interpreter == "micropython":
            program = [str(Path(sys.executable).with_name("micropython")), "-X", "heapsize=1500k"]
        with self._said.open("w") as out:
            command = [*program, str(HERE / "upload_unit.py"), str(FIRMWARE), str(path)]
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._said.read_text().splitlines() if line.endswith("}")]

    def output(self) -> str:
        return self._said.read_text()[-3000:]


@contextlib.contextmanager
def coupler(interpreter: str, files: Path, cloud: dict[str, Any], **settings: Any) -> Iterator[Process]:
    one = Process(interpreter, files, cloud, settings)
    try:
        yield one
    except AssertionError as error:
        raise AssertionError(f"{error}\nThe unit said:\n{one.output()}") from error
    finally:
        one.process.kill()
        one.process.wait(5)


@contextlib.contextmanager
def at_hub(interpreter: str, azure: Azure, files: Path, **settings: Any) -> Iterator[Process]:
    cloud = {"host": HUB, "port": azure.ports["wss"], "dialect": "azure"}
    with coupler(interpreter, files, cloud, **settings) as one:
        device = azure.hubs[HUB].devices[UNIT_ID]
        soon(lambda: device.connection and len(device.connection.filters) >= 3, 60)
        yield one


def call(hub: Hub, name: str, **arguments: Any) -> tuple[int, Any]:
    return hub.method(UNIT_ID, name, json.dumps(arguments).encode(), 20)


def upload(hub: Hub, **arguments: Any) -> dict[str, Any]:
    """What became of it, as the unit reports it."""
    status, found = call(hub, "upload", **arguments)
    assert status == 202, (status, found)
    return ended(hub, found["name"])


def ended(hub: Hub, name: str, seconds: float = 60) -> dict[str, Any]:
    def report() -> Any:
        found = hub.reported(UNIT_ID).get("cloud", {}).get("upload", {})
        return found if found.get("name") == name and found["state"] in ("done", "failed") else None

    return dict(soon(report, seconds))


def pages(hub: Hub, point: str, resolution: str, since: float, until: float) -> list[dict[str, Any]]:
    """What the method `history` says, all pages of it."""
    found: list[dict[str, Any]] = []
    arguments: dict[str, Any] = {"point": point, "resolution": resolution, "from": since, "to": until}
    while True:
        status, page = call(hub, "history", **arguments)
        assert status == 200, page
        found += [{"point": point, **dict(zip(page["columns"], row, strict=False))} for row in page["rows"]]
        if "next" not in page:
            return found
        arguments["after"] = page["next"]


def blob(azure: Azure, said: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that are stored, after a look at every byte that is not a number's."""
    whole = azure.storage.blobs[f"/{CONTAINER}/{UNIT_ID}/{said['name']}"]
    assert said["state"] == "done" and said["bytes"] == len(whole) and whole.endswith(b"\n"), said
    lines = whole.decode().split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    assert said["rows"] == len(rows)
    number = re.compile(r"(?<=: )[-0-9.e+]+(?=[,}])")
    assert [number.sub("0", line) for line in lines] == [number.sub("0", json.dumps(row)) for row in rows]
    return rows


@both
def test_what_is_stored_is_what_history_says_byte_by_byte(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    with at_hub(interpreter, azure, files, private=60) as one:
        now = time.time()
        span = {"from": 0, "to": now}
        said = upload(hub, **span)
        raw = [row for point in (P0, P1) for row in pages(hub, point, "raw", 0, now)]
        raw.sort(key=lambda row: row["time"])
        assert blob(azure, said) == raw and len(raw) == 360, "without what was taken privately"
        assert {row.get("quality") for row in raw} == {None, "timeout"}
        assert any(isinstance(row["value"], str) for row in raw)
        said = upload(hub, point=P1, resolution="raw", **{"from": now - 20 * 3600})
        assert blob(azure, said) == pages(hub, P1, "raw", now - 20 * 3600, now)
        assert said["rows"] > 20
        for resolution, length in (("hour", 3600), ("day", 86400)):
            said = upload(hub, resolution=resolution, **span)
            over = now // length * length
            rows = [row for point in (P0, P1) for row in pages(hub, point, resolution, 0, over)]
            assert len(rows) >= (118 if length == 3600 else 4)
            assert blob(azure, said) == rows
        assert [notice["isSuccess"] for notice in hub.files.notices] == [True] * 4 and not hub.files.open
        assert {notice["statusCode"] for notice in hub.files.notices} == {201}
        assert set(azure.storage.types.values()) == {"application/x-ndjson"}
        seen = one.lines()
    azure.assert_no_complaints()
    assert not hub.files.complaints and not azure.storage.refused
    assert hub.connects == 1, "the link stays up meanwhile"
    if interpreter == "micropython":
        # Of each handshake, of the link's and of three requests for each file, the arithmetic took its turns.
        assert seen[-1]["turns"] >= 1 + 4 * 3


def test_a_large_file_is_never_held(azure: Azure, hub: Hub, files: Path) -> None:
    with at_hub("micropython", azure, files, hours=4, samples=4500, collect=True) as one:
        soon(lambda: len(one.lines()) > 1)
        said = upload(hub, **{"from": 0})
        times = [row["time"] for row in blob(azure, said)]
        assert len(times) == 3000 and times == sorted(times) and said["bytes"] > 200000
        peaks = [line["peak"] for line in one.lines() if "peak" in line]
    azure.assert_no_complaints()
    assert max(peaks) - peaks[0] < said["bytes"] / 2, peaks


@both
def test_whoever_fails_is_named_and_the_hub_is_told(azure: Azure, hub: Hub, files: Path, interpreter: str) -> None:
    with at_hub(interpreter, azure, files, samples=90):
        azure.storage.lifetime = -10
        assert upload(hub)["error"] == "the storage refused: 403 AuthenticationFailed"
        azure.storage.lifetime = 3600
        notice = hub.files.notices.pop()
        assert not notice["isSuccess"] and "AuthenticationFailed" in notice["statusDescription"]
        hub.files.answers.append(Answer(429, {"Retry-After": "10"}, b'{"Message": "ErrorCode:ThrottlingException"}'))
        said = upload(hub)
        assert said["state"] == "failed" and "429" in said["error"] and "ThrottlingException" in said["error"]
        for nonsense in (b"", b"[]", b"{}", b'{"correlationId": 1}', b"\xff"):
            hub.files.answers.append(Answer(200, {}, nonsense))
            assert "no sense" in upload(hub)["error"], nonsense
        given = {"correlationId": "x", "containerName": "a", "blobName": "b", "sasToken": "?c"}
        for host in ("evil.localhost/\r\nX: y", "user@" + BLOBS, "", "[::1]"):
            hub.files.answers.append(Answer(200, {}, json.dumps(given | {"hostName": host}).encode()))
            assert "URL" in upload(hub)["error"], host
        azure.storage.answers.append(Answer(307, {"Location": "https://elsewhere.localhost/"}))
        assert "307" in upload(hub)["error"]
        # Stored, but the hub does not take the notice.
        hub.files.answers += [hub.files._begin(UNIT_ID, "x"), Answer(500, {})]
        assert "the hub refused: 500" in upload(hub)["error"] and len(azure.storage.blobs) == 1
        assert upload(hub)["state"] == "done", "and then all is well"
    assert not azure.violations
    assert not [notice for notice in hub.files.notices if notice["isSuccess"]][:-1]


@both
def test_who_may_and_what_may_be_asked_for(azure: Azure, hub: Hub, files: Path, interpreter: str) -> None:
    now = time.time()
    refused: list[tuple[int, dict[str, Any]]] = [
        (400, {"what": "secrets"}),
        (400, {"resolution": "minute"}),
        (400, {"from": now, "to": now - 10}),
        (400, {"from": "yesterday"}),
        (400, {"after": -1}),
        (400, {"url": "http://localhost/x"}),
        (400, {"url": "https://user@localhost/x"}),
        (400, {"url": 1}),
        (404, {"point": "field/unit/none"}),
        (409, {"point": P2}),
    ]
    with at_hub(interpreter, azure, files, samples=90):
        for status, arguments in refused:
            found = call(hub, "upload", **arguments)
            assert found[0] == status and found[1]["error"], (arguments, found)
        assert not azure.storage.blobs and not hub.files.notices
    with at_hub(interpreter, azure, files, samples=90, role="viewer"):
        assert call(hub, "upload")[0] == 403


@both
def test_one_at_a_time_and_the_owners_switch_ends_it_at_once(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    with at_hub(interpreter, azure, files, samples=3000, hours=4) as one:
        status, found = call(hub, "upload", **{"from": 0})
        assert status == 202
        busy = call(hub, "upload")
        assert busy[0] == 409 and found["name"] in busy[1]["error"]
        assert call(hub, "switch", cloud=False)[0] == 200
        said = ended(hub, found["name"])
        assert said["state"] == "failed" and said["error"] == "the cloud was switched off"
        assert call(hub, "upload") == (409, {"error": "the cloud is switched off"})
        time.sleep(0.5)
        assert not azure.storage.blobs, "nothing of it goes up"
        call(hub, "switch", cloud=True)
        assert upload(hub)["state"] == "done"
        assert one.process.poll() is None


@both
def test_a_url_of_ones_own_without_azure(loop: Loop, ca: Ca, azure: Azure, files: Path, interpreter: str) -> None:
    broker = Broker(loop, ca.context())
    topic = f"kobler/{UNIT_ID}/"
    path = "/backup/history"
    try:
        with coupler(interpreter, files, {"port": broker.port}, samples=90):
            assert broker.next(topic + "presence", 60)["state"] == "online"

            def ask(rid: int, **arguments: Any) -> None:
                broker.publish(f"{topic}method/upload/{rid}", json.dumps(arguments).encode())

            ask(1)
            assert "url" in broker.next(topic + "result/400/1")["error"]
            port = azure.ports["wss"]
            ask(2, url=f"https://{BLOBS}:{port}{path}{azure.storage.sign(path)}", **{"from": 0})
            name = broker.next(topic + "result/202/2")["name"]
            assert finished(broker, topic, name)["state"] == "done"
            assert len(azure.storage.blobs[path].splitlines()) == 60
            # Whoever it is has to be who the URL says, under an authority of the unit's.
            for host, kind in (("elsewhere.localhost", "tls"), ("localhost", "TLS")):
                ask(3, url=f"https://{host}:{port}{path}?sig=secret")
                said = finished(broker, topic, broker.next(topic + "result/202/3")["name"])
                assert said["state"] == "failed" and "secret" not in json.dumps(said), kind
    finally:
        broker.stop()
    assert len(azure.storage.blobs) == 1 and not azure.violations


def finished(broker: Broker, topic: str, name: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        said = broker.next(topic + "reported", 60).get("cloud", {}).get("upload", {})
        if said.get("name") == name and said["state"] in ("done", "failed"):
            return dict(said)
    raise AssertionError(f"{name} did not come to an end")


# --- Microsoft's own client, as it comes


@pytest.fixture
def sdk(loop: Loop, azure: Azure, ca: Ca, tmp_path: Path) -> Iterator[Sdk]:
    azure.hubs[HUB].add(SDK_ID)
    found = Sdk(loop, azure, ca, tmp_path)
    yield found
    found.proxy.close()


def test_the_official_sdk_uploads_to_the_same_emulation(azure: Azure, hub: Hub, sdk: Sdk) -> None:
    client = sdk.device("wss")
    try:
        info = client.get_storage_info_for_blob("logs/a.txt")
        assert set(info) == {"correlationId", "hostName", "containerName", "blobName", "sasToken"}
        assert info["blobName"] == f"{SDK_ID}/logs/a.txt"
        with pytest.raises(ClientError):  # there is no such blob yet
            client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
        client.notify_blob_upload_status(info["correlationId"], False, 403, "no")
        with pytest.raises(ClientError):
            client.notify_blob_upload_status(info["correlationId"], False, 403, "no, again")
    finally:
        client.shutdown()
    assert [notice["statusCode"] for notice in hub.files.notices] == [403]
