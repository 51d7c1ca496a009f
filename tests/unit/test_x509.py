import binascii
import hashlib

from check import raises
from coupler.trust import chains, csr, der, p256, x509
from rsa_key import KEY, SHA256, encoded, key_info, sign

_NOW = 1800000000  # 2027-01-15
_ROOT_KEY = 0xC0FFEE
_MIDDLE_KEY = 0xBEEF
_LEAF_KEY = 0xCAFE
_ID = "246f28aabbcc"

_ECDSA = der.tlv(der.SEQUENCE, der.ECDSA_SHA256)
_BASIC = b"\x55\x1d\x13"
_USAGE = b"\x55\x1d\x0f"
_EXTENDED = b"\x55\x1d\x25"
_ALTERNATIVE = b"\x55\x1d\x11"
_YES = der.tlv(der.BOOLEAN, b"\xff")


def signed_by(one, issuer):
    try:
        chains.check_signed_by(one, issuer)
    except chains.ChainError:
        return False
    return True


def _oid(text):
    return der.tlv(der.OID, binascii.unhexlify(text))


_ECDSA_SHA1 = der.tlv(der.SEQUENCE, _oid("2a8648ce3d0401"))


def _rsa(last, parameters=b"\x05\x00"):
    return der.tlv(der.SEQUENCE, _oid("2a864886f70d0101" + last), parameters)


def _by_rsa(body):
    return sign(encoded(hashlib.sha256(body).digest()))


def _rsa_key(bits):
    return key_info((1 << bits) - 1)


_RSA_NUMBERS = b"\x02\x01\x0f\x02\x01\x03"


def _rsa_info(numbers, parameters=b"\x05\x00", tail=b"", unused=b"\0"):
    public = der.tlv(der.BIT_STRING, unused, der.tlv(der.SEQUENCE, numbers), tail)
    return der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, _oid("2a864886f70d010101"), parameters), public)


def _p384_key():
    algorithm = der.tlv(der.SEQUENCE, der.EC_PUBLIC_KEY, _oid("2b81040022"))
    return der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, b"\0\x04", bytes(96)))


def _name(text):
    attribute = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.UTF8_STRING, text.encode()))
    return der.tlv(der.SEQUENCE, der.tlv(der.SET, attribute))


def _extension(kind, value, critical=True):
    flag = _YES if critical else b""
    return der.tlv(der.SEQUENCE, der.tlv(der.OID, kind), flag, der.tlv(der.OCTET_STRING, value))


def _ca(*path_length):
    return _extension(_BASIC, der.tlv(der.SEQUENCE, _YES, *[der.integer(one) for one in path_length]))


_CERT_SIGN = _extension(_USAGE, b"\x03\x02\x02\x04")
_NOT_CA = _extension(_BASIC, der.tlv(der.SEQUENCE))


def _utc(year):
    return der.tlv(der.UTC_TIME, b"%d0101000000Z" % year)


def _certificate(
    subject, key, issuer, issuer_key, extensions=(), years=(25, 35), algorithm=_ECDSA, outer=None, info=None,
    version=2, serial=77, signature=None, tail=b"",
):  # fmt: skip
    body = der.tlv(
        der.SEQUENCE,
        der.tlv(0xA0, der.integer(version)),
        der.integer(serial),
        algorithm,
        _name(issuer),
        der.tlv(der.SEQUENCE, _utc(years[0]), _utc(years[1])),
        _name(subject),
        info or csr.public_key_info(p256.public_key(key)),
        der.tlv(0xA3, der.tlv(der.SEQUENCE, *extensions)) if extensions else b"",
        tail,
    )
    if signature is None:
        if issuer_key is _by_rsa:
            signature = _by_rsa(body)
        else:
            signature = der.signature(*p256.sign(issuer_key, hashlib.sha256(body).digest()))
    return der.tlv(der.SEQUENCE, body, outer or algorithm, der.tlv(der.BIT_STRING, b"\0", signature))


def _root(key=_ROOT_KEY, name="Root", **options):
    return x509.Certificate(_certificate(name, key, name, key, (_ca(1), _CERT_SIGN), **options))


def _middle(extensions=(_ca(0), _CERT_SIGN), issuer_key=_ROOT_KEY, **options):
    return x509.Certificate(_certificate("Middle", _MIDDLE_KEY, "Root", issuer_key, extensions, **options))


