"""Which chains of certificates are good, for what and until when, and what is said of those that are not. How one is
read: test_x509."""

from check import raises
from coupler.trust import chains, der, p256, x509
from issued import ID, NOW, extension
from made_x509 import (
    CERT_SIGN,
    ECDSA_SHA1,
    EXTENDED,
    MIDDLE_KEY,
    NOT_CA,
    ROOT_KEY,
    USAGE,
    a_leaf,
    a_middle,
    by_rsa,
    certificate,
    may_issue,
    oid,
    rsa_info,
)
from rsa_key import KEY, SHA256, key_info


def _signed_by(one, issuer):
    try:
        chains.check_signed_by(one, issuer)
    except chains.ChainError:
        return False
    return True


def _rsa(last, parameters=b"\x05\x00"):
    return der.tlv(der.SEQUENCE, oid("2a864886f70d0101" + last), parameters)


def _rsa_key(bits):
    return key_info((1 << bits) - 1)


def _p384_key():
    algorithm = der.tlv(der.SEQUENCE, der.EC_PUBLIC_KEY, oid("2b81040022"))
    return der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, b"\0\x04", bytes(96)))


def _root(key=ROOT_KEY, name="Root", **options):
    return x509.Certificate(certificate(name, key, name, key, (may_issue(1), CERT_SIGN), **options))


def _rsa_root(info=None):
    return _root(by_rsa, info=info or key_info(), algorithm=SHA256)


def test_a_chain_leads_to_an_anchor():
    root, middle, leaf = _root(), a_middle(), a_leaf()
    assert chains.check(leaf, [middle], [root], NOW) == [middle, root]
    assert chains.check(leaf, [root, leaf, middle], [_root(1234, "Other"), root], NOW) == [middle, root]
    assert chains.check(leaf, [], [middle], NOW) == [middle]
    assert chains.check(middle, [], [root], NOW) == [root]
    assert chains.check(root, [], [root], NOW) == [root]
    # an authority that changed its key: two of one name
    chains.check(leaf, [middle], [_root(1234), root], NOW)
    assert _signed_by(leaf, middle) and _signed_by(middle, root) and _signed_by(root, root)
    assert not _signed_by(leaf, root) and not _signed_by(root, leaf)
    assert chains.signature_name(leaf) == "ECDSA and SHA-256"


def test_a_chain_that_does_not_hold_is_refused_with_its_cause():
    root, middle, leaf = _root(), a_middle(), a_leaf()
    fake = _root(1234)
    forged = der.signature(*p256.sign(1234, bytes(32)))
    direct = {"issuer": "Root", "issuer_key": ROOT_KEY}
    p384_root = _root(info=_p384_key())
    ends = x509.Certificate(certificate("Middle", MIDDLE_KEY, "Root", ROOT_KEY, (may_issue(), CERT_SIGN)))
    below = x509.Certificate(certificate("Below", 99, "Middle", MIDDLE_KEY, (may_issue(), CERT_SIGN)))
    deep = a_leaf("Below", 99)
    cases = (
        ("certificate of '%s' has expired" % ID, a_leaf(years=(25, 26)), [middle], [root]),
        ("certificate of 'Middle' has expired", leaf, [a_middle(years=(25, 26))], [root]),
        ("certificate of 'Root' has expired", leaf, [middle], [_root(years=(25, 26))]),
        ("is not valid yet, or the unit's clock is slow", a_leaf(years=(28, 35)), [middle], [root]),
        ("unknown authority, or a chain cut off", leaf, [], [root]),  # truncated
        ("was issued by 'Middle'", leaf, [root], [root]),
        ("the authority 'Other' is not one that is trusted here", _root(7, "Other"), [], [root]),
        ("'Root', which is not trusted here", leaf, [middle], []),
        ("is not signed by the key of certificate of 'Root'", leaf, [middle], [fake]),
        ("is not signed by the key of certificate of 'Root'", leaf, [middle, root], [fake]),
        ("the authority 'Root' is not one", leaf, [middle, root], [_root(7, "Other")]),
        ("is not signed by the key", a_leaf(signature=forged, **direct), [], [root]),
        ("signature: ", a_leaf(signature=b"rubbish", **direct), [], [root]),
        ("signature: ", a_leaf(signature=der.signature(1, 1) + b"\0", **direct), [], [root]),
        ("signed with ECDSA and SHA-1,", a_leaf(algorithm=ECDSA_SHA1, **direct), [], [root]),
        ("signed with ECDSA and SHA-256, but certificate of 'Root' has an RSA", a_leaf(**direct), [], [_rsa_root()]),
        ("has a key on the curve 1.3.132.0.34", a_leaf(**direct), [], [p384_root]),
        ("'Middle' may not issue", leaf, [a_middle((NOT_CA,))], [root]),
        ("'Middle' may not issue", leaf, [a_middle(())], [root]),
        ("'Middle' may not issue", leaf, [a_middle((may_issue(0), extension(USAGE, b"\x03\x02\x07\x80")))], [root]),
        ("so many authorities below", deep, [below, middle], [root]),
        ("so many authorities below", deep, [below, ends], [root]),  # the root's own limit
        ("so many authorities below", below, [middle], [root]),  # it is an authority itself
    )
    for words, one, others, anchors in cases:
        error = str(raises(chains.ChainError, chains.check, one, others, anchors, NOW))
        assert words in error, (words, error)
    chains.check(a_leaf(years=(25, 26)), [middle], [root])  # the time is not known


