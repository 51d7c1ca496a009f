"""The base image's download, from a real HTTPS server on this machine."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kobler import boards
from kobler.build import download, image
from kobler.errors import KoblerError

BOARD = boards.load("olimex-esp32-poe")
NAME = str(BOARD.image)


def base_image(note: bytes = b"") -> bytes:
    chip = BOARD.chip_info
    bootloader = image.Image.make(chip, chip.ram_address, b"bootloader" + note).data
    app = image.Image.make(chip, chip.data_address, bytes(300_000)).data
    return bootloader.ljust(0x10000 - chip.bootloader_offset, b"\xff") + app


GOOD = base_image()


@dataclass
class Server:
    """What the server answers, and what it was asked."""

    port: int = 0
    body: bytes = GOOD
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        return f"https://localhost:{self.port}/resources/firmware"


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A self-signed certificate of `host` and 127.0.0.1, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_pem, key_pem = folder / "cert.pem", folder / "key.pem"
    cert_pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = serialization.NoEncryption()
    key_format = serialization.PrivateFormat.PKCS8
    key_pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, key_format, secret))
    return cert_pem, key_pem


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def server(identity: tuple[Path, Path]) -> Iterator[Server]:
    answers = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.asked.append(self.path)
            self.send_response(answers.status)
            headers = {"Content-Length": str(len(answers.body)), **answers.headers}
            for key, value in headers.items():
                if value:
                    self.send_header(key, value)
            self.end_headers()
            try:
                self.wfile.write(answers.body)
            except OSError:
                pass  # the client has seen enough

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*identity)
        # The handshake in the request's own thread: a client that refuses it must not stop the server.
        listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        listening.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        answers.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield answers
        listening.shutdown()
        thread.join()


Fetch = Callable[..., bytes]


@pytest.fixture
def fetch(server: Server, identity: tuple[Path, Path], tmp_path: Path) -> Fetch:
    """`download.fetch` from the local server, into tmp_path/cache."""
    trust = ssl.create_default_context(cafile=str(identity[0]))

    def run(name: str = NAME, **other: object) -> bytes:
        options: dict[str, object] = {"folder": server.folder, "context": trust, "check": check, **other}
        return download.fetch(name, tmp_path / "cache", **options)  # type: ignore[arg-type]

    return run


def check(data: bytes, what: str) -> None:
    image.slice_base(data, BOARD, what)


def test_the_first_download_is_recorded_and_kept(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    heard: list[str] = []
    assert fetch(progress=heard.append) == GOOD
    assert server.asked == [f"/resources/firmware/{NAME}"]
    digest = hashlib.sha256(GOOD).hexdigest()
    assert (tmp_path / "cache" / f"{NAME}.sha256").read_text() == f"{digest}  {NAME}\n"
    assert any(f"downloading {NAME}: 0.4 of 0.4 MB" in text for text in heard)
    assert fetch() == GOOD
    assert len(server.asked) == 1
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [NAME, f"{NAME}.sha256"]


def test_micropython_org_is_where_images_come_from() -> None:
    assert download.FOLDER == "https://micropython.org/resources/firmware"


def test_another_image_under_the_same_name_is_refused(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    fetch()
    (tmp_path / "cache" / NAME).unlink()
    server.body = base_image(b" two")
    with pytest.raises(KoblerError, match=r"not the image that was downloaded before: .*, recorded .*; .*delete"):
        fetch()
    assert not (tmp_path / "cache" / NAME).exists()
    server.body = GOOD
    assert fetch() == GOOD


def test_a_changed_cached_image_is_refused(fetch: Fetch, tmp_path: Path) -> None:
    fetch()
    (tmp_path / "cache" / NAME).write_bytes(base_image(b" two"))
    with pytest.raises(KoblerError, match="the cached image was changed"):
        fetch()


def test_an_image_without_a_record_is_not_trusted(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / NAME).write_bytes(base_image(b" planted"))
    assert fetch() == GOOD
    (tmp_path / "cache" / f"{NAME}.sha256").write_text("nonsense")
    with pytest.raises(KoblerError, match="holds no SHA-256: delete it"):
        fetch()


# (what the server does, what the error must say)
BAD_ANSWERS: list[tuple[dict[str, object], str]] = [
    ({"status": 404, "body": b"no"}, "answers 404: there is no such image"),
    ({"status": 503, "body": b"no"}, "answers 503"),
    ({"body": b"<!DOCTYPE html><title>Login</title>"}, "not an ESP32 image"),
    ({"body": GOOD[:200_000]}, "truncated"),
    ({"body": GOOD[:200_000], "headers": {"Content-Length": str(len(GOOD))}}, "200,000 of"),
    ({"body": GOOD[:200_000], "headers": {"Content-Length": ""}}, "truncated"),
    ({"headers": {"Content-Length": str(100 << 20)}}, "too many for an image"),
    ({"body": bytes(download.LIMIT + 1), "headers": {"Content-Length": ""}}, "too many for an image"),
    ({"status": 302, "headers": {"Location": "http://localhost/x.bin"}}, "not HTTPS"),
    ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, "is not allowed"),
]


@pytest.mark.parametrize(("answer", "says"), BAD_ANSWERS, ids=[says for _, says in BAD_ANSWERS])
def test_a_bad_answer_is_an_error_and_nothing_is_kept(
    fetch: Fetch, server: Server, tmp_path: Path, answer: dict[str, object], says: str
) -> None:
    for key, value in answer.items():
        setattr(server, key, value)
    with pytest.raises(KoblerError) as caught:
        fetch()
    assert says in str(caught.value)
    assert server.folder in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))


def test_the_server_must_prove_its_name(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    with pytest.raises(KoblerError, match=r"certificate of localhost is not trusted here .*--image FILE"):
        fetch(context=None)  # the system does not know our authority
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    cert, _ = certificate(stranger, "micropython.org")
    with pytest.raises(KoblerError, match="is not trusted here"):
        fetch(context=ssl.create_default_context(cafile=str(cert)))
    assert server.asked == []


def test_offline_is_a_clear_error_with_the_remedy(fetch: Fetch, server: Server) -> None:
    with pytest.raises(KoblerError, match=r"localhost cannot be reached .*--image FILE"):
        fetch(folder="https://localhost:1/firmware")
    with pytest.raises(KoblerError, match=r"nowhere\.invalid cannot be reached .*connect to the internet"):
        fetch(folder="https://nowhere.invalid/firmware")
    with pytest.raises(KoblerError, match="only https://"):
        fetch(folder=server.folder.replace("https", "http"))
