"""Brokers of production as the scripts in deploy/ start them: mosquitto, one nats-server, a cluster of three."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kobler.pki import Authority
from uplink_world import UNIT_ID, Loop

DEPLOY = Path(__file__).parents[2] / "deploy"
NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
NAME = "localhost"
CLUSTER_NAME = "broker.example.com"
_ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}


def need(program: str) -> None:
    """Skips the test where a Debian package is not here."""
    if not shutil.which(program, path=_ENVIRONMENT["PATH"]):
        pytest.skip(f"{program} is not here (apt install {program})")
    if sys.platform != "linux" and program == "nats-server":
        pytest.skip("127.0.0.2 and 127.0.0.3 are not addresses of this computer")


def unit_files(authority: Authority, folder: Path, name: str = UNIT_ID, trusting: Authority | None = None) -> Path:
    """cert.der, key.der and ca.der as on a unit's flash after provisioning."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    der = serialization.Encoding.DER
    given = authority.certify(request.public_bytes(der), name)
    (folder / "cert.der").write_bytes(b"".join((given.certificate, *given.chain)))
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "key.der").write_bytes(key.private_bytes(der, form, serialization.NoEncryption()))
    (folder / "ca.der").write_bytes((trusting or authority).ca_der)
    return folder


def free_ports(count: int, addresses: tuple[str, ...] = NODES[:1]) -> list[int]:
    """TCP ports that are free at all of these addresses."""
    found: list[int] = []
    with contextlib.ExitStack() as probes:
        while len(found) < count:
            first = probes.enter_context(socket.socket())
            first.bind((addresses[0], 0))
            port = int(first.getsockname()[1])
            try:
                for address in addresses[1:]:
                    probes.enter_context(socket.socket()).bind((address, port))
            except OSError:
                continue
            found.append(port)
    return found


class Script:
    """A script of deploy/ that runs a broker in the foreground, its words in a file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self.log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=_ENVIRONMENT)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def check(self) -> None:
        """Raises AssertionError with the broker's last words if it has ended."""
        assert self._process and self._process.poll() is None, self.log.read_text()[-2000:]


class Broker:
    """One broker program on 127.0.0.1: wss and mqtts are its ports; start, kill (SIGKILL), stop (SIGTERM)."""

    def __init__(self, script: Script, wss: int, mqtts: int) -> None:
        self.wss, self.mqtts = wss, mqtts
        self._script = script
        self.start()

    def port(self, scheme: str) -> int:
        return self.wss if scheme == "wss" else self.mqtts

    def start(self) -> None:
        self._script.start()
        until = time.monotonic() + 20
        try:
            while not self.ready():
                self._script.check()
                assert time.monotonic() < until, self._script.log.read_text()[-2000:]
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def ready(self) -> bool:
        return listens(NODES[0], self.wss) and listens(NODES[0], self.mqtts)

    def kill(self) -> None:
        self._script.end(signal.SIGKILL)

    def stop(self) -> None:
        self._script.end()

    def log(self) -> str:
        return self._script.log.read_text()


class Mosquitto(Broker):
    def __init__(self, authority: Authority, folder: Path, autosave: int = 1) -> None:
        need("mosquitto")
        authority.server([NAME])
        wss, mqtts = free_ports(2)
        folder.mkdir()
        command = [str(DEPLOY / "mosquitto" / "run.sh"), "--name", NAME, "--pki", str(authority.folder)]
        command += ["--state", str(folder / "state"), "--bind", NODES[0], "--autosave", str(autosave)]
        command += ["--wss", str(wss), "--mqtts", str(mqtts)]
        super().__init__(Script(command, folder / "log"), wss, mqtts)


class Nats(Broker):
    """One nats-server without a cluster."""

    def __init__(self, authority: Authority, folder: Path, ack_wait: str = "2s") -> None:
        need("nats-server")
        authority.server([NAME])
        wss, mqtts, port, self.monitor = free_ports(4)
        folder.mkdir()
        command = [str(DEPLOY / "nats" / "node.sh"), "--name", NAME, "--pki", str(authority.folder), "--node", "alone"]
        command += ["--state", str(folder / "state"), "--bind", NODES[0], "--ack-wait", ack_wait]
        command += ["--wss", str(wss), "--mqtts", str(mqtts), "--port", str(port), "--monitor", str(self.monitor)]
        super().__init__(Script(command, folder / "log"), wss, mqtts)

    def ready(self) -> bool:
        return healthy(self.monitor)