def _leaf(issuer="Middle", issuer_key=_MIDDLE_KEY, extensions=(_NOT_CA,), **options):
    return x509.Certificate(_certificate(_ID, _LEAF_KEY, issuer, issuer_key, extensions, **options))


def test_what_is_in_a_certificate_is_read():
    names = der.tlv(
        der.SEQUENCE,
        der.tlv(x509.URI, b"urn:dev:kobler:" + _ID.encode()),
        der.tlv(0x81, b"someone@example.org"),
        der.tlv(x509.DNS, _ID.encode()),
        der.tlv(x509.IP, b"\xc0\x00\x02\x01"),
    )
    leaf = _leaf(extensions=(_NOT_CA, _extension(_ALTERNATIVE, names, False)))
    assert leaf.common_name() == _ID
    assert leaf.names() == [(x509.URI, "urn:dev:kobler:" + _ID), (x509.DNS, _ID), (x509.IP, b"\xc0\x00\x02\x01")]
    assert leaf.serial == 77
    assert (leaf.not_before, leaf.not_after) == (1735689600, 2051222400)
    assert leaf.issuer == _name("Middle") and leaf.subject == _name(_ID)
    assert leaf.public_key == p256.public_key(_LEAF_KEY)
    assert chains.signature_name(leaf) == "ECDSA and SHA-256"
    assert not leaf.is_ca and leaf.path_length is None
    assert _middle().is_ca and _middle().path_length == 0


def test_a_chain_leads_to_an_anchor():
    root, middle, leaf = _root(), _middle(), _leaf()
    chains.check(leaf, [middle], [root], _NOW)
    chains.check(leaf, [root, leaf, middle], [_root(1234, "Other"), root], _NOW)
    chains.check(leaf, [], [middle], _NOW)
    chains.check(middle, [], [root], _NOW)
    chains.check(root, [], [root], _NOW)
    # an authority that changed its key: two of one name
    chains.check(leaf, [middle], [_root(1234), root], _NOW)
    assert signed_by(leaf, middle) and signed_by(middle, root) and signed_by(root, root)
    assert not signed_by(leaf, root) and not signed_by(root, leaf)


def test_a_chain_that_does_not_hold_is_refused_with_its_cause():
    root, middle, leaf = _root(), _middle(), _leaf()
    fake = _root(1234)
    forged = der.signature(*p256.sign(1234, bytes(32)))
    direct = {"issuer": "Root", "issuer_key": _ROOT_KEY}
    p384_root = _root(info=_p384_key())
    ends = x509.Certificate(_certificate("Middle", _MIDDLE_KEY, "Root", _ROOT_KEY, (_ca(), _CERT_SIGN)))
    below = x509.Certificate(_certificate("Below", 99, "Middle", _MIDDLE_KEY, (_ca(), _CERT_SIGN)))
    deep = _leaf("Below", 99)
    cases = (
        ("certificate of '%s' has expired" % _ID, _leaf(years=(25, 26)), [middle], [root]),
        ("certificate of 'Middle' has expired", leaf, [_middle(years=(25, 26))], [root]),
        ("certificate of 'Root' has expired", leaf, [middle], [_root(years=(25, 26))]),
        ("is not valid yet, or the unit's clock is slow", _leaf(years=(28, 35)), [middle], [root]),
        ("unknown authority, or a chain cut off", leaf, [], [root]),  # truncated
        ("was issued by 'Middle'", leaf, [root], [root]),
        ("the authority 'Other' is not one that is trusted here", _root(7, "Other"), [], [root]),
        ("'Root', which is not trusted here", leaf, [middle], []),
        ("is not signed by the key of certificate of 'Root'", leaf, [middle], [fake]),
        ("is not signed by the key of certificate of 'Root'", leaf, [middle, root], [fake]),
        ("the authority 'Root' is not one", leaf, [middle, root], [_root(7, "Other")]),
        ("is not signed by the key", _leaf(signature=forged, **direct), [], [root]),
        ("signature: ", _leaf(signature=b"rubbish", **direct), [], [root]),
        ("signature: ", _leaf(signature=der.signature(1, 1) + b"\0", **direct), [], [root]),
        ("signed with ECDSA and SHA-1,", _leaf(algorithm=_ECDSA_SHA1, **direct), [], [root]),
        ("signed with ECDSA and SHA-256, but certificate of 'Root' has an RSA", _leaf(**direct), [], [_rsa_root()]),
        ("has a key on the curve 1.3.132.0.34", _leaf(**direct), [], [p384_root]),
        ("'Middle' may not issue", leaf, [_middle((_NOT_CA,))], [root]),
        ("'Middle' may not issue", leaf, [_middle(())], [root]),
        ("'Middle' may not issue", leaf, [_middle((_ca(0), _extension(_USAGE, b"\x03\x02\x07\x80")))], [root]),
        ("so many authorities below", deep, [below, middle], [root]),
        ("so many authorities below", deep, [below, ends], [root]),  # the root's own limit
        ("so many authorities below", below, [middle], [root]),  # it is an authority itself
    )
    for words, one, others, anchors in cases:
        error = str(raises(chains.ChainError, chains.check, one, others, anchors, _NOW))
        assert words in error, (words, error)
    chains.check(_leaf(years=(25, 26)), [middle], [root])  # the time is not known


