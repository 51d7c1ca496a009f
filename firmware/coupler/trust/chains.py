# Whether a certificate leads to an authority that is trusted (RFC 5280, 6): one that this unit takes for its own, or a
# new authority's. Authorities have keys on P-256, or RSA keys (rsa.py, loaded when there is one). A peer's chain in TLS
# is not judged here: mbedTLS does that.
import hashlib

from coupler.const import const
from coupler.trust import der, p256, x509

# The AlgorithmIdentifier of RSA with SHA-256, without tag and length: its NULL may be missing (RFC 4055, 5).
_RSA_SHA256 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
_NULL = b"\x05\x00"
_SIGNATURES = {
    b"\x2a\x86\x48\xce\x3d\x04\x01": "ECDSA and SHA-1",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02": "ECDSA and SHA-256",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x03": "ECDSA and SHA-384",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": "RSA and SHA-1",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a": "RSASSA-PSS",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": "RSA and SHA-256",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": "RSA and SHA-384",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": "RSA and SHA-512",
}
_PURPOSES = {
    x509.CLIENT: "clients of TLS (extendedKeyUsage clientAuth)",
    x509.SERVER: "servers in TLS (extendedKeyUsage serverAuth)",
}
_LONGEST = const(4)  # a chain's certificates without the anchor
_CHECKS = const(16)  # of signatures, for one chain
_AHEAD_S = const(300)  # that an authority's clock may be ahead, of those that issue from "now" on


class ChainError(ValueError):
    """The certificates were read, but are not good for what was asked."""


def check(leaf, others, anchors, now=None, purpose=None):
    """The chain from `leaf`, by way of `others` in any order, to one of `anchors`: those behind the leaf, each issued
    by the next, the anchor last. ChainError if there is none.

    now: Unix seconds; None while the time is not known: then validity is not judged. purpose: x509.CLIENT or SERVER,
    what the leaf's key is to do in TLS; None: its usages, and those its authorities issue for, are not judged.
    """
    if purpose and not leaf.allows(purpose):
        what = ", and its key usage has no digitalSignature" if leaf.serves(purpose) else ""
        raise ChainError("%s is not for %s%s" % (leaf, _PURPOSES[purpose], what))
    if now is not None:
        check_time(leaf, now)
    further = [one for one in others if one.issuer != one.subject]
    further += [one for one in others if one.issuer == one.subject]
    path = [leaf]
    reason = _climb(path, further, anchors, int(leaf.is_ca), now, purpose, [_CHECKS])
    if reason:
        raise reason
    # A root that is not trusted says no more than the certificate in which a trusted one vouches for the same key, and
    # OpenSSL ends at it: it stays out.
    found = path[-1:]
    for one in reversed(path[1:-1]):
        if one.subject != found[0].subject or one.key_info != found[0].key_info:
            found.insert(0, one)
    return found


def _climb(path, others, anchors, below, now, purpose, checks):
    # -> None if a chain leads from the path's end to an anchor, else why not; the path has grown by it, then.
    # below: authorities between its end and the leaf, for their path lengths; checks: how many are left. Authorities
    # that changed their key have two certificates of one name, so one that leads nowhere is not the end. None is tried
    # twice.
    if len(path) > _LONGEST:
        return ChainError("chain of more than %d certificates" % _LONGEST)
    one = path[-1]
    reason = None
    for trusted in (True, False):
        for issuer in anchors if trusted else others[:]:
            if issuer.subject != one.issuer or not trusted and (issuer is one or issuer not in others):
                continue
            try:
                _check_step(one, issuer, below, now, purpose, checks)
            except ChainError as error:
                reason = reason or error
                continue
            path.append(issuer)
            if trusted:
                return None
            others.remove(issuer)
            # self-issued ones do not count (RFC 5280, 6.1.4 (l))
            more = below + (issuer.subject != issuer.issuer)
            further = _climb(path, others, anchors, more, now, purpose, checks)
            if not further:
                return None
            path.pop()
            reason = further
    if reason:
        return reason
    if one.issuer == one.subject:
        return ChainError("the authority %r is not one that is trusted here" % one.common_name())
    return ChainError(
        "%s was issued by %r, which is not trusted here: unknown authority, or a chain cut off"
        % (one, x509.common_name(one.issuer))
    )


