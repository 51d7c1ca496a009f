# Names to addresses without getaddrinfo, which stops the whole loop on MicroPython for as long as the server is
# silent. Nothing is kept: whoever connects again asks again.
from coupler.net.errors import NetError


def is_ip(text):
    """Whether it is an IP address: IPv4 in dotted form, or IPv6."""
    if ":" in text:
        digits = text.replace(":", "")
        return ("::" in text or text.count(":") == 7) and not digits.strip("0123456789abcdefABCDEF")
    parts = text.split(".")
    if len(parts) != 4:
        return False
    for part in parts:
        if not part.isdigit() or len(part) > 3 or int(part) > 255:
            return False
    return True


def split(server, port):
    """`host[:port]` -> (host, port); an IPv6 address with a port is in brackets."""
    if is_ip(server):
        return server, port
    host, colon, given = server.rpartition(":")
    if server.endswith("]") or not colon:
        host = server
    elif not given.isdigit() or not 0 < int(given) < 65536 or ":" in host and host[0] != "[":
        raise NetError("dns", "%s: not a port" % server)
    else:
        port = int(given)
    return host.strip("[]"), port


async def resolve(hal, name):
    """At most 8 addresses of `name`, IPv6 and IPv4 in turn, asked of the interface's DNS servers (ip[:port]) within
    12 s. IPv6 is asked for where the interface has such an address itself. NetError("dns")."""
    if is_ip(name):
        return [name]
    low = name.lower()
    if low.endswith("."):
        low = low[:-1]
    if low == "localhost" or low.endswith(".localhost"):  # RFC 6761, 6.3: never asked of a server
        return ["127.0.0.1"]
    from coupler.net.lookup import lookup

    try:
        return await lookup(hal, low, split)
    finally:
        hal.forget("coupler.net.dns", "coupler.net.lookup")
