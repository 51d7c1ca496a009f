"""Each way in which TLS fails has words of its own, on the real MicroPython and on CPython, against a real server."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from uplink_peers import Server, settings, silence
from uplink_world import INTERPRETERS, UNIT_ID, Ca, Loop, unit

both = pytest.mark.parametrize("interpreter", INTERPRETERS)

# libc's clock, as many seconds off as KOBLER_OFF says: mbedTLS and OpenSSL have no other.
_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long off(void) { const char *text = getenv("KOBLER_OFF"); return text ? atol(text) : 0; }
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += off();
    return result;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


class Blocking:
    """A TLS server as most are: OpenSSL on a blocking socket, which sends its alert before it closes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return  # closed
            plain.settimeout(5)
            with contextlib.suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as secured:
                while secured.recv(4096):
                    pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    server = Blocking(context)
    try:
        yield server.port
    finally:
        server.close()


def fails(interpreter: str, files: Path, context: ssl.SSLContext, kind: str) -> str:
    given = settings()
    del given["heap"]
    with serving(context) as port, unit(interpreter, files, {"port": port}, **given) as one:
        return one.fails_with(kind)


# --- the server's certificate


@both
@pytest.mark.parametrize("own", [False, True], ids=["another authority", "signed by itself"])
def test_an_authority_that_is_not_known(ca: Ca, tmp_path: Path, interpreter: str, own: bool) -> None:
    other = Ca(tmp_path / "other", "localhost" if own else "Other CA")
    files = ca.unit(tmp_path / "unit", trusting=other)
    text = fails(interpreter, files, ca.context(), "tls-authority")
    assert text.endswith("its certificate is signed by no authority that this unit trusts")


@both
def test_another_name(ca: Ca, files: Path, interpreter: str) -> None:
    text = fails(interpreter, files, ca.context(ca.server("example.com")), "tls-name")
    assert text.endswith("its certificate is for another name")


@both
@pytest.mark.parametrize(("days", "words"), [((-5, -1), "has expired"), ((1, 5), "is not yet valid")])
def test_out_of_its_time(ca: Ca, files: Path, interpreter: str, days: tuple[int, int], words: str) -> None:
    text = fails(interpreter, files, ca.context(ca.server("localhost", days)), "tls-clock")
    today = [dt.datetime.now(dt.UTC).date() - dt.timedelta(days=n) for n in (0, 1)]
    assert any(text.endswith(f"its certificate {words}: this unit's clock says {day}") for day in today)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("without gcc there is no other clock")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(_CLOCK)
    made = folder / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(made), str(folder / "clock.c"), "-ldl"], check=True)
    return made


@both
@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("2000-01-01", "cannot be judged, for the clock is not set: this unit's clock says 2000-01-01"),
        ("2061-06-01", "has expired: this unit's clock says 2061-06-01"),
    ],
)
def test_a_clock_that_is_not_set_or_wrong_by_years(
    ca: Ca, files: Path, clock: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str, date: str, words: str
) -> None:
    at = dt.datetime.fromisoformat(date + "T00:30:00+00:00")
    monkeypatch.setenv("LD_PRELOAD", str(clock))
    monkeypatch.setenv("KOBLER_OFF", str(int((at - dt.datetime.now(dt.UTC)).total_seconds())))
    assert words in fails(interpreter, files, ca.context(), "tls-clock")


# --- the unit's certificate, and TLS itself


def revoking(ca: Ca, tmp_path: Path, files: Path) -> ssl.SSLContext:
    certificate = x509.load_der_x509_certificate((files / "cert.der").read_bytes())
    now = dt.datetime.now(dt.UTC)
    entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject).last_update(now)
    builder = builder.next_update(now + dt.timedelta(days=1)).add_revoked_certificate(entry)
    crl = tmp_path / "crl.pem"
    crl.write_bytes(builder.sign(ca._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ca.context()
    context.load_verify_locations(crl)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def short_lived(ca: Ca, tmp_path: Path) -> Path:
    files = ca.unit(tmp_path / "unit")
    certificate, key = ca.issue(UNIT_ID, (UNIT_ID,), (-5, -1))
    (files / "cert.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (files / "key.der").write_bytes(key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption()))
    return files


@both
@pytest.mark.parametrize("alert", ["certificate revoked", "certificate expired", "unknown ca"])
def test_a_server_that_refuses_the_unit_by_an_alert(
    ca: Ca, files: Path, tmp_path: Path, interpreter: str, alert: str
) -> None:
    context = ca.context()
    if alert == "certificate revoked":
        context = revoking(ca, tmp_path, files)
    elif alert == "certificate expired":
        files = short_lived(ca, tmp_path)
    else:
        files = Ca(tmp_path / "other", "Other CA").unit(tmp_path / "unit", trusting=ca)
    text = fails(interpreter, files, context, "tls-refused")
    assert "refused this unit's certificate (" in text and "): is it revoked, expired, or of an authority" in text
    # mbedTLS keeps the alert's number for itself, and is often still writing when the server hangs up.
    assert interpreter == "micropython" or f"({alert})" in text


@both
def test_a_server_that_refuses_the_unit_without_a_word(loop: Loop, ca: Ca, tmp_path: Path, interpreter: str) -> None:
    files = Ca(tmp_path / "other", "Other CA").unit(tmp_path / "unit", trusting=ca)
    server = Server(loop, silence, ca)
    given = settings()
    del given["heap"]
    try:
        with unit(interpreter, files, {"port": server.port}, **given) as one:
            assert "refused this unit's certificate (it closed the connection)" in one.fails_with("tls-refused")
    finally:
        server.close()


@both
def test_a_server_that_wants_another_version_or_knows_no_such_name(ca: Ca, files: Path, interpreter: str) -> None:
    newer, strange = ca.context(), ca.context()
    newer.minimum_version = ssl.TLSVersion.TLSv1_3
    strange.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME  # type: ignore[assignment]
    for context, alert in ((newer, "protocol version"), (strange, "unrecognized name")):
        how = alert if interpreter == "cpython" else "a TLS alert"
        text = fails(interpreter, files, context, "tls-refused")
        assert text.endswith(f" refused the handshake: {how}"), text
