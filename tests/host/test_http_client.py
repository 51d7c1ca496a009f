"""The unit's HTTP client against servers that keep to HTTP and servers that do not, on both interpreters."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from coupler.net.http import Answer, HttpError
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from uplink_peers import Peer, Server, closes_at_once, says, silence
from uplink_world import FIRMWARE, HERE, INTERPRETERS, Ca, Loop

both = pytest.mark.parametrize("interpreter", INTERPRETERS)


def run(interpreter: str, folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the client says to each of these requests."""
    path = folder / f"jobs-{interpreter}.json"
    path.write_text(json.dumps(jobs))
    program = Path(sys.executable).with_name("micropython") if interpreter == "micropython" else Path(sys.executable)
    heap = ["-X", "heapsize=256k"] if interpreter == "micropython" else []
    command = [str(program), *heap, str(HERE / "http_unit.py"), str(FIRMWARE), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(jobs), done.stdout[-2000:] + done.stderr[-2000:]
    return lines


class Handler(BaseHTTPRequestHandler):
    """Says what it got: by length, in chunks or until it closes, as the path wants it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = {"method": self.command, "path": self.path, "fields": dict(self.headers), "content": content.decode()}
        channel = self.connection
        assert isinstance(channel, ssl.SSLSocket)
        subject: Any = (channel.getpeercert() or {}).get("subject", ())
        found["certificate"] = [v for part in subject for k, v in part if k == "commonName"]
        body = json.dumps(found).encode()
        self.send_response(int(self.path.split("/")[2]) if self.path.startswith("/status/") else 200)
        self.send_header("Location", "https://localhost:1/elsewhere")
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 7):
                piece = body[at : at + 7]
                self.wfile.write(f"{len(piece):x};x=y\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\nX-Trailer: 1\r\n\r\n")
        elif self.path == "/close":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            channel.settimeout(0.2)  # MicroPython does not answer the alert
            with contextlib.suppress(OSError):
                channel.unwrap()  # without it the end may be anybody's doing (RFC 9112, 9.8)
        elif self.path == "/large":
            self.send_header("Content-Length", "300000")
            self.end_headers()
            self.wfile.write(b"x" * 300000)
        elif self.path != "/status/204":
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.end_headers()

    do_GET = do_PUT = do_POST = _answer


class Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the client closes when it has seen enough


@pytest.fixture(scope="module")
def server(ca: Ca) -> Iterator[int]:
    """The port of the standard library's server, which has nothing of ours in it."""
    httpd = Quiet(("127.0.0.1", 0), Handler)
    context = ca.context()
    context.verify_mode = ssl.CERT_OPTIONAL
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield httpd.server_port
    httpd.shutdown()
    httpd.server_close()


@both
def test_requests_to_an_independent_server(server: int, files: Path, tmp_path: Path, interpreter: str) -> None:
    trust = {"ca": [str(files / "ca.der")]}
    identity = {"cert": str(files / "cert.der"), "key": str(files / "key.der")}
    url = f"https://localhost:{server}"
    jobs: list[dict[str, Any]] = [
        {"method": "GET", "url": url + "/length?a=b%20c", **trust},
        {"method": "POST", "url": url + "/chunked", "body": '{"a": 1}', "fields": [["X-A", "b"]], **trust, **identity},
        {"method": "GET", "url": url + "/close", **trust},
        {"method": "PUT", "url": url + "/put", "sizes": [1000, 1, 4096, 3], "length": 5100, "limit": 6000, **trust},
        {"method": "GET", "url": url + "/large", "sink": True, "limit": 300000, **trust},
        {"method": "GET", "url": url + "/large", **trust},
        {"method": "GET", "url": url + "/status/204", **trust},
        {"method": "GET", "url": url + "/status/301", **trust},
        {"method": "PUT", "url": url + "/put", "body": "", **trust},
        {"method": "PUT", "url": url + "/put", "sizes": [], "length": 0, **trust},
    ]
    get, chunked, close, put, streamed, large, none, moved, *empty = run(interpreter, tmp_path, jobs)
    seen = json.loads(get["body"])
    assert seen["path"] == "/length?a=b%20c" and seen["certificate"] == [] and seen["fields"]["Connection"] == "close"
    assert seen["fields"]["Host"] == f"localhost:{server}" and "Content-Length" not in seen["fields"]
    seen = json.loads(chunked["body"])
    assert (seen["method"], seen["content"], seen["fields"]["X-A"]) == ("POST", '{"a": 1}', "b")
    assert seen["certificate"] == ["246f28aabbcc"], "the client certificate, where it was given"
    assert json.loads(close.get("body", str(close)))["method"] == "GET"
    assert json.loads(put["body"])["content"] == "0" * 5100
    assert streamed["streamed"] == 300000 and streamed["largest"] <= 1024 and streamed["body"] == ""
    assert large["error"] == "http" and "300000" in large["text"]
    assert (none["status"], none["body"]) == (204, "")
    assert moved["status"] == 301 and moved["fields"]["location"] == "https://localhost:1/elsewhere", "not followed"
    assert [json.loads(one["body"])["content"] for one in empty] == ["", ""]


@both
def test_a_body_that_is_not_as_long_as_announced_never_looks_whole(
    loop: Loop, ca: Ca, files: Path, tmp_path: Path, interpreter: str
) -> None:
    got: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(b"")
        while data := await reader.read(4096):
            got[-1] += data.split(b"\r\n\r\n")[-1]

    far = Listening(loop, peer, ca.context(client=False))
    try:
        base = {"method": "PUT", "url": f"https://localhost:{far.port}/", "ca": [str(files / "ca.der")], "length": 20}
        sizes = ([10], [], [10, 10, 1], [21], [19, 2], [5, 5, 5])
        found = run(interpreter, tmp_path, [base | {"sizes": list(each)} for each in sizes])
    finally:
        far.close()
    assert [each["error"] for each in found] == ["http"] * len(sizes)
    assert all("announced" in each["text"] for each in found)
    assert len(got) == len(sizes) and max(len(each) for each in got) < 20


@both
def test_who_the_peer_is_is_always_verified(loop: Loop, ca: Ca, files: Path, tmp_path: Path, interpreter: str) -> None:
    other = Ca(tmp_path / "other", "Other CA")
    other_der = tmp_path / "other.der"
    other_der.write_bytes(other.certificate.public_bytes(serialization.Encoding.DER))
    ours = str(files / "ca.der")
    heard: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    contexts = [
        ca.context(ca.server("elsewhere"), client=False),
        ca.context(ca.server("localhost", days=(-20, -10)), client=False),
        other.context(other.server(), client=False),
        ca.context(ca.server(), client=True),
    ]
    servers = [Listening(loop, peer, context) for context in contexts]
    try:
        urls = [f"https://localhost:{one.port}/secret" for one in servers]
        jobs = [{"method": "GET", "url": url, "ca": [ours]} for url in urls]
        jobs += [{"method": "GET", "url": urls[2], "ca": each} for each in ([ours, str(other_der)], [str(other_der)])]
        jobs += [{"method": "GET", "url": urls[2], "ca": [str(other_der), ours]}]
        found = run(interpreter, tmp_path, jobs)
    finally:
        for one in servers:
            one.close()
    assert [each.get("error") for each in found[:3]] == ["tls-name", "tls-clock", "tls-authority"]
    assert found[3]["error"] in ("tls-refused", "closed"), "a certificate was asked for and there is none"
    assert [each.get("status") for each in found[4:]] == [204] * 3, "several authorities, in any order"
    assert len(heard) == 3, "nothing was said to who is not who he should be"


class Listening(Server):
    """A server with any TLS context."""

    def __init__(self, loop: Loop, peer: Peer, context: ssl.SSLContext) -> None:
        super().__init__(loop, peer, None)
        plain = self._server

        async def start() -> asyncio.Server:
            plain.close()
            return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

        self._server = loop.call(start())
        self.port = int(self._server.sockets[0].getsockname()[1])


def endless(start: bytes, more: bytes) -> Peer:
    async def peer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0.001)

    return peer


