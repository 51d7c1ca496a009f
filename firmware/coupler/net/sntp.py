# SNTP (RFC 4330/5905 client): one datagram each way. Our transmit time stamp is a random cookie, since only its echo
# is used: it tells a true answer from a forged or late one and gives nothing away.
#
# What time it can be is known in advance: not before hal.floor_ms, the last time this unit had, nor many years after
# it. An answer beyond that is doubtful, for the server is wrong, or one was before: a second server has to agree, or
# the only one has to say so for hours. docs/decisions/0022-floor-of-time.md
import struct

from coupler import RELEASED_MS
from coupler.const import const
from coupler.net.errors import NetError

_PORT = const(123)
_TIMEOUT_MS = const(2000)
_MAX_RTT_MS = const(1500)
_TO_UNIX = const(2208988800)
_ERA = const(4294967296)
_BACK_MS = const(3600000)  # so far ahead the unit's own clock may have run
_AHEAD_MS = const(315576000000)  # ten years
_AGREE_MS = const(10000)
_LASTING_MS = const(6 * 3600000)


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
    if sent < RELEASED_MS:
        raise SntpError("its time, %s, lies before this firmware's release" % date(sent))
    inside = sent - received
    if not 0 <= inside <= rtt_ms + 1000:
        raise SntpError("its time stamps contradict each other")
    return sent + max(0, rtt_ms - inside) // 2


def _unix_ms(data, at):
    seconds, fraction = struct.unpack(">II", data[at : at + 8])
    if seconds < _ERA // 2:  # the era that begins in 2036
        seconds += _ERA
    return (seconds - _TO_UNIX) * 1000 + fraction * 1000 // _ERA


def date(unix_ms):
    """Such as `2026-11-21 09:27`, UTC."""
    days, minutes = divmod(unix_ms // 60000, 1440)
    # From the 1st of March of year 0: eras of 400 years, in them years that end with February.
    era, day = divmod(days + 719468, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    early = month > 9
    year += 400 * era + early
    return "%04d-%02d-%02d %02d:%02d" % (year, month - 9 if early else month + 3, day + 1, minutes // 60, minutes % 60)


async def query(hal, servers):
    """Ask one server after another. Returns (Unix ms now, server, round trip in ms); NetError if none is good."""
    from coupler.net.resolve import resolve, split

    why = "no time server is configured"
    doubtful = []  # (Unix ms, ticks then, address, server, round trip)
    for server in servers:
        try:
            host, port = split(server, _PORT)
            for ip in (await resolve(hal, host))[:4]:
                try:
                    now, rtt = await _ask(hal, ip, port)
                except (OSError, SntpError) as e:
                    why = "%s (%s): %s" % (server, ip, e)
                    continue
                answer = (now, hal.ticks_ms(), (ip, port), server, rtt)
                likely = -_BACK_MS <= now - hal.floor_ms <= _AHEAD_MS
                if likely or any([other[2] != answer[2] and _agree(hal, answer, other) for other in doubtful]):
                    return _taken(hal, answer)
                doubtful.append(answer)
        except NetError as e:
            why = str(e)
    if not doubtful:
        raise NetError("timeout", why)
    return _alone(hal, doubtful)


def _alone(hal, doubtful):
    # No server confirmed another: the answer is taken once it is the only one and has been the same for long.
    answer = doubtful[-1]
    now, ticks, place, server, _ = answer
    if any([other[2] != place for other in doubtful]):
        hal.doubt = None
    elif not hal.doubt or not _agree(hal, answer, hal.doubt):
        hal.doubt = answer
    elif hal.ticks_diff(ticks, hal.doubt[1]) >= _LASTING_MS:
        return _taken(hal, answer)
    text = "%s (%s): says %s, but the last time known is %s: needs a second time server that agrees"
    raise NetError("timeout", text % (server, place[0], date(now), date(hal.floor_ms)))


def _agree(hal, one, other):
    return abs(one[0] - other[0] - hal.ticks_diff(one[1], other[1])) <= _AGREE_MS


def _taken(hal, answer):
    now, ticks, _, server, rtt = answer
    hal.doubt = None
    now += hal.ticks_diff(hal.ticks_ms(), ticks)
    if now < hal.floor_ms - _BACK_MS:
        hal.floor_ms = now  # it came from a clock that was wrong
    return now, server, rtt


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