def test_authorities_may_have_rsa_keys():
    info = key_info()
    rsa_middle = {"info": info}
    by_root = {"issuer_key": by_rsa, "algorithm": SHA256}
    absent = {"issuer_key": by_rsa, "algorithm": _rsa("0b", b"")}  # its NULL
    for root, middle, leaf in (
        (_rsa_root(), a_middle(**by_root), a_leaf()),
        (_root(), a_middle(**rsa_middle), a_leaf(**by_root)),
        (_rsa_root(), a_middle(**rsa_middle, **by_root), a_leaf(**by_root)),
        (_rsa_root(), a_middle(**rsa_middle, **absent), a_leaf(**absent)),
    ):
        chains.check(leaf, [middle], [root], NOW, x509.CLIENT)
        assert leaf.public_key and _signed_by(root, root) and _signed_by(middle, root) and not _signed_by(root, middle)
    assert root.public_key is None and root.key_info == info and chains.signature_name(leaf) == "RSA and SHA-256"


def test_an_rsa_authority_that_does_not_hold_is_refused_with_its_cause():
    modulus = KEY[0]
    root = _rsa_root()
    other = (modulus >> 8 << 8) + 255
    by_root = {"issuer": "Root", "issuer_key": by_rsa}
    leaf = a_leaf(algorithm=SHA256, **by_root)
    good = leaf.signature
    cases = (
        ("is not signed by the key of certificate of 'Root'", leaf, _rsa_root(key_info(other))),
        ("is not signed by the key", leaf, _rsa_root(key_info(modulus, 3))),
        ("is not signed by the key", a_leaf(algorithm=SHA256, signature=good, serial=78, **by_root), root),
        ("is not signed by the key", a_leaf(algorithm=SHA256, signature=b"", **by_root), root),
        ("signed with RSA and SHA-256, but certificate of 'Root' has a key on P-256", leaf, _root()),
        ("signed with ECDSA and SHA-256, but certificate of 'Root' has an RSA key", a_leaf(**by_root), root),
        ("has an RSA key of 512 bits: too short, at least 2048", leaf, _rsa_root(_rsa_key(512))),
        ("has an RSA key of 1024 bits: too short, at least 2048", leaf, _rsa_root(_rsa_key(1024))),
        ("has an RSA key of 2047 bits: too short", leaf, _rsa_root(_rsa_key(2047))),
        ("has an RSA key of 4097 bits: too long, at most 4096", leaf, _rsa_root(_rsa_key(4097))),
        ("has an RSA key of 2048 bits: exponent", leaf, _rsa_root(key_info(modulus, 1))),
        ("has an RSA key of 2048 bits: even modulus", leaf, _rsa_root(key_info(modulus - 1))),
        ("signed with RSA and SHA-1, not with", a_leaf(algorithm=_rsa("05"), **by_root), root),
        ("signed with RSA and SHA-384, not with", a_leaf(algorithm=_rsa("0c"), **by_root), root),
        ("signed with RSA and SHA-512, not with", a_leaf(algorithm=_rsa("0d"), **by_root), root),
        ("signed with RSASSA-PSS, not with", a_leaf(algorithm=_rsa("0a", b"\x30\x00"), **by_root), root),
        ("signed with RSA and SHA-256, not with", a_leaf(algorithm=_rsa("0b", b"\x30\x00"), **by_root), root),
        ("signed with RSA and SHA-256, not with", a_leaf(algorithm=_rsa("0b", b"\x05\x00\x05\x00"), **by_root), root),
        ("signed with RSA and SHA-256, not with", a_leaf(algorithm=_rsa("0b", b"\x04\x00"), **by_root), root),
    )
    for words, one, anchor in cases:
        error = str(raises(chains.ChainError, chains.check, one, [], [anchor], NOW))
        assert words in error, (words, error)