def _rsa_root(info=None):
    return _root(_by_rsa, info=info or key_info(), algorithm=SHA256)


def test_authorities_may_have_rsa_keys():
    info = key_info()
    rsa_middle = {"info": info}
    by_root = {"issuer_key": _by_rsa, "algorithm": SHA256}
    absent = {"issuer_key": _by_rsa, "algorithm": _rsa("0b", b"")}  # its NULL
    for root, middle, leaf in (
        (_rsa_root(), _middle(**by_root), _leaf()),
        (_root(), _middle(**rsa_middle), _leaf(**by_root)),
        (_rsa_root(), _middle(**rsa_middle, **by_root), _leaf(**by_root)),
        (_rsa_root(), _middle(**rsa_middle, **absent), _leaf(**absent)),
    ):
        chains.check(leaf, [middle], [root], _NOW, x509.CLIENT)
        assert leaf.public_key and signed_by(root, root) and signed_by(middle, root) and not signed_by(root, middle)
    assert root.public_key is None and root.key_info == info and chains.signature_name(leaf) == "RSA and SHA-256"


def test_an_rsa_authority_that_does_not_hold_is_refused_with_its_cause():
    modulus = KEY[0]
    root = _rsa_root()
    other = (modulus >> 8 << 8) + 255
    by_root = {"issuer": "Root", "issuer_key": _by_rsa}
    leaf = _leaf(algorithm=SHA256, **by_root)
    good = leaf.signature
    cases = (
        ("is not signed by the key of certificate of 'Root'", leaf, _rsa_root(key_info(other))),
        ("is not signed by the key", leaf, _rsa_root(key_info(modulus, 3))),
        ("is not signed by the key", _leaf(algorithm=SHA256, signature=good, serial=78, **by_root), root),
        ("is not signed by the key", _leaf(algorithm=SHA256, signature=b"", **by_root), root),
        ("signed with RSA and SHA-256, but certificate of 'Root' has a key on P-256", leaf, _root()),
        ("signed with ECDSA and SHA-256, but certificate of 'Root' has an RSA key", _leaf(**by_root), root),
        ("has an RSA key of 512 bits: too short, at least 2048", leaf, _rsa_root(_rsa_key(512))),
        ("has an RSA key of 1024 bits: too short, at least 2048", leaf, _rsa_root(_rsa_key(1024))),
        ("has an RSA key of 2047 bits: too short", leaf, _rsa_root(_rsa_key(2047))),
        ("has an RSA key of 4097 bits: too long, at most 4096", leaf, _rsa_root(_rsa_key(4097))),
        ("has an RSA key of 2048 bits: exponent", leaf, _rsa_root(key_info(modulus, 1))),
        ("has an RSA key of 2048 bits: even modulus", leaf, _rsa_root(key_info(modulus - 1))),
        ("signed with RSA and SHA-1, not with", _leaf(algorithm=_rsa("05"), **by_root), root),
        ("signed with RSA and SHA-384, not with", _leaf(algorithm=_rsa("0c"), **by_root), root),
        ("signed with RSA and SHA-512, not with", _leaf(algorithm=_rsa("0d"), **by_root), root),
        ("signed with RSASSA-PSS, not with", _leaf(algorithm=_rsa("0a", b"\x30\x00"), **by_root), root),
        ("signed with RSA and SHA-256, not with", _leaf(algorithm=_rsa("0b", b"\x30\x00"), **by_root), root),
        ("signed with RSA and SHA-256, not with", _leaf(algorithm=_rsa("0b", b"\x05\x00\x05\x00"), **by_root), root),
        ("signed with RSA and SHA-256, not with", _leaf(algorithm=_rsa("0b", b"\x04\x00"), **by_root), root),
    )
    for words, one, anchor in cases:
        error = str(raises(chains.ChainError, chains.check, one, [], [anchor], _NOW))
        assert words in error, (words, error)


