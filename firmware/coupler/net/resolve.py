# Names to addresses without getaddrinfo, which stops the whole loop on MicroPython for as long as the server is
# silent.
from coupler.const import const
from coupler.net.errors import NetError

_PORT = const(53)
_ROUNDS = const(2)
_TIMEOUT_MS = const(2000)
_MAX_SERVERS = const(3)


def is_ip(text):
    """Whether it is an IPv4 address in dotted form."""
    parts = text.split(".")
    if len(parts) != 4:
        return False
    for part in parts:
        if not part.isdigit() or len(part) > 3 or int(part) > 255:
            return False
    return True


def split(server, port):
    """`host[:port]` -> (host, port)."""
    host, _, given = server.partition(":")
    if given:
        if not given.isdigit() or not 0 < int(given) < 65536:
            raise NetError("dns", "%s: not a port" % server)
        port = int(given)
    return host, port


async def resolve(hal, name):
    """All addresses of `name`, asked of the interface's DNS servers (ip[:port]) within 12 s. NetError("dns")."""
    if is_ip(name):
        return [name]
    low = name.lower()
    if low.endswith("."):
        low = low[:-1]
    if low == "localhost" or low.endswith(".localhost"):  # RFC 6761, 6.3: never asked of a server
        return ["127.0.0.1"]
    servers = [s for s in hal.network_info().get("dns") or () if s and s != "0.0.0.0"][:_MAX_SERVERS]
    if not servers:
        raise NetError("dns", "%s: the network has no DNS server" % name)
    from coupler.net import dns

    why = ""
    for _ in range(_ROUNDS):
        for server in servers:
            try:
                return await _ask(hal, dns, server, low)
            except ValueError:
                raise NetError("dns", "%s: not a host name" % name)
            except dns.DnsError as e:
                why = "%s: %s said: %s" % (name, server, e)
                if e.final:
                    raise NetError("dns", why)
            except (OSError, NetError) as e:
                why = "%s: %s: %s" % (name, server, e)
    raise NetError("dns", why)


async def _ask(hal, dns, server, name):
    ident = int.from_bytes(hal.urandom(2), "big")
    packet = dns.query(name, ident)
    ip, port = split(server, _PORT)
    sock = hal.net.udp(ip, port)
    try:
        sock.send(packet)
        start = hal.ticks_ms()
        while True:
            left = _TIMEOUT_MS - hal.ticks_diff(hal.ticks_ms(), start)
            data = await sock.recv(left) if left > 0 else None
            if data is None:
                raise NetError("timeout", "no answer in %d ms" % _TIMEOUT_MS)
            if dns.is_answer(data, ident, name):
                return dns.answer(data)
    finally:
        sock.close()
