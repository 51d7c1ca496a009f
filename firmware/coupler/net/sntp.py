# SNTP (RFC 4330/5905 client): one datagram each way. Our transmit time stamp is a random cookie, since only its echo
# is used: it tells a true answer from a forged or late one and gives nothing away.
import struct

from coupler.const import const
from coupler.net.errors import NetError

_PORT = const(123)
_TIMEOUT_MS = const(2000)
_MAX_RTT_MS = const(1500)
_TO_UNIX = const(2208988800)
_ERA = const(4294967296)
_FLOOR = const(1735689600)  # 2025-01-01: older than this firmware, so wrong


class SntpError(Exception):
    """The answer cannot be used; says why."""


def request(cookie):
    """The 48 bytes of a client request; cookie: 8 random bytes."""
    return b"\x23" + bytes(39) + cookie


def parse(data, cookie, rtt_ms):
    """Unix ms at the moment the answer arrived, half the wire's way added. SntpError when it is not to be believed."""
    if len(data) < 48 or data[24:32] != cookie:
        raise SntpError("not an answer to this request")
    if data[0] & 7 != 4:
        raise SntpError("not a server's answer")
    if data[1] == 0:
        raise SntpError("refused: %s" % "".join(chr(c) for c in data[12:16] if 32 < c < 127))
    if data[0] >> 6 == 3 or data[1] > 15:
        raise SntpError("its clock is not set")
    if rtt_ms > _MAX_RTT_MS:
        raise SntpError("the way took %d ms" % rtt_ms)
    received = _unix_ms(data, 32)
    sent = _unix_ms(data, 40)
    if sent < _FLOOR * 1000:
        raise SntpError("its time lies before 2025")
    inside = sent - received
    if not 0 <= inside <= rtt_ms + 1000:
        raise SntpError("its time stamps contradict each other")
    return sent + max(0, rtt_ms - inside) // 2


def _unix_ms(data, at):
    seconds, fraction = struct.unpack(">II", data[at : at + 8])
    if seconds < _ERA // 2:  # the era that begins in 2036
        seconds += _ERA
    return (seconds - _TO_UNIX) * 1000 + fraction * 1000 // _ERA


async def query(hal, servers):
    """Ask one server after another. Returns (Unix ms now, server, round trip in ms); NetError if none is good."""
    from coupler.net.resolve import resolve, split

    why = "no time server is configured"
    for server in servers:
        try:
            host, port = split(server, _PORT)
            for ip in (await resolve(hal, host))[:4]:
                try:
                    now, rtt = await _ask(hal, ip, port)
                    return now, server, rtt
                except (OSError, SntpError) as e:
                    why = "%s (%s): %s" % (server, ip, e)
        except NetError as e:
            why = str(e)
    raise NetError("timeout", why)


async def _ask(hal, ip, port):
    cookie = hal.urandom(8)
    packet = request(cookie)
    sock = hal.net.udp(ip, port)
    try:
        start = hal.ticks_ms()
        sock.send(packet)
        while True:
            left = _TIMEOUT_MS - hal.ticks_diff(hal.ticks_ms(), start)
            data = await sock.recv(left) if left > 0 else None
            if data is None:
                raise SntpError("no answer in %d ms" % _TIMEOUT_MS)
            if data[24:32] == cookie:
                rtt = hal.ticks_diff(hal.ticks_ms(), start)
                return parse(data, cookie, rtt), rtt
    finally:
        sock.close()