def test_what_a_chain_may_be_used_for_is_judged_where_it_is_asked():
    def usages(*kinds):
        return extension(EXTENDED, der.tlv(der.SEQUENCE, *[der.tlv(der.OID, one) for one in kinds]), False)

    ca = (may_issue(0), CERT_SIGN)
    client, server, anything = usages(x509.CLIENT), usages(x509.SERVER), usages(b"\x55\x1d\x25\x00")
    both, mail = usages(x509.SERVER, x509.CLIENT), usages(b"\x2b\x06\x01\x05\x05\x07\x03\x04")
    signs, agrees = extension(USAGE, b"\x03\x02\x07\x80"), extension(USAGE, b"\x03\x02\x03\x08")

    def judged(leaf, middle, root, purpose):
        anchor = x509.Certificate(certificate("Root", ROOT_KEY, "Root", ROOT_KEY, (may_issue(), CERT_SIGN) + root))
        chain = a_leaf(extensions=(NOT_CA,) + leaf), [a_middle(ca + middle)], [anchor], NOW
        chains.check(*chain)  # nobody asked
        try:
            chains.check(*chain, purpose)
        except chains.ChainError as error:
            return str(error)

    for leaf, middle, root in (
        ((), (), ()),
        ((signs, client), (client,), ()),
        ((signs,), (both,), (client,)),
        ((both,), (anything,), (anything,)),
    ):
        assert judged(leaf, middle, root, x509.CLIENT) is None
    leaf_s = "certificate of '%s' is not for " % ID
    middle_s = "certificate of 'Middle' is an authority, but not for "
    for words, leaf, middle, root in (
        (leaf_s + "clients of TLS (extendedKeyUsage clientAuth)", (server,), (), ()),
        (leaf_s + "clients", (mail,), (), ()),
        (leaf_s + "clients of TLS (extendedKeyUsage clientAuth), and its key usage has no", (agrees,), (), ()),
        (leaf_s + "clients", (agrees, client), (), ()),
        (middle_s + "clients of TLS (extendedKeyUsage clientAuth)", (client,), (server,), ()),
        (middle_s + "clients", (), (mail,), ()),
        ("certificate of 'Root' is an authority, but not for clients", (client,), (client,), (server,)),
    ):
        error = judged(leaf, middle, root, x509.CLIENT)
        assert error and words in error, (words, error)
    assert "not for servers in TLS" in judged((client,), (), (), x509.SERVER)
    assert judged((server,), (both,), (), x509.SERVER) is None