def test_what_a_chain_may_be_used_for_is_judged_where_it_is_asked():
    def usages(*kinds):
        return _extension(_EXTENDED, der.tlv(der.SEQUENCE, *[der.tlv(der.OID, one) for one in kinds]), False)

    ca = (_ca(0), _CERT_SIGN)
    client, server, anything = usages(x509.CLIENT), usages(x509.SERVER), usages(b"\x55\x1d\x25\x00")
    both, mail = usages(x509.SERVER, x509.CLIENT), usages(b"\x2b\x06\x01\x05\x05\x07\x03\x04")
    signs, agrees = _extension(_USAGE, b"\x03\x02\x07\x80"), _extension(_USAGE, b"\x03\x02\x03\x08")

    def judged(leaf, middle, root, purpose):
        anchor = x509.Certificate(_certificate("Root", _ROOT_KEY, "Root", _ROOT_KEY, (_ca(), _CERT_SIGN) + root))
        chain = _leaf(extensions=(_NOT_CA,) + leaf), [_middle(ca + middle)], [anchor], _NOW
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
    leaf_s = "certificate of '%s' is not for " % _ID
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
    one = x509.Certificate(_certificate("A", 1, "B", 2, (_ca(), _CERT_SIGN)))
    two = x509.Certificate(_certificate("B", 2, "A", 1, (_ca(), _CERT_SIGN)))
    error = raises(chains.ChainError, chains.check, one, [one, two], [_root()], _NOW)
    assert "'B', which is not trusted here" in str(error)
    # and so many of one name that to try them all would take for ever
    many = [
        x509.Certificate(_certificate("A", key, "A", other, (_ca(), _CERT_SIGN)))
        for key in (1, 2, 3, 4, 5)
        for other in (1, 2, 3, 4, 5)
    ]
    leaf = x509.Certificate(_certificate("Leaf", 9, "A", 1, ()))
    tried = []
    real = p256.verify

    def verify(*arguments):
        tried.append(0)
        return real(*arguments)

    p256.verify = verify
    try:
        raises(chains.ChainError, chains.check, leaf, many, [_root()], _NOW)
    finally:
        p256.verify = real
    assert len(tried) <= 16


def test_an_authority_that_has_two_certificates_is_followed_to_the_trusted_one():
    # Its key changed and its name stayed (RFC 4210, 4.4): old is trusted, new signs itself, old vouches for new.
    old, new, over = (
        _root(),
        _root(1234),
        x509.Certificate(_certificate("Root", 1234, "Root", _ROOT_KEY, (_ca(), _CERT_SIGN))),
    )
    leaf = x509.Certificate(_certificate("Leaf", 9, "Root", 1234, ()))
    for others in ([new, over], [over, new], [over], [new, over, leaf, old]):
        chains.check(leaf, others, [old], _NOW)
    for others in ([new], [], [old]):
        raises(chains.ChainError, chains.check, leaf, others, [old], _NOW)
    # What it issued itself does not count for path lengths.
    tight = x509.Certificate(_certificate("Root", _ROOT_KEY, "Root", _ROOT_KEY, (_ca(0), _CERT_SIGN)))
    chains.check(leaf, [over], [tight], _NOW)


def test_what_is_valid_from_this_minute_on_is_taken_from_a_clock_that_is_ahead():
    root = _root()
    begin = root.not_before
    chains.check_time(root, begin - 300)
    assert "not valid yet" in str(raises(chains.ChainError, chains.check_time, root, begin - 301))
    chains.check_time(root, root.not_after)
    raises(chains.ChainError, chains.check_time, root, root.not_after + 1)


