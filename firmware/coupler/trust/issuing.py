# The arithmetic of an enrolment by EST: the request, the new roots, the certificate that came. Slow, so each function
# is called in a turn of its own on the bus; no network here, and not in memory together with it.
from coupler.trust import anchors, csr, der, p256, pkcs7, x509

# What a server may ask for (RFC 7030, 4.5.2) and this unit cannot give: OIDs without their tag and length.
_BEYOND = {
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07": "a challenge password (the TLS library does not tell tls-unique)",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01": "an RSA key",
    b"\x2b\x65\x70": "an Ed25519 key",
    b"\x2b\x81\x04\x00\x22": "a key on P-384",
    b"\x2b\x81\x04\x00\x23": "a key on P-521",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x03": "a signature with SHA-384",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x04": "a signature with SHA-512",
}


def request(key, certificate, unit_id):
    """(key, request), DER; key: one that was made before, or None. The request for the same key is the same each time.

    certificate: the unit's present one, whose names are asked for again; None: those of unit_id."""
    private = csr.read_key(key) if key else p256.generate()
    if certificate:
        wanted = csr.renewal(private, x509.own(certificate))
    else:
        wanted = csr.request(private, unit_id)
    return key or csr.write_key(private), wanted


def beyond(attributes):
    """What the server asks for (CsrAttrs, DER) and the unit cannot give, in words; what nobody knows is passed over."""
    whole = der.Reader(attributes)
    listed = whole.inside(der.SEQUENCE)
    whole.finish()
    found = []
    while listed.more():
        if listed.peek() == der.OID:
            kinds = [listed.read(der.OID)]
        else:
            attribute = listed.inside(der.SEQUENCE)
            kinds = [attribute.read(der.OID)]
            values = attribute.inside(der.SET)
            while values.more():
                if values.peek() == der.OID:
                    kinds.append(values.read(der.OID))
                else:
                    values.element()
        found += [_BEYOND[kind] for kind in kinds if kind in _BEYOND]
    return found


def roots(authorities, message, now, room):
    """(authorities, names of the new ones in it, what else came, names of new ones that stay out): what to trust after
    this answer to /cacerts. room: bytes that the authorities may have, which limits the new ones."""
    offered = anchors.readable(pkcs7.certificates(message))
    trusted = anchors.read(authorities)
    kept, new = anchors.rolled(trusted, offered, now)
    out = []
    while new and sum([len(one.der) for one in kept]) > room:
        out.append(new.pop().common_name())
        kept.pop()
    trusted = [one.der for one in kept]
    others = [one.der for one in offered if one.der not in trusted]
    return b"".join(trusted), [one.common_name() for one in new], others, out


def accept(message, key, authorities, others, now, unit_id, certificate):
    """(what the unit is to show as its own, how many of its chain it cannot keep, when it begins in Unix seconds) for
    the answer to an enrolment with this key; ValueError for what is wrong with it.

    others: more certificates for its chain; certificate: the present one if its names were asked for."""
    reasons = []
    came = anchors.readable(pkcs7.certificates(message), reasons)
    public = key[-65:]  # as csr.write_key leaves it
    ours = [one for one in came if one.public_key == public]
    if len(ours) != 1:
        why = "; one cannot be read: " + reasons[0] if reasons else ""
        raise ValueError("the answer has %d certificates for this unit's key%s" % (len(ours), why))
    issued = ours[0]
    between = anchors.readable(others) + came
    shown, lost = anchors.check_own(issued, key, public, between, anchors.read(authorities), now, unit_id)
    # Fewer names than were asked for are fine, as several authorities leave some out; and the unit's own always are.
    asked = [(x509.URI, csr.URI + unit_id), (x509.DNS, unit_id)]
    if certificate:
        asked += x509.own(certificate).names()
    for name in issued.names():
        if name not in asked:
            raise ValueError("the certificate has a name that was not asked for: %s" % (name[1],))
    return shown, lost, issued.not_before