def test_a_chain_that_never_ends_is_refused():
    # each the issuer of the other
    one = x509.Certificate(certificate("A", 1, "B", 2, (may_issue(), CERT_SIGN)))
    two = x509.Certificate(certificate("B", 2, "A", 1, (may_issue(), CERT_SIGN)))
    error = raises(chains.ChainError, chains.check, one, [one, two], [_root()], NOW)
    assert "'B', which is not trusted here" in str(error)
    # and so many of one name that to try them all would take for ever
    many = [
        x509.Certificate(certificate("A", key, "A", other, (may_issue(), CERT_SIGN)))
        for key in (1, 2, 3, 4, 5)
        for other in (1, 2, 3, 4, 5)
    ]
    leaf = x509.Certificate(certificate("Leaf", 9, "A", 1, ()))
    tried = []
    real = p256.verify

    def verify(*arguments):
        tried.append(0)
        return real(*arguments)

    p256.verify = verify
    try:
        raises(chains.ChainError, chains.check, leaf, many, [_root()], NOW)
    finally:
        p256.verify = real
    assert len(tried) <= 16


def test_an_authority_that_has_two_certificates_is_followed_to_the_trusted_one():
    # Its key changed and its name stayed (RFC 4210, 4.4): old is trusted, new signs itself, old vouches for new.
    old, new, over = (
        _root(),
        _root(1234),
        x509.Certificate(certificate("Root", 1234, "Root", ROOT_KEY, (may_issue(), CERT_SIGN))),
    )
    leaf = x509.Certificate(certificate("Leaf", 9, "Root", 1234, ()))
    # Whoever knows the old one alone does not want to see the new one beside it.
    for others in ([new, over], [over, new], [over], [new, over, leaf, old]):
        assert chains.check(leaf, others, [old], NOW) == [over, old]
    for others in ([new], [], [old]):
        raises(chains.ChainError, chains.check, leaf, others, [old], NOW)
    # What it issued itself does not count for path lengths.
    tight = x509.Certificate(certificate("Root", ROOT_KEY, "Root", ROOT_KEY, (may_issue(0), CERT_SIGN)))
    chains.check(leaf, [over], [tight], NOW)


def test_what_is_valid_from_this_minute_on_is_taken_from_a_clock_that_is_ahead():
    root = _root()
    begin = root.not_before
    chains.check_time(root, begin - 300)
    assert "not valid yet" in str(raises(chains.ChainError, chains.check_time, root, begin - 301))
    chains.check_time(root, root.not_after)
    raises(chains.ChainError, chains.check_time, root, root.not_after + 1)


def test_a_damaged_signature_of_the_right_form_is_noticed():
    root = _root()
    good = a_leaf("Root", ROOT_KEY).der
    for at in (len(good) - 1, 60, len(good) // 2):
        spoilt = bytearray(good)
        spoilt[at] ^= 1
        try:
            found = _signed_by(x509.Certificate(bytes(spoilt)), root)
        except ValueError:
            found = False
        assert not found, at


def test_a_key_of_another_kind_is_named_and_no_mistake_to_read():
    for info, words in (
        (_rsa_key(512), "an RSA key of 512 bits"),
        (_rsa_key(2047), "an RSA key of 2047 bits"),
        (_rsa_key(2048), "an RSA key of 2048 bits"),
        (_rsa_key(2049), "an RSA key of 2049 bits"),
        (rsa_info(b"", b""), "a key of the kind 1.2.840.113549.1.1.1"),  # without its NULL
        (_p384_key(), "a key on the curve 1.3.132.0.34"),
        (der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, oid("2b6570")), b"\x03\x21\x00" + bytes(32)),
         "a key of the kind 1.3.101.112"),
    ):  # fmt: skip
        found = a_leaf(info=info)
        assert found.public_key is None
        assert chains.key_name(found) == words