def _check_step(one, issuer, below, now, purpose, checks):
    checks[0] -= 1
    if checks[0] < 0:  # each takes a chip half a second, and who sends them chooses how many there are
        raise ChainError("chains of too many certificates of one name")
    check_signed_by(one, issuer)
    if issuer.path_length is not None and below > issuer.path_length:
        raise ChainError("%s may not have so many authorities below it" % issuer)
    # Of a root, too, as OpenSSL and Go have it, and so the brokers. mbedTLS looks at the leaf alone.
    if purpose and not issuer.serves(purpose):
        raise ChainError("%s is an authority, but not for %s" % (issuer, _PURPOSES[purpose]))
    if now is not None:
        check_time(issuer, now)


def issuer_of(one, among):
    """The first that signed it; None."""
    for issuer in among:
        try:
            check_signed_by(one, issuer)
            return issuer
        except ChainError:
            pass
    return None


def check_time(one, now):
    """ChainError unless it is valid at `now`, Unix seconds, or in five minutes."""
    if now < one.not_before - _AHEAD_S:
        raise ChainError("%s is not valid yet, or the unit's clock is slow" % one)
    if now > one.not_after:
        raise ChainError("%s has expired" % one)


def check_signed_by(one, issuer):
    """ChainError unless `issuer`, which may issue certificates, signed this one."""
    if one.issuer != issuer.subject:
        raise ChainError("%s was issued by %r, not by %s" % (one, x509.common_name(one.issuer), issuer))
    if not issuer.issues():
        raise ChainError("%s may not issue certificates" % issuer)
    if one.algorithm == der.ECDSA_SHA256:
        good = _signed_by_p256(one, issuer)
    elif one.algorithm in (_RSA_SHA256 + _NULL, _RSA_SHA256):
        good = _signed_by_rsa(one, issuer)
    else:
        raise ChainError(
            "%s is signed with %s, not with SHA-256 and ECDSA or RSA (PKCS #1 v1.5)" % (one, signature_name(one))
        )
    if not good:
        raise ChainError("%s is not signed by the key of %s" % (one, issuer))


def _signed_by_p256(one, issuer):
    if issuer.public_key is None:
        raise _other_key(one, issuer, "one on P-256")
    signature = der.Reader(one.signature)
    try:
        r, s = signature.signature()
        signature.finish()
    except der.DerError as error:
        raise ChainError("%s: signature: %s" % (one, error))
    return p256.verify(issuer.public_key, hashlib.sha256(one.signed).digest(), r, s)


def _signed_by_rsa(one, issuer):
    key = issuer.rsa_key()
    if key is None:
        raise _other_key(one, issuer, "an RSA key")
    from coupler.trust import rsa

    try:
        return rsa.verify(key[0], key[1], hashlib.sha256(one.signed).digest(), one.signature)
    except ValueError as error:
        raise ChainError("%s has %s: %s" % (issuer, key_name(issuer), error))


def _other_key(one, issuer, wanted):
    return ChainError(
        "%s is signed with %s, but %s has %s, not %s" % (one, signature_name(one), issuer, key_name(issuer), wanted)
    )


def signature_name(one):
    """What it is signed with, for people."""
    oid = der.Reader(one.algorithm).read(der.OID)
    return _SIGNATURES.get(oid) or der.dotted(oid)


def key_name(one):
    """What kind of key it has, for people."""
    if one.public_key:
        return "a key on P-256"
    key = one.rsa_key()
    if key:
        size = 0
        while key[0] >> size:
            size += 8
        while size and not key[0] >> size - 1:
            size -= 1
        return "an RSA key of %d bits" % size
    algorithm = der.Reader(one.key_info).inside(der.SEQUENCE).inside(der.SEQUENCE)
    kind = algorithm.read(der.OID)
    if der.tlv(der.OID, kind) == der.EC_PUBLIC_KEY and algorithm.peek() == der.OID:
        return "a key on the curve " + der.dotted(algorithm.read(der.OID))
    return "a key of the kind " + der.dotted(kind)
