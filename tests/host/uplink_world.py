"""What a unit's cloud link meets in the tests: an authority and a real broker; and the unit itself as a process."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import itertools
import json
import logging
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from amqtt.broker import Broker as AmqttBroker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware"
UNIT_ID = "246f28aabbcc"
INTERPRETERS = ("micropython", "cpython")


_numbers = itertools.count()


class Ca:
    """A small authority; everything it issues is P-256 and lies in one folder."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(self._name, self._key.public_key(), ca=True)
        self.pem = folder / "ca.pem"
        self.pem.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _build(
        self,
        subject: x509.Name,
        key: Any,
        ca: bool = False,
        names: tuple[str, ...] = (),
        days: tuple[int, int] = (-2, 30),
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            found: list[x509.GeneralName] = []
            for name in names:
                address = name.replace(".", "").isdigit()
                found.append(x509.IPAddress(ipaddress.ip_address(name)) if address else x509.DNSName(name))
            builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(
        self, name: str, names: tuple[str, ...] = (), days: tuple[int, int] = (-1, 30)
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._build(subject, key.public_key(), names=names, days=days), key

    def server(self, name: str = "localhost", days: tuple[int, int] = (-1, 30)) -> tuple[Path, Path]:
        certificate, key = self.issue(name, (name,), days)
        cert_pem, key_pem = self.folder / f"{name}{days[1]}{days[0]}.pem", self.folder / f"{name}{days[1]}{days[0]}.key"
        cert_pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.TraditionalOpenSSL
        key_pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return cert_pem, key_pem

    def unit(self, folder: Path, trusting: Ca | None = None, name: str = UNIT_ID) -> Path:
        """cert.der, key.der, ca.der as on a unit's flash."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = self.issue(name, (name,))
        der = serialization.Encoding.DER
        (folder / "cert.der").write_bytes(certificate.public_bytes(der))
        form = serialization.PrivateFormat.TraditionalOpenSSL
        (folder / "key.der").write_bytes(key.private_bytes(der, form, serialization.NoEncryption()))
        (folder / "ca.der").write_bytes((trusting or self).certificate.public_bytes(der))
        return folder

    def context(self, server: tuple[Path, Path] | None = None, client: bool = True) -> ssl.SSLContext:
        """The server's side of TLS, client certificates required."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(server or self.server()))
        context.load_verify_locations(self.pem)
        context.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
        return context


class Loop:
    """An asyncio loop in a thread, so that tests can be plain functions."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Awaitable[Any], seconds: float = 15) -> Any:
        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(seconds)

    def close(self) -> None:
        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Amqtt(AmqttBroker):  # type: ignore[misc]
    def __init__(self, config: dict[str, Any], context: ssl.SSLContext) -> None:
        super().__init__(config)
        self.context = context
        self.seen: queue.Queue[tuple[str, bytes]] = queue.Queue()

    def _create_ssl_context(self, _listener: Any) -> ssl.SSLContext:  # type: ignore[override]
        return self.context

    async def _authenticate(self, session: Any, _listener: Any) -> bool:
        return True  # TLS has done it

    async def _broadcast_message(self, session: Any, topic: Any, data: Any, force_qos: int | None = None) -> None:
        self.seen.put((str(topic), bytes(data or b"")))
        await super()._broadcast_message(session, topic, data, force_qos)


class Broker:
    """amqtt with client certificates required, on a WebSocket or bare TLS; stops and starts on the same port."""

    def __init__(self, loop: Loop, context: ssl.SSLContext, scheme: str = "wss", port: int = 0) -> None:
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        logging.getLogger("websockets").setLevel(logging.CRITICAL)
        self.port = port or free_port()
        self.scheme = scheme
        self._loop = loop
        self._context = context
        self.start()

    def start(self) -> None:
        kind = "ws" if self.scheme == "wss" else "tcp"
        listener = {"type": kind, "bind": f"127.0.0.1:{self.port}", "ssl": True}

        async def make() -> _Amqtt:
            core = _Amqtt({"listeners": {"default": listener}, "plugins": {}}, self._context)
            await core.start()
            return core

        self._core: _Amqtt = self._loop.call(make())
        self.running = True

    def drain(self) -> list[tuple[str, bytes]]:
        """What was published since and not looked at."""
        found = []
        while not self._core.seen.empty():
            found.append(self._core.seen.get())
        return found

    def stop(self) -> None:
        if self.running:
            self.running = False
            self._loop.call(self._core.shutdown())

    def publish(self, topic: str, payload: bytes) -> None:
        self._loop.call(self._core.internal_message_broadcast(topic, payload, 1))

    def retained(self, topic: str) -> Any:
        message = self._core.retained_messages.get(topic)
        return json.loads(bytes(message.data)) if message else None

    def next(self, topic: str, seconds: float = 10) -> Any:
        """The payload of the next message on the topic, read as JSON."""
        until = time.monotonic() + seconds
        while True:
            try:
                got, payload = self._core.seen.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing was published on {topic}") from None
            if got == topic:
                return json.loads(payload)


class Unit:
    """uplink_unit.py as a process; its lines are read as they come."""

    def __init__(self, interpreter: str, files: Path, cloud: dict[str, Any], **settings: Any) -> None:
        beside = Path(sys.executable).with_name("micropython")
        command = [str(beside)] if interpreter == "micropython" else [sys.executable, "-u"]
        if "heap" in settings:
            command += ["-X", f"heapsize={settings.pop('heap')}"]
        whole = {"host": "localhost", "scheme": "wss", "path": "/mqtt", "dialect": "plain", "ack": "broker", **cloud}
        given = {"id": UNIT_ID, "files": str(files), "cloud": whole, **settings}
        # In a file: MicroPython takes no argument of more than 255 bytes.
        path = files / f"{interpreter}-{next(_numbers)}.json"
        path.write_text(json.dumps(given))
        command += [str(HERE / "uplink_unit.py"), str(FIRMWARE), str(path)]
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 15) -> dict[str, Any]:
        """The first report from now on for which wanted(report) holds."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, "the unit did not come so far:\n" + "".join(self.seen[-5:])
            self.seen.append(line)
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if wanted(report):
                return dict(report)

    def fails_with(self, kind: str, seconds: float = 15) -> str:
        """Waits until the session names this kind of failure; returns its words."""
        return str(self.until(lambda r: r["status"]["error"] == kind, seconds)["status"]["text"])

    def online(self, seconds: float = 15) -> dict[str, Any]:
        return self.until(lambda r: r["status"]["state"] == "online", seconds)

    def acked(self, seq: int, seconds: float = 15) -> dict[str, Any]:
        return self.until(lambda r: r["acked"] >= seq, seconds)

    def ended(self, seconds: float = 15) -> dict[str, Any]:
        return self.until(lambda r: bool(r.get("ended")), seconds)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(5)
        assert self._process.stdout
        self._process.stdout.close()


@contextlib.contextmanager
def unit(interpreter: str, files: Path, cloud: dict[str, Any], **settings: Any) -> Iterator[Unit]:
    one = Unit(interpreter, files, cloud, **settings)
    try:
        yield one
    finally:
        one.kill()
