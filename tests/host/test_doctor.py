"""`kobler doctor`: each step of the way to the broker is named when it fails, with what to do."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.cloud.ntp import NtpServer
from kobler.doctor.checks import Target, examine
from kobler.doctor.cli import doctor
from kobler.mqtt_link import Credentials, Endpoint
from kobler.pki import Authority
from typer import Typer
from typer.testing import CliRunner

command = Typer(pretty_exceptions_enable=False)
command.command()(doctor)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("doctor")
    Authority.open_or_create(found / "pki")
    return found


@pytest.fixture(scope="module")
def running(state: Path) -> Iterator[tuple[Broker, NtpServer]]:
    broker, clock = Broker(Authority.open(state / "pki")), NtpServer()
    with Background(broker, clock):
        yield broker, clock


def run(state: Path, *options: str) -> tuple[int, list[dict[str, object]], str]:
    """Exit code, the JSON lines, and the text of the error that ended the command."""
    result = CliRunner().invoke(command, ["--state", str(state), "--json", *options])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    error = result.exception
    return result.exit_code, lines, "" if error is None or isinstance(error, SystemExit) else str(error)


def outcome(lines: list[dict[str, object]]) -> dict[str, object]:
    return {str(line["check"]): line["ok"] for line in lines if line["event"] == "check"}


def test_all_is_well(state: Path, running: tuple[Broker, NtpServer]) -> None:
    broker, clock = running
    code, lines, _ = run(state, "--url", broker.url, "--ntp", clock.address)
    assert outcome(lines) == {name: True for name in ("dns", "tcp", "tls", "websocket", "mqtt", "time")}
    assert code == 0
    assert all(isinstance(line["seconds"], float) for line in lines)


def test_people_get_a_line_a_check(state: Path, running: tuple[Broker, NtpServer]) -> None:
    result = CliRunner().invoke(command, ["--state", str(state), "--url", running[0].url])
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        [name, "ok"] for name in ("dns", "tcp", "tls", "websocket", "mqtt")
    ]


@contextmanager
def impostor(context: ssl.SSLContext | None, answer: bytes) -> Iterator[int]:
    """A server that takes connections one by one and says `answer` to whatever comes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                    raw.settimeout(3)
                    with context.wrap_socket(raw, server_side=True) if context else raw as link:
                        link.recv(4096)
                        link.sendall(answer)
                        link.recv(4096)
                except ssl.SSLError:
                    continue
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def server_context(authority: Authority, *names: str) -> ssl.SSLContext:
    issued = authority.server(list(names)) if names else authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert_pem, issued.key_pem)
    return context


def failed(lines: list[dict[str, object]], check: str) -> dict[str, object]:
    """The line of the check that failed, after making sure that it is the first and only one that was tried in vain."""
    names = [str(line["check"]) for line in lines]
    at = names.index(check)
    assert all(line["ok"] is True for line in lines[:at]), lines
    assert all(line["ok"] is None for line in lines[at + 1 :]), lines
    assert lines[at]["ok"] is False and lines[at]["remedy"]
    return lines[at]


def test_a_name_without_an_address(state: Path) -> None:
    code, lines, _ = run(state, "--url", "wss://broker.invalid/mqtt")
    assert code == 1 and "broker.invalid" in str(failed(lines, "dns")["detail"])