def test_a_damaged_signature_of_the_right_form_is_noticed():
    root = _root()
    good = _leaf("Root", _ROOT_KEY).der
    for at in (len(good) - 1, 60, len(good) // 2):
        spoilt = bytearray(good)
        spoilt[at] ^= 1
        try:
            found = signed_by(x509.Certificate(bytes(spoilt)), root)
        except ValueError:
            found = False
        assert not found, at


def test_what_is_no_certificate_for_us_is_refused_with_its_cause():
    good = _certificate(_ID, _LEAF_KEY, "Root", _ROOT_KEY, (_NOT_CA,))
    make = lambda **options: _certificate(_ID, _LEAF_KEY, "Root", _ROOT_KEY, **options)  # noqa: E731
    off = csr.public_key_info(b"\x04" + bytes(63) + b"\x01")
    strange = _extension(b"\x55\x1d\x7f", b"\x05\x00")
    alternative = lambda *names: (_extension(_ALTERNATIVE, der.tlv(der.SEQUENCE, *names)),)  # noqa: E731
    cases = (
        ("after the certificate's end", good + b"\0"),
        ("cut off", good[:-1]),
        ("cut off", b""),
        ("instead of", b"\x02\x01\x00"),
        ("at most 4096", good + bytes(4096)),
        ("not X.509 version 3", make(version=1)),
        ("not X.509 version 3", good.replace(der.tlv(0xA0, der.integer(2)), b"\x05\x03\0\0\0", 1)),
        ("more than 20 bytes", make(serial=1 << 160)),
        ("negative", good.replace(b"\x02\x01\x4d", b"\x02\x01\xcd", 1)),
        ("unexpected element", make(outer=_ECDSA_SHA1)),
        ("before it begins", make(years=(35, 25))),
        ("not a point", make(info=off)),
        ("negative", make(info=_rsa_info(_RSA_NUMBERS[:-1] + b"\xff"))),
        ("cut off", make(info=_rsa_info(_RSA_NUMBERS[:3]))),
        ("more than expected", make(info=_rsa_info(_RSA_NUMBERS + b"\x05\x00"))),
        ("more than expected", make(info=_rsa_info(_RSA_NUMBERS, tail=b"\0"))),
        ("bit string", make(info=_rsa_info(_RSA_NUMBERS, unused=b"\x01"))),
        ("unknown critical extension 2.5.29.127", make(extensions=(strange,))),
        ("critical extension 2.5.29.30", make(extensions=(_extension(b"\x55\x1d\x1e", b"\x30\x00", False),))),
        ("given twice", make(extensions=(_NOT_CA, _NOT_CA))),
        ("boolean neither", make(extensions=(_extension(_BASIC, der.tlv(der.SEQUENCE, b"\x01\x01\x01")),))),
        ("negative", make(extensions=(_extension(_BASIC, der.tlv(der.SEQUENCE, _YES, b"\x02\x01\xff")),))),
        ("more than expected", make(extensions=(_extension(_BASIC, der.tlv(der.SEQUENCE) + b"\0"),))),
        ("bad key usage", make(extensions=(_extension(_USAGE, b"\x03\x01\x00"),))),
        ("bad character", make(extensions=alternative(der.tlv(x509.DNS, b"a\0b")))),
        ("bad character", make(extensions=alternative(der.tlv(x509.URI, b"urn:a b")))),
        ("bad character", make(extensions=alternative(der.tlv(x509.DNS, b"")))),
        ("bad IP address", make(extensions=alternative(der.tlv(x509.IP, b"\x7f\0\0")))),
        ("instead of a3", make(tail=b"\x05\x00")),
    )
    for words, data in cases:
        error = str(raises(ValueError, x509.Certificate, data))
        assert words in error, (words, error)
    assert x509.Certificate(make(extensions=(_extension(b"\x55\x1d\x7f", b"\x05\x00", False),))).serial == 77


def test_a_key_of_another_kind_is_named_and_no_mistake_to_read():
    for info, words in (
        (_rsa_key(512), "an RSA key of 512 bits"),
        (_rsa_key(2047), "an RSA key of 2047 bits"),
        (_rsa_key(2048), "an RSA key of 2048 bits"),
        (_rsa_key(2049), "an RSA key of 2049 bits"),
        (_rsa_info(b"", b""), "a key of the kind 1.2.840.113549.1.1.1"),  # without its NULL
        (_p384_key(), "a key on the curve 1.3.132.0.34"),
        (der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, _oid("2b6570")), b"\x03\x21\x00" + bytes(32)),
         "a key of the kind 1.3.101.112"),
    ):  # fmt: skip
        found = _leaf(info=info)
        assert found.public_key is None
        assert chains.key_name(found) == words


