# The asking of a name: of which servers, for what, and how long. Loaded for a name that needs it, and forgotten.
from coupler.const import const
from coupler.net import dns
from coupler.net.errors import NetError

_PORT = const(53)
_ROUNDS = const(2)
_TIMEOUT_MS = const(2000)
_OTHER_MS = const(100)  # for the other family, once one has given addresses (RFC 8305, 3)
_MAX_SERVERS = const(3)
_MAX_ADDRESSES = const(8)


async def lookup(hal, name, split):
    """As resolve(), for a name in lower case that is no address. split: of resolve, which imports this."""
    info = hal.network_info() or {}
    servers = [s for s in info.get("dns") or () if s and s != "0.0.0.0"][:_MAX_SERVERS]
    if not servers:
        raise NetError("dns", "%s: the network has no DNS server" % name)
    kinds = (dns.AAAA, dns.A) if info.get("ip6") else (dns.A,)
    why = ""
    for _ in range(_ROUNDS):
        for server in servers:
            try:
                return _in_turn(await _ask(hal, split(server, _PORT), name, kinds))
            except ValueError:
                raise NetError("dns", "%s: not a host name" % name)
            except dns.DnsError as e:
                why = "%s: %s said: %s" % (name, server, e)
                if e.final:
                    raise NetError("dns", why)
            except (OSError, NetError) as e:
                why = "%s: %s: %s" % (name, server, e)
    raise NetError("dns", why)


def _in_turn(families):
    found = []
    for i in range(_MAX_ADDRESSES):
        for family in families:
            found += family[i : i + 1]
    return found[:_MAX_ADDRESSES]


async def _ask(hal, server, name, kinds):
    # The addresses of each kind. One kind without any is no error while the other has some.
    found = {}
    error = None
    asked = {kind: int.from_bytes(hal.urandom(2), "big") for kind in kinds}
    sock = hal.net.udp(*server)
    try:
        for kind in kinds:
            sock.send(dns.query(name, asked[kind], kind))
        end = hal.ticks_add(hal.ticks_ms(), _TIMEOUT_MS)
        while asked:
            left = hal.ticks_diff(end, hal.ticks_ms())
            data = await sock.recv(left) if left > 0 else None
            if data is None:
                break
            for kind, ident in list(asked.items()):
                if dns.is_answer(data, ident, name, kind):
                    del asked[kind]
                    try:
                        found[kind] = dns.answer(data)
                    except dns.DnsError as e:
                        if error is None or e.final:
                            error = e
                    if found.get(kind):
                        end = hal.ticks_add(hal.ticks_ms(), _OTHER_MS)
    finally:
        sock.close()
    if any(found.values()):
        return [found.get(kind, ()) for kind in kinds]
    if error:
        raise error
    if asked:
        raise NetError("timeout", "no answer in %d ms" % _TIMEOUT_MS)
    raise dns.DnsError("no address")