def ends(data: bytes) -> Peer:
    """Reads the request, says this and closes."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        # At once: MicroPython would overlook an alert that comes in one segment with the last bytes.
        writer.transport.abort()

    return peer


async def dribbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.01)


async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when it has seen the head, and takes no more of the body."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    await writer.drain()
    await asyncio.sleep(3)


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE: dict[str, tuple[Peer, str, str]] = {
    "silent": (silence, "timeout", " ms"),
    "dribbling": (dribbles, "timeout", " ms"),
    "closing": (closes_at_once, "http closed tls-refused", ""),
    "endless line": (endless(OK, b"x" * 500), "http", "8192"),
    "endless fields": (endless(OK, b"X: y\r\n" * 20), "http", "64"),
    "endless interim": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "http", "interim"),
    "endless body": (endless(OK + b"Connection: close\r\n\r\n", b"x" * 1000), "http", "too large"),
    "endless chunks": (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 200), "http", "too large"),
    "endless extension": (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 100), "http", "more than"),
    "too large": (says(OK + b"Content-Length: 99999\r\n\r\n"), "http", "99999"),
    "cut short": (ends(OK + b"Content-Length: 10\r\n\r\n12345"), "http closed", ""),
    "chunks cut short": (ends(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), "http closed", ""),
    "garbage for a chunk": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n"), "http", "chunk size"),
    "two lengths": (says(OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "http", "beside"),
    "no HTTP": (says(b"220 mail.example ESMTP\r\n"), "http", "not HTTP"),
}


@both
def test_no_peer_holds_the_client_or_makes_it_believe_something(
    loop: Loop, ca: Ca, files: Path, tmp_path: Path, interpreter: str
) -> None:
    context = ca.context(client=False)
    servers = {name: Listening(loop, peer, context) for name, (peer, *_) in HOSTILE.items()}
    servers["early"] = Listening(loop, early, context)
    plain = Server(loop, silence, None)
    trust = {"ca": [str(files / "ca.der")], "total_ms": 500}
    try:
        jobs = []
        for name, (_, kind, _) in HOSTILE.items():
            job = {"method": "GET", "url": f"https://localhost:{servers[name].port}/", **trust}
            jobs.append(job if kind == "timeout" else job | {"total_ms": 10000})
        # More than the sockets' buffers hold, so that the client is stuck in the body.
        body = {"sizes": [8192] * 1600, "length": 8192 * 1600, "idle_ms": 700, "total_ms": 5000}
        jobs.append({"method": "PUT", "url": f"https://localhost:{servers['early'].port}/", **trust, **body})
        jobs.append({"method": "GET", "url": f"https://localhost:{plain.port}/", **trust})
        found = run(interpreter, tmp_path, jobs)
    finally:
        for one in servers.values():
            one.close()
        plain.close()
    for (name, (_, kind, text)), said in zip(HOSTILE.items(), found, strict=False):
        assert said.get("error") in kind.split() and text in said["text"], (name, said)
    assert (found[-2]["status"], found[-2]["body"]) == (403, "no"), "said before the body was taken"
    assert found[-1]["error"] == "timeout", "silent in the handshake"


# --- every cut, every damage

MESSAGES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX: y\r\n\r\nhello there",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n6\r\n there\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nnothing",
    b"HTTP/1.0 200 OK\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]


DAMAGE = [b"", b"\r", b"\n", b"\r\n", b"0", b"f", b":", b" ", b"\xff"]


def read(pieces: list[bytes]) -> tuple[Any, ...]:
    """What it comes to; a loop that never ends would be found by the test's own deadline."""
    answer = Answer(64)
    body = b""
    try:
        for piece in pieces:
            for view in answer.receive(piece):
                body += bytes(view)
        if not answer.done:
            answer.closed()
    except HttpError as error:
        return "refused", str(error), body
    return answer.status, answer.fields, body


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[a:b] for a, b in itertools.pairwise(ends)] or [b""]


@given(st.sampled_from(MESSAGES), st.lists(st.integers(0, 200), max_size=20))
def test_no_cut_of_the_bytes_changes_the_answer(raw: bytes, places: list[int]) -> None:
    whole = read([raw])
    assert whole[0] != "refused" and read(cut(raw, places)) == whole


@given(
    st.sampled_from(MESSAGES),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(DAMAGE)), min_size=1, max_size=4),
    st.lists(st.integers(0, 200), max_size=20),
)
def test_whatever_is_damaged_gives_an_answer_or_an_error_and_always_the_same(
    raw: bytes, damage: list[tuple[int, bytes]], places: list[int]
) -> None:
    for place, new in damage:
        at = place % len(raw)
        raw = raw[:at] + new + raw[at + 1 :]
    assert read(cut(raw, places)) == read([raw])


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=20))
def test_noise_is_refused_and_behind_a_chunked_head_too(noise: bytes, places: list[int]) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for raw in (noise, b"HTTP/1.1 200 OK\r\n" + noise, chunked + noise):
        assert read(cut(raw, places)) == read([raw])
