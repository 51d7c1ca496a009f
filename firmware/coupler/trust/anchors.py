# The authorities that a unit trusts: one certificate or several, DER behind one another, as TLS takes them. While an
# authority's root rolls over, the old one and the new one are both there; what has expired goes.
from coupler.const import const
from coupler.trust import chains, x509

_SHOWN = const(4000)  # bytes: a chip's TLS sends no message of more than 4096


def read(data):
    """The certificates, parsed; ValueError, also for none at all."""
    found = [x509.Certificate(one) for one in x509.split(data)]
    if not found:
        raise ValueError("no certificate")
    return found


def readable(offered, reasons=None):
    """Those of the certificates (bytes each) that can be read here, parsed, each once. The others cannot lead anywhere;
    why goes to the list `reasons`."""
    found = []
    for i, one in enumerate(offered):
        try:
            if one not in offered[:i]:
                found.append(x509.Certificate(one))
        except ValueError as error:
            if reasons is not None:
                reasons.append(str(error))
    return found


def rolled(trusted, offered, now):
    """(what is to be trusted from now on, the new ones in it); trusted, offered: parsed; now: Unix seconds.

    A new root counts only when one that is trusted vouches for its key, by a certificate of the same name among the
    offered ones (NewWithOld; RFC 7030, 4.1.3; RFC 4210, 4.4)."""
    known = [one.der for one in trusted]
    new = []
    for root in offered:
        if root.der not in known and root.issuer == root.subject and _vouched(root, offered, trusted, now):
            new.append(root)
            known.append(root.der)
    # Should the unit's clock be what is wrong, it still has something to find the right time with.
    kept = [one for one in trusted if one.not_after >= now] or trusted
    return kept + new, new


def _vouched(root, offered, trusted, now):
    for proof in offered:
        # Its name may be the same as before (RFC 4210, 4.4.1). What its own key signed proves nothing here: that key is
        # not trusted yet.
        if proof is not root and proof.subject == root.subject and proof.key_info == root.key_info:
            try:
                chains.check_time(root, now)
                chains.check(proof, (), trusted, now)  # nothing in between: an intermediate makes no root
                chains.check_signed_by(root, proof)  # the same key, and may it issue certificates?
                return True
            except ValueError:
                pass
    return False


def check_own(own, key, public, between, trusted, now, unit_id):
    """(what the unit is to show as its own, how many it cannot keep) for `own`, which has this public key; ValueError
    unless it may be the certificate of unit `unit_id`: name, key (DER), use, a chain by way of `between` to one of
    `trusted`, and room for all. now: Unix seconds, None if not known.

    Shown are the certificate and those of the chain behind it, as TLS wants them (RFC 5246, 7.4.2): a peer may know
    the root alone."""
    from coupler.trust.vault import ROOM

    if own.common_name() != unit_id:
        raise ValueError("certificate is for %r, but this unit is %s" % (own.common_name(), unit_id))
    if own.public_key is None:
        raise ValueError("certificate has %s, not one of P-256" % chains.key_name(own))
    if own.public_key != public:
        raise ValueError("certificate is not for this unit's key")
    if own.is_ca:
        raise ValueError("certificate is an authority's")
    path = chains.check(own, between, trusted, now, x509.CLIENT)
    while path[-1].issuer != path[-1].subject:  # it is trusted, and no root
        upper = chains.issuer_of(path[-1], trusted)
        if upper is None or upper in path:
            break
        path.append(upper)
    if path[-1].issuer == path[-1].subject:
        path.pop()
    size = len(key) + sum([len(one.der) for one in [own] + trusted])
    if size > ROOM:
        raise ValueError("key and certificates have %d bytes, at most %d" % (size, ROOM))
    shown = own.der
    while path and len(shown) + len(path[0].der) <= _SHOWN:
        shown += path.pop(0).der
    return shown, len(path)
