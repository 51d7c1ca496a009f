# Sockets on MicroPython: never blocking, every wait in asyncio's own IO queue, so nothing polls and nothing stalls
# the bus. settimeout() is not used at all: it breaks TLS sockets for good, and getaddrinfo() is only given literals,
# which it parses.
import asyncio
import errno
import gc
import select
import socket
import time

import tls as _tls

from coupler.const import const
from coupler.hal.base import certificates
from coupler.net.errors import NetError

_IPPROTO_TCP = const(6)
_TCP_NODELAY = const(1)
_MAX_DATAGRAM = const(1024)

_EOF = const(-0x7280)  # MBEDTLS_ERR_SSL_CONN_EOF
_ALERT = const(-0x7780)  # MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE: the peer refused us
_NOT_VERIFIED = const(-0x2700)  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED

# Waiting as asyncio.Stream does, which would copy what it cannot write at once. Looked up each time: a new event loop
# has a new queue.


def _readable(s):
    yield asyncio.core._io_queue.queue_read(s)  # pyright: ignore


def _writable(s):
    yield asyncio.core._io_queue.queue_write(s)  # pyright: ignore


def _text(e):
    code = e.errno if isinstance(e, OSError) else None
    name = getattr(errno, "errorcode", {}).get(code)
    return name or str(e) or repr(e)


async def _within(aw, timeout_ms, what):
    try:
        return await asyncio.wait_for_ms(aw, timeout_ms)
    except asyncio.TimeoutError:
        raise NetError("timeout", "%s: no answer in %d ms" % (what, timeout_ms))


def _address(ip, port):
    # The chip has none ready for IPv6, but takes the tuple.
    return socket.getaddrinfo(ip, port)[0][-1] or (ip, port)


def _socket(ip, kind):
    return socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind)


def _ip(address):
    # On the chip a tuple; the unix port gives the packed sockaddr.
    return address[0] if isinstance(address, tuple) else "%d.%d.%d.%d" % tuple(address[4:8])


async def tcp(ip, port, timeout_ms):
    """A connected Stream; NetError tcp or timeout."""
    where = ("[%s]:%d" if ":" in ip else "%s:%d") % (ip, port)
    s = _socket(ip, socket.SOCK_STREAM)
    try:
        s.setblocking(False)
        s.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        address = _address(ip, port)
        try:
            s.connect(address)
        except OSError as e:
            if e.errno != errno.EINPROGRESS:
                raise
            await _within(_writable(s), timeout_ms, where)
            # Failed connections become writable too; only the poll flags tell. The second connect() fetches the
            # reason.
            poller = select.poll()
            poller.register(s, select.POLLOUT | select.POLLHUP)
            for _, flags in poller.poll(0):
                if flags & (select.POLLERR | select.POLLHUP):
                    s.connect(address)
                    raise OSError(errno.ECONNREFUSED)
    except OSError as e:
        s.close()
        raise NetError("tcp", "%s: %s" % (where, _text(e)))
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
        s.bind(_address(ip, port))
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
        while True:
            await _readable(self._s)  # pyright: ignore[reportGeneralTypeIssues]
            try:
                s, address = self._s.accept()
            except OSError as e:
                if e.errno == errno.EAGAIN or e.errno == errno.ECONNABORTED:
                    continue
                raise
            try:
                s.setblocking(False)
                s.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
            except OSError:  # lwIP: it was reset meanwhile, which must not end the server
                s.close()
                continue
            ip = _ip(address)
            return Stream(s, ip), ip

    def close(self):
        self._s.close()


class Stream:
    def __init__(self, s, where):
        self._s = s
        self.where = where

    async def readinto(self, buf):
        """Waits for at least one byte; 0 when the peer closed."""
        while True:
            await _readable(self._s)  # pyright: ignore[reportGeneralTypeIssues]
            n = self._s.readinto(buf)
            if n is not None:
                return n

    async def write(self, data):
        n = self._s.write(data) or 0
        if n == len(data):
            return
        data = memoryview(data)
        while True:
            data = data[n:]
            if not data:
                return
            await _writable(self._s)  # pyright: ignore[reportGeneralTypeIssues]
            n = self._s.write(data) or 0

    def close(self):
        self._s.close()


