"""The computer at the cable and an EST server, TLS and HTTP between them: who shows what to whom, and how long is
waited."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from est_place import REQUEST, SECRET, UNIT, Place
from est_server import Authority, answer, certs_only, says
from kobler.errors import KoblerError
from kobler.pki import secret
from kobler.provision import est_cli, est_http
from kobler.provision.est import EstAuthority
from kobler.provision.est_http import Access


@pytest.mark.parametrize(
    ("secret", "identity", "fields", "words"),
    [
        (SECRET, False, {}, "with 401: is the secret wrong, or was it used before"),
        (SECRET, False, {"WWW_Authenticate": 'Basic realm="a, b"'}, "with 401: is the secret wrong"),
        (SECRET, False, {"WWW_Authenticate": 'Digest realm="a", basic realm="b"'}, "with 401: is the secret wrong"),
        (SECRET, False, {"WWW_Authenticate": 'Digest realm="Basic", nonce="n="'}, "it asks for HTTP Digest, here is"),
        (SECRET, True, {"WWW_Authenticate": "Negotiate, Bearer"}, "it asks for HTTP Negotiate, Bearer, here is only"),
        (None, False, {}, "it wants a secret or a certificate .KOBLER_EST_SECRET, --est-identity"),
        (None, True, {}, "it wants a secret, too, or another certificate .KOBLER_EST_SECRET, --est-identity"),
    ],
)
def test_who_is_not_let_in_hears_what_to_do(
    place: Place, secret: str | None, identity: bool, fields: dict[str, str], words: str
) -> None:
    place.server.script["simpleenroll"] = [says(401, SECRET.encode(), Content_Type="text/plain", **fields)]
    authority = place.authority(secret, place.identity("line-7") if identity else None)
    with pytest.raises(KoblerError, match=words) as caught:
        authority.certify(REQUEST, UNIT)
    assert "Tr1cky" not in str(caught.value) and not place.state.exists()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_lets_nobody_in_without_a_certificate(place: Place, version: ssl.TLSVersion) -> None:
    place.server._context.minimum_version = place.server._context.maximum_version = version
    place.server._context.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(KoblerError, match=r"does not answer cacerts: .*may want a certificate \(--est-identity\)"):
        place.authority().certify(REQUEST, UNIT)
    identity = place.identity("line-7")
    assert place.authority(None, identity).certify(REQUEST, UNIT).certificate
    first, middle, rest = identity.read_bytes().partition(b"-----END CERTIFICATE-----\n")
    identity.write_bytes(first + middle + rest.partition(middle)[2])
    with pytest.raises(KoblerError, match="does the file of --est-identity have the intermediates, too"):
        place.authority(None, identity).authorities()
    place.server.close()
    with pytest.raises(KoblerError, match=r"does not answer cacerts: .*refused$"):
        place.authority().authorities()


def test_a_server_that_wants_both_gets_certificate_and_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = place.identity("line-7")
    place.authority(SECRET, identity).certify(REQUEST, UNIT)
    assert [(one.client, one.secret) for one in place.server.seen] == [("line-7", None), ("line-7", SECRET)]
    assert [one.fields["connection"] for one in place.server.seen] == ["close", "close"]

    def access() -> Access | None:
        site: Any = type("Site", (), {"est": type("Est", (), {"base": place.server.url})})
        return est_cli.access(est_cli.Est.HERE, place.roots, identity, False, [], site, False)

    assert access() == Access(place.server.url, place.roots, SECRET, identity)
    monkeypatch.delenv(secret.EST)
    assert access() == Access(place.server.url, place.roots, None, identity), "it was not asked for"


def test_a_server_that_the_roots_do_not_vouch_for_hears_nothing(place: Place) -> None:
    place.trust(Authority("Stranger"))
    with pytest.raises(KoblerError, match=r"cannot be trusted: .*--est-roots"):
        place.authority().certify(REQUEST, UNIT)
    assert place.server.operations() == []
    place.trust(place.server.root)
    place.server.close()
    with pytest.raises(KoblerError, match="does not answer cacerts"):
        place.authority().certify(REQUEST, UNIT)


@contextlib.contextmanager
def speaking(place: Place, serve: Callable[[ssl.SSLSocket, bytes], None]) -> Iterator[EstAuthority]:
    """A server in place of the right one, which does this with each connection after a request has come."""
    channels: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    channel = place.server._context.wrap_socket(listening.accept()[0], server_side=True)
                    channels.append(channel)
                    serve(channel, channel.recv(65536))

        threading.Thread(target=work, daemon=True).start()
        url = f"https://localhost:{listening.getsockname()[1]}/.well-known/est"
        yield EstAuthority(Access(url, place.roots, SECRET), place.state / "est", print)
    for channel in channels:
        channel.close()


def test_the_body_of_not_yet_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(est_http, "_SECONDS", 5.0)

    def serve(channel: ssl.SSLSocket, request: bytes) -> None:
        found = answer(certs_only(place.server.root.certificate)).body
        if request.startswith(b"GET"):
            channel.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(found), found))
        else:  # no length, and it stays open
            channel.sendall(b"HTTP/1.1 202 Accepted\r\nRetry-After: 77\r\n\r\n")

    with speaking(place, serve) as authority:
        start = time.monotonic()
        with pytest.raises(KoblerError, match="wants 77 s"):
            authority.certify(REQUEST, UNIT)
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("secured", [True, False], ids=["answer", "handshake"])
def test_a_server_that_never_ends_is_left(place: Place, monkeypatch: pytest.MonkeyPatch, secured: bool) -> None:
    monkeypatch.setattr(est_http, "_IN_ALL", 0.7)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            channel, _ = listening.accept()
            with contextlib.suppress(OSError), channel:
                if secured:
                    channel = place.server._context.wrap_socket(channel, server_side=True)
                for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\nX: " if secured else b"\x16\x03\x03\x40\x00"):
                    if stop.wait(0.1):
                        break
                    channel.send(bytes((byte,)))

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        url = f"https://localhost:{listening.getsockname()[1]}/.well-known/est"
        with pytest.raises(KoblerError, match=r"does not answer cacerts: not done after 1 s$"):
            EstAuthority(Access(url, place.roots), place.state / "est", print).certify(REQUEST, UNIT)
        stop.set()
        thread.join(5)