def test_usages_say_what_a_key_may_do_in_tls():
    client = _extension(_EXTENDED, der.tlv(der.SEQUENCE, der.tlv(der.OID, x509.CLIENT)), False)
    anything = _extension(_EXTENDED, der.tlv(der.SEQUENCE, der.tlv(der.OID, b"\x55\x1d\x25\x00")), False)
    signs = _extension(_USAGE, b"\x03\x02\x07\x80")
    for extensions, as_client, as_server in (
        ((), True, True),
        ((signs,), True, True),
        ((client,), True, False),
        ((signs, client), True, False),
        ((signs, anything), True, True),
        ((_CERT_SIGN, client), False, False),
    ):
        found = _leaf(extensions=extensions)
        assert (found.allows(x509.CLIENT), found.allows(x509.SERVER)) == (as_client, as_server)


def test_a_subject_with_no_or_several_common_names_has_none():
    one = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.UTF8_STRING, b"a"))
    other = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(der.PRINTABLE_STRING, b"b"))
    wide = der.tlv(der.SEQUENCE, der.COMMON_NAME, der.tlv(0x1E, b"\0a"))
    for sets, name in (
        ((), ""),
        ((der.tlv(der.SET, other),), "b"),
        ((der.tlv(der.SET, one), der.tlv(der.SET, other)), ""),
        ((der.tlv(der.SET, one, other),), ""),
        ((der.tlv(der.SET, wide),), ""),
    ):
        assert x509.common_name(der.tlv(der.SEQUENCE, *sets)) == name


def test_times_are_unix_seconds_in_every_century():
    # checked against datetime on the host
    for tag, text, seconds in (
        (der.UTC_TIME, b"700101000000Z", 0),
        (der.UTC_TIME, b"240229123456Z", 1709210096),
        (der.UTC_TIME, b"491231235959Z", 2524607999),
        (der.UTC_TIME, b"500101000000Z", -631152000),
        (der.GENERALIZED_TIME, b"20500101000000Z", 2524608000),
        (der.GENERALIZED_TIME, b"20000229000000Z", 951782400),
        (der.GENERALIZED_TIME, b"99991231235959Z", 253402300799),
    ):
        assert x509.time(der.Reader(der.tlv(tag, text))) == seconds


def test_what_is_no_time_in_der_is_refused():
    for tag, text in (
        (der.UTC_TIME, b""),
        (der.UTC_TIME, b"2402291234Z"),  # without seconds
        (der.UTC_TIME, b"240229123456"),
        (der.UTC_TIME, b"240229123456+0100"),
        (der.UTC_TIME, b"24022912345 Z"),
        (der.UTC_TIME, b"240229123460Z"),  # a leap second
        (der.UTC_TIME, b"240229126056Z"),
        (der.UTC_TIME, b"240229243456Z"),
        (der.UTC_TIME, b"241329123456Z"),
        (der.UTC_TIME, b"240029123456Z"),
        (der.UTC_TIME, b"240200123456Z"),
        (der.UTC_TIME, b"250229123456Z"),  # no leap year
        (der.UTC_TIME, b"240431123456Z"),
        (der.UTC_TIME, b"-40101000000Z"),
        (der.UTC_TIME, b"20240229123456Z"),
        (der.GENERALIZED_TIME, b"240229123456Z"),
        (der.GENERALIZED_TIME, b"20240229123456.5Z"),
        (der.GENERALIZED_TIME, b"21000229123456Z"),
        (der.OCTET_STRING, b"20240229123456Z"),
    ):
        raises(der.DerError, x509.time, der.Reader(der.tlv(tag, text)))