class Cluster:
    """Three nodes of nats-server at NODES, on the same ports."""

    def __init__(self, authority: Authority, folder: Path, name: str = CLUSTER_NAME, ack_wait: str = "2s") -> None:
        need("nats-server")
        need("openssl")
        authority.server([name, *NODES])
        self.wss, self.mqtts, port, cluster = free_ports(4, NODES)
        while True:
            self.monitor = free_ports(1)[0]
            if not any(listens(NODES[0], self.monitor + i) for i in (1, 2)) and self.monitor < 65000:
                break
        self.folder = folder
        folder.mkdir()
        command = [str(DEPLOY / "nats" / "cluster.sh"), "--name", name, "--pki", str(authority.folder)]
        command += ["--state", str(folder), "--ack-wait", ack_wait, "--wss", str(self.wss), "--mqtts", str(self.mqtts)]
        command += ["--port", str(port), "--cluster-port", str(cluster), "--monitor", str(self.monitor)]
        self._script = Script(command, folder / "log")
        self._again: dict[int, Script] = {}
        self._script.start()
        try:
            self.wait(range(3))
        except BaseException:
            self.stop()
            raise

    def wait(self, nodes: Any, seconds: float = 40) -> None:
        """Until these nodes are up and agree on a leader."""
        until = time.monotonic() + seconds
        while not all(healthy(self.monitor + node, cluster=True) for node in nodes):
            assert time.monotonic() < until, self.log()[-3000:]
            time.sleep(0.1)

    def kill(self, node: int) -> None:
        """SIGKILL, by the process id that the node wrote."""
        if node in self._again:
            self._again.pop(node).end(signal.SIGKILL)
            return
        os.kill(int((self.folder / f"n{node + 1}" / "nats.pid").read_text()), signal.SIGKILL)
        until = time.monotonic() + 5
        while listens(NODES[node], self.wss):
            assert time.monotonic() < until
            time.sleep(0.02)

    def start(self, node: int) -> None:
        """Start a killed node again."""
        self._again[node] = Script([str(self.folder / f"n{node + 1}.again")], self.folder / f"log{node + 1}")
        self._again[node].start()

    def stop(self) -> None:
        for script in self._again.values():
            script.end()
        self._script.end()

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("log*")))


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def healthy(monitor: int, cluster: bool = False) -> bool:
    try:
        # Without its streams: 2.9 calls a consumer that nobody uses "not current" until somebody does.
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/healthz?js-server-only=true", timeout=2):
            pass
        if cluster:
            with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=2) as answer:
                meta = json.load(answer).get("meta_cluster", {})
                return bool(meta.get("leader")) and meta.get("cluster_size") == 3
        return True
    except OSError:
        return False


def context(authority: Authority, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """A client's side of TLS; without a certificate of its own if there is none."""
    made = ssl.create_default_context(cafile=str(authority.ca_pem))
    if cert:
        made.load_cert_chain(cert, key)
    return made


class Names:
    """A DNS server on loopback that gives every name these addresses; `server` is its own."""

    def __init__(self, loop: Loop, addresses: tuple[str, ...] = NODES) -> None:
        self._loop = loop
        self.addresses = list(addresses)
        names = self

        class Protocol(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = cast(asyncio.DatagramTransport, transport)

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                answer = data[:2] + b"\x81\x80\0\x01\0" + bytes((len(names.addresses),)) + b"\0\0\0\0" + data[12:]
                for address in names.addresses:
                    answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
                self.transport.sendto(answer, addr)

        async def start() -> asyncio.BaseTransport:
            return (await asyncio.get_running_loop().create_datagram_endpoint(Protocol, ("127.0.0.1", 0)))[0]

        self._transport = loop.call(start())
        self.server = f"127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    def close(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._transport.close)


@contextlib.contextmanager
def started(broker: Any) -> Iterator[Any]:
    try:
        yield broker
    finally:
        broker.stop()
