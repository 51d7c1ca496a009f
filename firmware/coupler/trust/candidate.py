# The next identity, beside the one in use: its key alone while the certificate is on its way, then key, certificate
# and authorities, until a connection with them has worked. One file, which a power cut leaves as it was or replaces as
# a whole. Damaged, it counts as none: the one in use is not touched before `adopt`.
import hashlib
import struct

from coupler.trust import switch

_DIGEST = 32


def load(hal):
    """[key, certificate, authorities] as DER, without a certificate while it is awaited; None."""
    data = hal.read_file(switch.NEXT)
    if data is None:
        return None
    packed = data[_DIGEST:]
    if hashlib.sha256(packed).digest() != data[:_DIGEST]:
        hal.remove(switch.NEXT)
        return None
    parts = []
    while packed:
        end = 2 + struct.unpack_from("<H", packed)[0]
        parts.append(packed[2:end])
        packed = packed[end:]
    return parts


def save(hal, key, certificate=b"", authorities=b""):
    """Durable when it returns."""
    packed = b"".join([struct.pack("<H", len(part)) + part for part in (key, certificate, authorities)])
    hal.write_file(switch.NEXT, hashlib.sha256(packed).digest() + packed)


def wait(hal, key, until):
    """The request with this key is not to be repeated before `until`, Unix seconds; durable when it returns."""
    save(hal, key, b"", struct.pack("<I", until))


def until(parts):
    """As told to wait(), else 0."""
    return struct.unpack("<I", parts[2])[0] if parts[2] and not parts[1] else 0


def drop(hal):
    hal.remove(switch.NEXT)


def adopt(hal, parts):
    """It is the unit's identity from now on; OSError when the flash did not take it, and the old one stays."""
    for target, data in zip(switch.IDENTITY, parts):
        hal.write_file(switch.STAGED[target], data)
        if hal.read_file(switch.STAGED[target]) != data:
            raise OSError("the flash does not keep %s" % target)
    switch.begin(hal, switch.IDENTITY + (switch.NEXT,))
    lost = switch.finish(hal)
    if lost and lost != ["vault"]:  # without its second place it serves all the same, and the next boot says why
        raise OSError("the flash lost %s" % ", ".join(lost))