def tls(stream, server_name, ca_der, cert_der, key_der):
    """TLS over `stream`; nothing is sent before handshake(). NetError("tls").

    ca_der: one authority's certificate, or several behind one another; cert_der: our own, those that lead to its
    authority behind it. cert_der and key_der may be None."""
    gc.collect()  # the record buffers are the largest pieces this firmware ever asks for
    what = "CA certificate"
    try:
        ctx = _tls.SSLContext(_tls.PROTOCOL_TLS_CLIENT)
        ctx.verify_mode = _tls.CERT_REQUIRED  # pyright: ignore[reportAttributeAccessIssue]
        # mbedTLS takes one at a time and nothing behind it: each call adds one.
        for certificate in certificates(ca_der):
            ctx.load_verify_locations(certificate)
        if cert_der is not None:
            what = "client certificate"
            for certificate in certificates(cert_der):  # the first is whose key it is
                ctx.load_cert_chain(certificate, key_der)
        what = "TLS"
        found = TlsStream(stream, server_name)
        ctx.verify_callback = found._seen  # pyright: ignore[reportAttributeAccessIssue]
        found._s = ctx.wrap_socket(stream._s, server_hostname=server_name, do_handshake_on_connect=False)
        return found
    except (ValueError, OSError, TypeError) as e:
        raise NetError("tls", "%s: %s" % (what, _text(e)))


def _refused(e, where, known):
    # The handshake failed. mbedTLS tells in words only, as ValueError, why it did not accept a certificate; an alert's
    # number it keeps for itself.
    from coupler.net.tls_faults import fault

    cause = "tls"
    detail = str(e).strip().replace("\n", "; ")
    if isinstance(e, ValueError) or e.errno == _NOT_VERIFIED:
        cause = "certificate"
        for word in ("signed by", "expired", "future", "Common Name"):
            if word in detail:
                cause = word
                break
    elif e.errno == _ALERT:
        cause = "refused"
        detail = ""
    elif e.errno == _EOF or e.errno is None or e.errno > 0:
        cause = "closed"
        detail = ""
    return fault(where, cause, known, detail, time.gmtime())


def _broken(e, where):
    if isinstance(e, ValueError) or e.errno is not None and e.errno < 0 and e.errno != _EOF:
        return NetError("tls", "%s: %s" % (where, e))
    return NetError("closed", "%s: %s" % (where, "the peer closed the connection" if e.errno == _EOF else _text(e)))


class TlsStream(Stream):
    _cut = False
    stalled = 0

    def __init__(self, stream, server_name):
        super().__init__(None, "%s (%s)" % (server_name, stream.where))
        self._below = stream
        self._known = False

    def _seen(self, _certificate, _depth):
        self._known = True
        return 0  # what mbedTLS found stands

    async def handshake(self, timeout_ms, first, bus=None):
        """Also writes `first`: nothing else tells that the handshake is over (cipher() crashes before it is).

        Its arithmetic stops everything, on a chip for a second: with a bus, whose turn() is awaited before and done()
        called after, no frame is on the wire then. stalled: the longest such stop, ms.
        NetError: tls-clock, tls-authority, tls-name, tls-refused, tls, closed, timeout."""
        try:
            await _within(self._shake(first, bus), timeout_ms, self.where + ": TLS")
        except (ValueError, OSError) as e:
            raise _refused(e, self.where, self._known)

    async def _shake(self, data, bus):
        while data:
            if bus:
                await bus.turn()
            began = time.ticks_ms()
            try:
                n = self._s.write(data) or 0
            finally:
                if bus:
                    bus.done()
                self.stalled = max(self.stalled, time.ticks_diff(time.ticks_ms(), began))
            data = memoryview(data)[n:]
            if data:
                await _writable(self._s)  # pyright: ignore[reportGeneralTypeIssues]

    async def readinto(self, buf):
        try:
            n = self._s.readinto(buf)
            if n is not None:
                await asyncio.sleep_ms(0)  # a flood must not stop the loop
            while n is None:
                # mbedTLS holds nothing, so what it waits for comes by the socket: that wakes at once, where a TLS
                # object is asked every millisecond.
                await _readable(self._below._s)  # pyright: ignore[reportGeneralTypeIssues]
                n = self._s.readinto(buf)
            return n
        except (ValueError, OSError) as e:
            raise _broken(e, self.where)

    async def write(self, data):
        # mbedTLS takes what is given next for the rest of a record that was cut short: it would be lost unseen.
        if self._cut:
            raise NetError("closed", "%s: a write was cut short" % self.where)
        self._cut = True
        try:
            await super().write(data)
        except (ValueError, OSError) as e:
            raise _broken(e, self.where)
        self._cut = False

    def close(self):
        self._s.close()
        self._below.close()


def udp(ip, port):
    """A datagram socket tied to one peer: packets from others are not received."""
    s = _socket(ip, socket.SOCK_DGRAM)
    try:
        s.setblocking(False)
        s.connect(_address(ip, port))
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
            await asyncio.wait_for_ms(_readable(self._s), timeout_ms)
        except asyncio.TimeoutError:
            return None
        try:
            return self._s.recv(_MAX_DATAGRAM)
        except OSError as e:
            if e.errno == errno.EAGAIN:
                return None
            raise

    def close(self):
        self._s.close()