def test_a_port_where_nobody_listens(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, lines, _ = run(state, "--url", f"wss://localhost:{port}/mqtt")
    assert code == 1 and f"TCP port {port}" in str(failed(lines, "tcp")["detail"])


def test_a_port_that_speaks_no_tls(state: Path) -> None:
    with impostor(None, b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        code, lines, _ = run(state, "--url", f"wss://localhost:{port}/mqtt")
    assert code == 1 and "no TLS" in str(failed(lines, "tls")["detail"])


def test_a_certificate_of_somebody_else(state: Path, tmp_path: Path) -> None:
    foreign = Authority.open_or_create(tmp_path / "pki")
    with impostor(server_context(foreign), b"") as port:
        code, lines, _ = run(state, "--url", f"wss://localhost:{port}/mqtt")
    line = failed(lines, "tls")
    assert code == 1 and "not from a trusted authority" in str(line["detail"]) and "--state" in str(line["remedy"])


def test_a_certificate_for_another_name(state: Path) -> None:
    context = server_context(Authority.open(state / "pki"), "elsewhere.example")
    with impostor(context, b"") as port:
        code, lines, _ = run(state, "--url", f"wss://localhost:{port}/mqtt")
    assert code == 1 and "not for localhost" in str(failed(lines, "tls")["detail"])


def test_a_web_server_that_knows_no_websocket(state: Path) -> None:
    context = server_context(Authority.open(state / "pki"))
    with impostor(context, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        code, lines, _ = run(state, "--url", f"wss://localhost:{port}/mqtt")
    assert code == 1 and "HTTP 200" in str(failed(lines, "websocket")["detail"])


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("407 Proxy Authentication Required", "without the proxy"),
        ("404 Not Found", "check the path"),
        ("403 Forbidden", "does not let this certificate in"),
        ("502 Bad Gateway", "does not run"),
    ],
)
def test_what_a_status_instead_of_an_upgrade_means(state: Path, status: str, remedy: str) -> None:
    context = server_context(Authority.open(state / "pki"))
    with impostor(context, f"HTTP/1.1 {status}\r\n\r\n".encode()) as port:
        code, lines, _ = run(state, "--url", f"wss://localhost:{port}/mqtt")
    line = failed(lines, "websocket")
    assert code == 1 and status in str(line["detail"]) and remedy in str(line["remedy"])


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(state: Path) -> None:
    authority = Authority.open(state / "pki")
    issued = authority.issue_client("doctor")
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def dribble() -> None:
            raw, _ = listener.accept()
            with server_context(authority).wrap_socket(raw, server_side=True) as link:
                link.recv(4096)
                link.sendall(b"HTTP/1.1 101 x\r\nX: ")
                try:
                    while not ended.wait(0.05):
                        link.sendall(b"x")
                except OSError:
                    return

        threading.Thread(target=dribble, daemon=True).start()
        endpoint = Endpoint.parse(f"wss://localhost:{listener.getsockname()[1]}/mqtt")
        target = Target([endpoint], Credentials(issued.ca_pem, issued.cert_pem, issued.key_pem), [])
        found = {finding.check: finding for finding in examine(target, timeout=0.5)}
        ended.set()
    assert found["tls"].ok and found["websocket"].ok is False and "no answer in time" in found["websocket"].detail


def test_a_hub_is_examined_as_far_as_one_gets_without_being_a_device(
    state: Path, running: tuple[Broker, NtpServer], tmp_path: Path
) -> None:
    site = tmp_path / "site.toml"
    context = server_context(Authority.open(state / "pki"))
    with impostor(context, b"HTTP/1.1 404 Not Found\r\n\r\n") as port:
        site.write_text(
            '[device]\nname = "x"\n[network]\nkind = "ethernet"\nntp = ["' + running[1].address + '"]\n'
            f'[cloud]\nenabled = true\ndialect = "azure"\nscope = "0ne00ABCDEF"\nurl = "wss://localhost:{port}"\n'
        )
        code, lines, _ = run(state, "--config", str(site))
    assert code == 1 and outcome(lines) == {
        "dns": True,
        "tcp": True,
        "tls": True,
        "websocket": False,
        "mqtt": None,
        "time": True,
    }
    assert "/$iothub/websocket" in str(lines[3]["detail"]) and "kobler doctor --port" in str(lines[4]["remedy"])
    assert [line["domain"] for line in lines if line["event"] == "rule"][:3] == [
        "localhost", "*.azure-devices.net", "*.blob.core.windows.net"
    ]  # fmt: skip


def test_a_broker_that_does_not_know_our_authority(
    state: Path, running: tuple[Broker, NtpServer], tmp_path: Path
) -> None:
    other = Authority.open_or_create(tmp_path / "pki").issue_client("doctor")
    options = ["--cert", str(other.cert_pem), "--key", str(other.key_pem)]
    code, lines, _ = run(state, "--url", running[0].url, *options)
    assert code == 1
    broken = next(line for line in lines if line["ok"] is False)
    assert broken["check"] in ("tls", "websocket") and "certificate" in str(broken["remedy"])


def test_a_time_server_that_is_not_there(state: Path, running: tuple[Broker, NtpServer]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    code, lines, _ = run(state, "--url", running[0].url, "--ntp", f"127.0.0.1:{port}")
    assert code == 1 and outcome(lines)["time"] is False and outcome(lines)["mqtt"] is True


@pytest.mark.parametrize("server", ["localhost:abc", "localhost:99999", "::1"])
def test_a_time_server_that_is_none_is_said_to_be(state: Path, running: tuple[Broker, NtpServer], server: str) -> None:
    code, lines, _ = run(state, "--url", running[0].url, "--ntp", server)
    (time,) = [line for line in lines if line.get("check") == "time"]
    assert code == 1 and "is no time server" in str(time["detail"]) and "HOST:PORT" in str(time["remedy"])


def test_the_firewall_rules_of_a_configuration(state: Path, running: tuple[Broker, NtpServer], tmp_path: Path) -> None:
    broker, clock = running
    site = tmp_path / "site.toml"
    site.write_text(
        f'[device]\nname = "x"\n[network]\nkind = "ethernet"\naddress = "dhcp"\nntp = ["{clock.address}"]\n'
        f'[cloud]\nenabled = true\nurl = "{broker.url}"\n'
    )
    code, lines, _ = run(state, "--config", str(site))
    assert outcome(lines) == {name: True for name in ("dns", "tcp", "tls", "websocket", "mqtt", "time")}
    rules = [line for line in lines if line["event"] == "rule"]
    assert code == 0
    assert any(rule["domain"] == "localhost" and rule["port"] == broker.port for rule in rules)
    ticket = CliRunner().invoke(command, ["--state", str(state), "--config", str(site), "--markdown"])
    assert ticket.exit_code == 0
    lines_of = ticket.stdout.splitlines()
    assert f"| localhost | {broker.port} | TCP | MQTT in a TLS WebSocket; TLS must not be intercepted |" in lines_of
    assert any(line.startswith("| mqtt | ok | ") for line in lines_of)


@pytest.mark.parametrize(
    ("option", "content"),
    [
        *((option, content) for option in ("--ca", "--cert", "--key") for content in (None, "", "junk\n", "wrong")),
        ("--key", "locked"),
        ("--key", "of another"),
    ],
)
def test_the_file_that_is_not_good_is_named(state: Path, tmp_path: Path, option: str, content: str | None) -> None:
    issued = Authority.open(state / "pki").issue_client("doctor")
    good = {"--ca": issued.ca_pem, "--cert": issued.cert_pem, "--key": issued.key_pem}
    key = load_pem_private_key(issued.key_pem.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    contents = {
        "wrong": (issued.ca_pem if option == "--key" else issued.key_pem).read_bytes(),
        "locked": locked,
        "of another": Authority.open(state / "pki").issue_client("another").key_pem.read_bytes(),
    }
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(contents.get(content, content.encode()))
    options = [str(part) for pair in (good | {option: bad}).items() for part in pair]
    code, _, error = run(state, "--url", "wss://localhost:1/mqtt", *options)
    assert code == 1 and "\n" not in error
    named = [str(path) for path in (*good.values(), bad) if str(path) in error]
    assert named == ([str(issued.cert_pem), str(bad)] if content == "of another" else [str(bad)]), error


def test_every_broker_of_a_configuration_is_examined(
    state: Path, running: tuple[Broker, NtpServer], tmp_path: Path
) -> None:
    broker, clock = running
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    site = tmp_path / "site.toml"
    site.write_text(
        f'[device]\nname = "x"\n[network]\nkind = "ethernet"\nntp = ["{clock.address}"]\n'
        f'[cloud]\nenabled = true\nurl = ["wss://localhost:{port}/mqtt", "{broker.url}"]\n'
    )
    code, lines, _ = run(state, "--config", str(site))
    assert code == 1
    assert [line["ok"] for line in lines if line.get("check") == "tcp"] == [False, True]
    assert [line["ok"] for line in lines if line.get("check") == "mqtt"] == [None, True]
    assert [line["port"] for line in lines if line["event"] == "rule"][:2] == [port, broker.port]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "http://localhost/"], "no broker's URL"),
        (["--url", "wss://localhost:99999/mqtt"], "no URL"),
        (["--url", "wss://localhost/mqtt", "--cert", "x.pem"], "go together"),
        (["--config", "a.toml", "--url", "wss://localhost/mqtt"], "give one of them"),
        (["--url", "wss://localhost/mqtt", "--ca", "/nonexistent.pem"], "/nonexistent.pem"),
        ([], "nothing runs on"),
    ],
)
def test_wrong_usage_is_one_line(state: Path, options: list[str], said: str) -> None:
    code, _, error = run(state, *options)
    assert code != 0 and said in error and "\n" not in error
