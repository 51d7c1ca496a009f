# The same sockets on CPython, on whatever asyncio loop runs. TLS goes through memory BIOs, so that the handshake is a
# step of its own under a deadline, as on the unit, and any loop will do.
import asyncio
import errno
import os
import socket
import ssl
import tempfile
import time

from coupler.hal.base import certificates
from coupler.net.errors import NetError

_MAX_RECORD = 16384


async def _within(aw, timeout_ms, what):
    try:
        return await asyncio.wait_for(aw, timeout_ms / 1000)
    except asyncio.TimeoutError:
        raise NetError("timeout", "%s: no answer in %d ms" % (what, timeout_ms)) from None


def _socket(ip, kind):
    return socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind)


async def tcp(ip, port, timeout_ms):
    """A connected Stream; NetError tcp or timeout."""
    where = ("[%s]:%d" if ":" in ip else "%s:%d") % (ip, port)
    s = _socket(ip, socket.SOCK_STREAM)
    try:
        s.setblocking(False)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await _within(asyncio.get_running_loop().sock_connect(s, (ip, port)), timeout_ms, where)
    except OSError as e:
        s.close()
        raise NetError("tcp", "%s: %s" % (where, errno.errorcode.get(e.errno or 0, e))) from e
    except BaseException:
        s.close()
        raise
    return Stream(s, where)


def listen(ip, port, backlog):
    """A Listener; OSError when the port is taken."""
    s = socket.socket()
    try:
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((ip, port))
        s.listen(backlog)
    except OSError:
        s.close()
        raise
    return Listener(s)


class Listener:
    def __init__(self, s):
        self._s = s

    async def accept(self):
        """(Stream, the peer's address) of the next client."""
        s, address = await asyncio.get_running_loop().sock_accept(self._s)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Stream(s, address[0]), address[0]

    def close(self):
        self._s.close()


class Stream:
    def __init__(self, s, where):
        self._s = s
        self.where = where

    async def readinto(self, buf):
        """Waits for at least one byte; 0 when the peer closed."""
        await asyncio.sleep(
            0
        )  # bytes that are there already would not let other tasks run: a flood must not stop the loop
        return await asyncio.get_running_loop().sock_recv_into(self._s, buf)

    async def write(self, data):
        await asyncio.get_running_loop().sock_sendall(self._s, data)

    def close(self):
        self._s.close()


def _load_chain(ctx, cert_der, key_der):
    # OpenSSL reads keys from files only: one that nobody else can read, gone at once.
    key = ssl.DER_cert_to_PEM_cert(key_der).replace(" CERTIFICATE", " EC PRIVATE KEY")
    handle, path = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w") as f:
            f.write("".join(map(ssl.DER_cert_to_PEM_cert, certificates(cert_der))) + key)
        ctx.load_cert_chain(path)
    finally:
        os.unlink(path)


def tls(stream, server_name, ca_der, cert_der, key_der):
    """TLS over `stream`; nothing is sent before handshake(). NetError("tls").

    ca_der: one authority's certificate, or several behind one another; cert_der: our own, those that lead to its
    authority behind it. cert_der and key_der may be None."""
    what = "CA certificate"
    try:
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # As mbedTLS in MicroPython: in TLS 1.3 a refused client would learn it only after the handshake.
        ctx.minimum_version = ctx.maximum_version = ssl.TLSVersion.TLSv1_2
        ctx.load_verify_locations(cadata=ca_der)
        if cert_der is not None:
            what = "client certificate"
            _load_chain(ctx, cert_der, key_der)
        what = "TLS"
        return TlsStream(ctx, stream, server_name)
    except (ValueError, OSError, TypeError) as e:
        raise NetError("tls", "%s: %s" % (what, e)) from e


_CAUSES = {9: "future", 10: "expired", 18: "signed by", 19: "signed by", 20: "signed by", 21: "signed by"}
_CAUSES |= {62: "Common Name", 64: "Common Name"}  # by OpenSSL's numbers of what X509_verify_cert() finds


def _refused(e, where, known):
    # The handshake failed.
    from coupler.net.tls_faults import fault

    cause, detail = "closed", ""
    if isinstance(e, ssl.SSLCertVerificationError):
        cause, detail = _CAUSES.get(e.verify_code, "certificate"), e.verify_message
    elif isinstance(e, ssl.SSLError) and not isinstance(e, (ssl.SSLZeroReturnError, ssl.SSLEOFError)):
        cause, detail = "tls", e.reason or str(e)
        version, _, alert = detail.partition("_")
        if version in ("SSLV3", "TLSV1", "TLSV13"):
            cause, detail = "refused", alert.replace("ALERT_", "").replace("_", " ").lower()
    return fault(where, cause, known, detail, time.gmtime())


def _broken(e, where):
    if isinstance(e, (ssl.SSLZeroReturnError, ssl.SSLEOFError)):
        return NetError("closed", "%s closed the connection" % where)
    if isinstance(e, ssl.SSLError):
        return NetError("tls", "%s: %s" % (where, e.reason or e))
    return NetError("closed", "%s: %s" % (where, e.strerror or e))


class TlsStream:
    def __init__(self, ctx, stream, server_name):
        self.where = "%s (%s)" % (server_name, stream.where)
        self._below = stream
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = ctx.wrap_bio(self._in, self._out, server_hostname=server_name)
        self._buf = bytearray(_MAX_RECORD)
        self._flights = 0  # written; the second one of the handshake carries our certificate

    async def _flush(self):
        if self._out.pending:
            self._flights += 1
            await self._below.write(self._out.read())

    async def _pull(self):
        n = await self._below.readinto(self._buf)
        if n:
            self._in.write(memoryview(self._buf)[:n])
        else:
            self._in.write_eof()

    stalled = 0  # not worth a measurement here

    async def handshake(self, timeout_ms, first, bus=None):
        """Also writes `first`, see micropython_net. The bus is not waited for: the arithmetic takes a millisecond.

        NetError: tls-clock, tls-authority, tls-name, tls-refused, tls, closed, timeout."""
        try:
            await _within(self._shake(first), timeout_ms, self.where + ": TLS")
        except OSError as e:
            raise _refused(e, self.where, self._flights > 1) from e

    async def _shake(self, first):
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._pull()
            except ssl.SSLError:
                await self._flush()  # the alert that tells the peer why
                raise
            else:
                self._tls.write(first)
                return await self._flush()

    async def readinto(self, buf):
        try:
            while True:
                try:
                    return self._tls.read(len(buf), buf)
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._pull()
        except ssl.SSLZeroReturnError:
            return 0
        except OSError as e:
            raise _broken(e, self.where) from e

    async def write(self, data):
        try:
            self._tls.write(data)
            await self._flush()
        except OSError as e:
            raise _broken(e, self.where) from e

    def close(self):
        self._below.close()


def udp(ip, port):
    """A datagram socket tied to one peer: packets from others are not received."""
    s = _socket(ip, socket.SOCK_DGRAM)
    try:
        s.setblocking(False)
        s.connect((ip, port))
    except OSError:
        s.close()
        raise
    return Udp(s)


class Udp:
    def __init__(self, s):
        self._s = s

    def send(self, data):
        self._s.send(data)

    async def recv(self, timeout_ms):
        """One datagram, or None when the time is over."""
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._s, 1024), timeout_ms / 1000)
        except asyncio.TimeoutError:
            return None

    def close(self):
        self._s.close()
