# How a unit comes by its identity: it makes a key, asks for a certificate, is handed it, and switches. The
# private key never leaves the unit, and no message contains it.
import binascii
import json

from coupler.store.layout import open_flash
from coupler.store.settings import Settings
from coupler.trust import csr, p256, switch, vault, x509
from coupler.trust.switch import recover

_NAMES = {"cert": switch.CERT, "ca": switch.CA, "config": switch.CONFIG}


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
    """Stage "cert", "ca" or "config" as it arrived; `sha256`, in hex, is of what was sent."""
    if switch.digest(data) != sha256:
        raise EnrolError("%s arrived damaged" % name)
    hal.write_file(switch.STAGED[_NAMES[name]], data)


def commit(hal, runs=None):
    """Check what is staged with what stays, switch, answer status(hal). EnrolError: all is as it was.

    runs(hal, configuration as bytes) raises ValueError for what this firmware cannot run.
    """
    if not switch.pending(hal):
        switch.begin(hal, _check(hal, runs))
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
    """A dict: id, fingerprint (SHA-256 of the certificate), not_after, rev of the configuration."""
    cert = hal.read_file(switch.CERT)
    answer = {"id": unit_id(hal), "fingerprint": switch.digest(cert), "not_after": None, "rev": None}
    try:
        if cert:
            answer["not_after"] = x509.Certificate(cert).not_after
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
    if staged != [switch.CONFIG]:
        _check_identity(hal, found[switch.KEY], found[switch.CERT], found[switch.CA])
    if switch.CONFIG in staged:
        _check_config(hal, found[switch.CONFIG], runs)
    return staged


def _parse(name, parser, data):
    if not data:
        raise EnrolError("no %s" % name)
    try:
        return parser(data)
    except ValueError as error:
        raise EnrolError("%s: %s" % (name, error))


def _check_identity(hal, key, cert, ca):
    size = len(key or b"") + len(cert or b"") + len(ca or b"")
    private = _parse("key", csr.read_key, key)
    cert = _parse("certificate", x509.Certificate, cert)
    ca = _parse("CA certificate", x509.Certificate, ca)
    if cert.common_name() != unit_id(hal):
        raise EnrolError("certificate is for %r, but this unit is %s" % (cert.common_name(), unit_id(hal)))
    if cert.public_key != p256.public_key(private):
        raise EnrolError("certificate is not for this unit's key")
    if not cert.signed_by(ca):
        raise EnrolError("certificate is not signed by the CA")
    if size > vault.ROOM:
        raise EnrolError("key and certificates have %d bytes, at most %d" % (size, vault.ROOM))
    now = hal.now_ms()
    if now is None:
        return  # TLS judges validity once the time is known
    for name, one in (("certificate", cert), ("CA certificate", ca)):
        if now // 1000 < one.not_before:
            raise EnrolError("%s is not valid yet, or the unit's clock is slow" % name)
        if now // 1000 > one.not_after:
            raise EnrolError("%s has expired" % name)


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
