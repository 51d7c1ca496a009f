# How a unit comes by its identity: it makes a key, asks for a certificate, is handed it, and switches. The
# private key never leaves the unit, and no message contains it.
#
# Or it is handed what it takes to fetch a certificate itself, by EST (renewal.py), the "bootstrap": a line with
# user:password for the first request, empty where the certificate that the unit has is to do; behind it the authorities
# that the server is verified by, DER. It is gone when the certificate is there; until then the unit stays who it is.
import binascii
import json

from coupler.store.layout import open_flash
from coupler.store.settings import Settings
from coupler.trust import anchors, csr, p256, switch, vault, x509
from coupler.trust.switch import recover

_NAMES = {"cert": switch.CERT, "ca": switch.CA, "config": switch.CONFIG, "bootstrap": switch.BOOTSTRAP}


class EnrolError(ValueError):
    pass


def unit_id(hal):
    return binascii.hexlify(hal.unique_id()).decode()


def begin(hal, organization=None):
    """Make a new key, stage it, and answer the certificate request for it (DER)."""
    recover(hal)
    private = p256.generate()
    hal.write_file(switch.STAGED[switch.KEY], csr.write_key(private))
    return csr.request(private, unit_id(hal), organization)


def stage(hal, name, data, sha256):
    """Stage "cert", "ca", "config" or "bootstrap" as it arrived; `sha256`, in hex, is of what was sent.

    "cert": the unit's certificate, and behind it, in any order, those between it and its authority (DER)."""
    if switch.digest(data) != sha256:
        raise EnrolError("%s arrived damaged" % name)
    hal.write_file(switch.STAGED[_NAMES[name]], data)


def commit(hal, runs=None):
    """Check what is staged with what stays, switch, answer status(hal). EnrolError: all is as it was.

    runs(hal, configuration as bytes) raises ValueError for what this firmware cannot run.
    """
    if not switch.pending(hal):
        staged = _check(hal, runs)
        if staged != [switch.CONFIG]:
            # Who is at the cable decides, not what was under way.
            staged += [target for target in (switch.NEXT, switch.BOOTSTRAP) if target not in staged]
        switch.begin(hal, staged)
    lost = switch.finish(hal)
    if lost:
        raise EnrolError("the flash lost %s: provision again" % ", ".join(lost))
    flash, regions = open_flash(hal)
    try:
        Settings(flash, *regions["settings"]).set("cloud", None)  # who is at the cable says anew what is wanted
    except OSError as error:
        raise EnrolError("the flash does not keep settings (%s): provision again" % error)
    return status(hal)


def status(hal):
    """A dict: id, fingerprint (SHA-256 of the certificate), not_after, chain: how many that lead to its authority it
    shows besides, rev of the configuration, est: whether it still has a certificate to fetch."""
    cert = hal.read_file(switch.CERT)
    answer = {"id": unit_id(hal), "fingerprint": switch.digest(cert), "not_after": None, "chain": 0, "rev": None}
    answer["est"] = hal.read_file(switch.BOOTSTRAP) is not None
    try:
        if cert:
            shown = x509.split(cert)
            answer["fingerprint"] = switch.digest(shown[0])
            answer["chain"] = len(shown) - 1
            answer["not_after"] = x509.Certificate(shown[0]).not_after
        answer["rev"] = json.loads(hal.read_file(switch.CONFIG) or b"{}").get("rev")
    except ValueError as error:
        answer["damaged"] = str(error)
    return answer


def _check(hal, runs):
    # -> the targets to replace, after the set that will result was found sound
    found = {}
    staged = []
    for target, path in switch.STAGED.items():
        data = hal.read_file(path)
        if data is not None:
            staged.append(target)
        found[target] = hal.read_file(target) if data is None else data
    if not staged:
        raise EnrolError("nothing is staged")
    if any([target in switch.IDENTITY for target in staged]):
        shown = _check_identity(hal, found[switch.KEY], found[switch.CERT], found[switch.CA])
        if shown != found[switch.CERT]:
            path = switch.STAGED[switch.CERT]
            hal.write_file(path, shown)
            if hal.read_file(path) != shown:
                raise EnrolError("the flash does not keep the certificate")
            if switch.CERT not in staged:
                staged.append(switch.CERT)
    if switch.CONFIG in staged:
        _check_config(hal, found[switch.CONFIG], runs)
    if switch.BOOTSTRAP in staged:
        _check_bootstrap(found)
    return staged


def _parse(name, parser, data):
    if not data:
        raise EnrolError("no %s" % name)
    try:
        return parser(data)
    except ValueError as error:
        raise EnrolError("%s: %s" % (name, error))


def _check_identity(hal, key, cert, ca):
    # -> what it is to show as its own
    private = _parse("key", csr.read_key, key)
    first, *others = _parse("certificate", x509.split, cert)
    own = _parse("certificate", x509.Certificate, first)
    between = [_parse("intermediate certificate", x509.Certificate, one) for one in others]
    cas = _parse("CA certificate", anchors.read, ca)
    public = p256.public_key(private)
    now = hal.now_ms()  # None: TLS judges validity once the time is known
    try:
        return anchors.check_own(own, key, public, between, cas, now and now // 1000, unit_id(hal))[0]
    except ValueError as error:
        raise EnrolError(str(error))


def _check_bootstrap(found):
    secret, end, authorities = found[switch.BOOTSTRAP].partition(b"\n")
    if not end or secret and (b":" not in secret or min(secret) < 32 or max(secret) > 126):
        raise EnrolError("the bootstrap does not begin with a line user:password, or an empty one")
    _parse("bootstrap's CA certificate", anchors.read, authorities)
    if not secret and not found[switch.CERT]:
        raise EnrolError("the bootstrap has no secret, and the unit no certificate to show instead")
    most = vault.room(None)
    if len(authorities) > most:
        raise EnrolError("the bootstrap's CA certificates have %d bytes, at most %d" % (len(authorities), most))
    if "est" not in json.loads(found[switch.CONFIG] or b"{}"):
        raise EnrolError("the configuration names no EST server: [est] url")


def _check_config(hal, data, runs):
    try:
        config = json.loads(data)
    except ValueError:
        raise EnrolError("configuration is not JSON")
    if not isinstance(config, dict) or config.get("v") != 1:
        raise EnrolError("configuration is of a version that this firmware does not know")
    if runs:
        try:
            runs(hal, data)
        except ValueError as error:
            raise EnrolError("configuration: %s" % error)
