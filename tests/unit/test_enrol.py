import binascii
import hashlib
import json

from check import raises
from coupler.trust import anchors, csr, der, enrol, p256, switch, vault, x509
from issued import CA, CA_DER, CA_KEY, ID, NOT_CA, NOW, Hal, PowerCut, authority, certificate

_CONFIG = b'{"v":1,"rev":"0badcafe"}'
_FILES = (switch.KEY, switch.CERT, switch.CA, switch.CONFIG)
_ALL = sorted(_FILES + ("/etc/identity",))


def _requested_key(request):
    info = der.Reader(request).inside(der.SEQUENCE).inside(der.SEQUENCE)
    info.number()
    info.element()
    info = info.inside(der.SEQUENCE)
    info.element()
    return info.bits()


def _stage(hal, name, data):
    enrol.stage(hal, name, data, binascii.hexlify(hashlib.sha256(data).digest()).decode())


def _answer(hal, request, ca=None, config=_CONFIG, **options):
    _stage(hal, "cert", certificate(ID, _requested_key(request), **options))
    _stage(hal, "ca", ca or CA_DER)
    if config is not None:
        _stage(hal, "config", config)


def _enrolled():
    hal = Hal()
    _answer(hal, enrol.begin(hal))
    enrol.commit(hal)
    return hal


def _coherent(files):
    key = csr.read_key(files[switch.KEY])
    return x509.own(files[switch.CERT]).public_key == p256.public_key(key)


def test_a_fresh_unit_enrols_and_says_who_it_is():
    hal = Hal()
    _answer(hal, enrol.begin(hal, "Example"))
    answer = enrol.commit(hal)
    assert answer["id"] == ID
    assert answer["rev"] == "0badcafe"
    assert answer["fingerprint"] == binascii.hexlify(hashlib.sha256(hal.files[switch.CERT]).digest()).decode()
    assert answer["not_after"] == 2051222400  # 2035-01-01
    assert sorted(hal.files) == _ALL
    assert _coherent(hal.files)


def test_no_answer_contains_the_private_key():
    hal = Hal()
    request = enrol.begin(hal)
    secret = hal.files["/etc/key.new"][7:39]
    assert csr.read_key(hal.files["/etc/key.new"]) == int.from_bytes(secret, "big")
    assert secret not in request
    _answer(hal, request)
    answer = json.dumps(enrol.commit(hal))
    assert binascii.hexlify(secret).decode() not in answer


def test_enrolling_again_gives_a_new_key_and_keeps_what_was_not_sent():
    hal = _enrolled()
    before = dict(hal.files)
    _answer(hal, enrol.begin(hal), config=None)
    enrol.commit(hal)
    assert hal.files[switch.KEY] != before[switch.KEY]
    assert hal.files[switch.CONFIG] == before[switch.CONFIG]
    assert _coherent(hal.files)


def test_a_configuration_alone_can_be_replaced():
    hal = _enrolled()
    before = dict(hal.files)
    _stage(hal, "config", b'{"v":1,"rev":"00000002"}')
    assert enrol.commit(hal)["rev"] == "00000002"
    for path in (switch.KEY, switch.CERT, switch.CA):
        assert hal.files[path] == before[path]


def test_an_interrupted_enrolment_leaves_the_old_identity_and_is_forgotten():
    hal = _enrolled()
    before = dict(hal.files)
    _answer(hal, enrol.begin(hal))
    assert switch.recover(hal) == "discarded"
    assert hal.files == before
    assert switch.recover(hal) == "clean"
    raises(enrol.EnrolError, enrol.commit, hal)


def _kept(hal):
    """The identity in the vault, as files; what it has besides."""
    there = Hal()
    there.nor.data[:] = hal.nor.data
    switch.recover(there)
    return there.files


def test_power_may_fail_before_any_flash_operation():
    hal = _enrolled()
    old = dict(hal.files)
    _answer(hal, enrol.begin(hal), config=b'{"v":1,"rev":"00000002"}')
    whole = hal.again()
    enrol.commit(whole)
    new = whole.files
    assert sorted(new) == _ALL
    # the log, three files (the CA is as it was), their digest, the vault, the log's end, four staged files
    assert 10 < whole.operations < 24
    outcomes = set()
    for first in range(whole.operations):
        torn = hal.again(first)
        raises(PowerCut, enrol.commit, torn)
        # and once more, in the middle of the repair
        for second in range(whole.operations + 1):
            repair = torn.again(second)
            try:
                switch.recover(repair)
            except PowerCut:
                pass
            again = repair.again()
            switch.recover(again)
            assert again.files in (old, new), (first, second)
            outcomes.add("new" if again.files == new else "old")
            kept = _kept(again)
            assert kept and all(kept[path] == again.files[path] for path in kept), (first, second)
    assert outcomes == {"old", "new"}


def test_a_cut_commit_can_be_repeated_instead():
    staged = Hal()
    _answer(staged, enrol.begin(staged))
    for cut in range(1, 14):
        torn = staged.again(cut)
        raises(PowerCut, enrol.commit, torn)
        if not switch.pending(torn):
            break
        again = torn.again()
        assert enrol.commit(again)["id"] == ID
        assert sorted(again.files) == _ALL
    assert cut > 10


def test_damage_on_the_way_is_noticed():
    hal = Hal()
    enrol.begin(hal)
    error = raises(enrol.EnrolError, enrol.stage, hal, "cert", b"abc", "00" * 32)
    assert "cert arrived damaged" in str(error)
    assert "/etc/cert.new" not in hal.files


def test_what_does_not_fit_together_is_refused_and_nothing_changes():
    other = p256.public_key(4711)
    wrong_ca = certificate("CA", p256.public_key(99), key=99, extensions=(CA,))
    no_ca = certificate("CA", p256.public_key(CA_KEY))
    no_signer = certificate("CA", p256.public_key(CA_KEY), extensions=(CA, (b"\x55\x1d\x0f", b"\x03\x02\x07\x80")))
    server_only = (b"\x55\x1d\x25", b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01")
    strange = (NOT_CA, (b"\x55\x1d\x7f", b"\x05\x00"))
    cases = (
        ("certificate is not for this unit's key", lambda h, r: _stage(h, "cert", certificate(ID, other))),
        (
            "certificate is for 'someone'",
            lambda h, r: _stage(h, "cert", certificate("someone", _requested_key(r))),
        ),
        ("is not signed by the key of certificate of 'CA'", lambda h, r: _stage(h, "ca", wrong_ca)),
        ("certificate of 'CA' may not issue certificates", lambda h, r: _stage(h, "ca", no_ca)),
        ("certificate of 'CA' may not issue certificates", lambda h, r: _stage(h, "ca", no_signer)),
        ("was issued by 'CB', which is not trusted here", lambda h, r: _answer(h, r, issuer="CB")),
        ("certificate of '%s' is not valid yet" % ID, lambda h, r: _answer(h, r, years=(28, 35))),
        ("certificate of '%s' has expired" % ID, lambda h, r: _answer(h, r, years=(25, 26))),
        ("certificate of 'CA' has expired", lambda h, r: _answer(h, r, ca=authority(years=(25, 26)))),
        ("certificate is an authority's", lambda h, r: _answer(h, r, extensions=(CA,))),
        ("is not for clients of TLS", lambda h, r: _answer(h, r, extensions=(NOT_CA, server_only))),
        ("unknown critical extension", lambda h, r: _answer(h, r, extensions=strange)),
        ("certificate: ", lambda h, r: _stage(h, "cert", b"rubbish")),
        ("CA certificate: ", lambda h, r: _stage(h, "ca", b"\x30\x80\x00\x00")),
        ("configuration is not JSON", lambda h, r: _stage(h, "config", b"nope")),
        ("configuration is of a version", lambda h, r: _stage(h, "config", b'{"v":2}')),
        ("configuration is of a version", lambda h, r: _stage(h, "config", b"[1]")),
    )
    for words, spoil in cases:
        hal = _enrolled()
        before = dict(hal.files)
        request = enrol.begin(hal)
        _answer(hal, request)
        spoil(hal, request)
        error = raises(enrol.EnrolError, enrol.commit, hal)
        assert words in str(error), (words, str(error))
        for path in _FILES:
            assert hal.files[path] == before[path]


_MIDDLE_KEY = 4713


def _chained(hal, *others):
    request = enrol.begin(hal)
    own = certificate(ID, _requested_key(request), issuer="Middle", key=_MIDDLE_KEY)
    _stage(hal, "cert", b"".join((own,) + others))
    _stage(hal, "ca", CA_DER)
    _stage(hal, "config", _CONFIG)
    return own


def _middle(issuer="CA", key=CA_KEY, name="Middle", public=_MIDDLE_KEY, extra=()):
    return certificate(name, p256.public_key(public), extensions=(CA,) + extra, issuer=issuer, key=key)


def test_what_leads_to_the_authority_is_kept_in_its_order():
    middle, other = _middle(), _middle(public=99)
    below, upper = _middle("Upper", 5), _middle(name="Upper", public=5)
    for others, kept in (
        ((middle,), (middle,)),
        ((CA_DER, other, middle), (middle,)),
        ((below, other, upper), (below, upper)),
    ):
        hal = Hal()
        own = _chained(hal, *others)
        answer = enrol.commit(hal)
        assert hal.files[switch.CERT] == b"".join((own,) + kept)
        assert answer["chain"] == len(kept) and answer["not_after"] == x509.Certificate(own).not_after
        assert answer["fingerprint"] == binascii.hexlify(hashlib.sha256(own).digest()).decode()
        assert sorted(hal.files) == _ALL and _coherent(hal.files)
        assert switch.recover(hal) == "clean"
        # it is the same after any other change
        _stage(hal, "config", b'{"v":1,"rev":"00000002"}')
        assert enrol.commit(hal)["chain"] == len(kept) and hal.files[switch.CERT] == b"".join((own,) + kept)


def test_a_chain_that_the_flash_does_not_keep_is_not_switched_to():
    hal = _enrolled()
    old = dict(hal.files)
    _chained(hal, CA_DER, _middle())
    write = hal.write_file
    hal.write_file = lambda path, data: write(path, data[:90] if path == switch.STAGED[switch.CERT] else data)
    assert "the flash does not keep" in str(raises(enrol.EnrolError, enrol.commit, hal))
    hal.write_file = write
    assert switch.recover(hal) == "discarded" and hal.files == old


def test_an_intermediate_that_is_trusted_is_shown_too():
    upper, middle = _middle(name="Upper", public=5), _middle("Upper", 5)
    for trusted, kept in (
        (CA_DER + middle, (middle,)),  # its issuer is not here
        (CA_DER + middle + upper, (middle, upper)),
        (middle, (middle,)),
        (CA_DER + upper, (middle, upper)),
    ):
        hal = Hal()
        own = _chained(hal, middle, upper)
        _stage(hal, "ca", trusted)
        assert enrol.commit(hal)["chain"] == len(kept)
        assert hal.files[switch.CERT] == b"".join((own,) + kept)


def test_a_chain_that_leads_nowhere_is_refused():
    for others, words in (
        ((), "issued by 'Middle', which is not trusted here: unknown authority, or a chain cut off"),
        ((_middle(public=99),), "is not signed by the key of certificate of 'Middle'"),
        ((_middle()[:-1],), "certificate: certificate cut off: %d of %d bytes" % (len(_middle()) - 1, len(_middle()))),
        ((_middle(), b"\0"), "certificate: bytes after the certificate's end"),
        ((b"\x30\x82\0\2\5\0",), "intermediate certificate: "),
    ):
        hal = Hal()
        _chained(hal, *others)
        error = raises(enrol.EnrolError, enrol.commit, hal)
        assert words in str(error), (words, str(error))
        assert switch.CERT not in hal.files


def test_no_more_is_shown_than_goes_into_a_message_of_tls():
    public = p256.public_key(4711)
    key = csr.write_key(4711)
    own = x509.Certificate(certificate(ID, public, issuer="Middle", key=_MIDDLE_KEY))
    root = x509.Certificate(CA_DER)
    seen = []
    for size in range(3300, 3500, 20):
        middle = x509.Certificate(_middle(extra=((b"\x55\x1d\x12", bytes(size), False),)))
        shown, left_out = anchors.check_own(own, key, public, [middle], [root], NOW, ID)
        assert shown == (own.der if left_out else own.der + middle.der)
        assert left_out == (len(own.der) + len(middle.der) > 4000)
        seen.append(left_out)
    assert seen[0] == 0 and seen[-1] == 1


def test_a_configuration_that_the_firmware_cannot_run_is_refused_with_its_words():
    def runs(hal, data):
        if b"rtu" not in data:
            raise ValueError("bus: no rtu")

    hal = Hal()
    _answer(hal, enrol.begin(hal))
    assert "configuration: bus: no rtu" in str(raises(enrol.EnrolError, enrol.commit, hal, runs))
    assert switch.CONFIG not in hal.files
    _stage(hal, "config", b'{"v":1,"rev":"00000003","kind":"rtu"}')
    assert enrol.commit(hal, runs)["rev"] == "00000003"


def test_a_certificate_without_a_key_for_it_is_refused():
    hal = Hal()
    _stage(hal, "cert", certificate(ID, p256.public_key(4711)))
    _stage(hal, "ca", CA_DER)
    assert "no key" in str(raises(enrol.EnrolError, enrol.commit, hal))


def test_validity_is_left_to_tls_while_the_time_is_not_known():
    hal = Hal(now=None)
    _answer(hal, enrol.begin(hal), years=(28, 35))
    assert enrol.commit(hal)["id"] == ID


def test_a_log_or_a_staged_file_that_the_flash_lost_never_blocks_the_unit():
    for spoil in ("/etc/commit", "/etc/cert.new"):
        hal = Hal()
        _answer(hal, enrol.begin(hal))
        torn = hal.again(1)
        raises(PowerCut, enrol.commit, torn)
        torn.files[spoil] = b"\xff\xff"
        assert switch.recover(torn.again()) == "damaged"
        again = torn.again()
        _answer(again, enrol.begin(again))
        assert enrol.commit(again)["id"] == ID


def test_what_the_flash_lost_in_a_switch_brings_the_old_identity_back():
    hal = _enrolled()
    old = dict(hal.files)
    _answer(hal, enrol.begin(hal), config=None)
    for spoil in ("/etc/commit", "/etc/cert.new", "/etc/key.new"):
        for cut in (1, 2, 3):
            torn = hal.again(cut)
            raises(PowerCut, enrol.commit, torn)
            if torn.files.get(spoil) is None:
                continue
            torn.files[spoil] = b"\xff\xff"
            again = torn.again()
            switch.recover(again)
            assert again.files in (old, _switched(hal)), (spoil, cut)
            assert _coherent(again.files)
            assert switch.recover(again) == "clean"


def _switched(hal):
    done = hal.again()
    enrol.commit(done)
    return done.files


def test_an_identity_that_the_vault_cannot_hold_is_refused():
    hal = Hal()
    long = (b"\x55\x1d\x11", bytes(vault.ROOM), False)
    _answer(hal, enrol.begin(hal), ca=authority(long))
    assert "at most" in str(raises(enrol.EnrolError, enrol.commit, hal))


def test_status_of_a_damaged_identity_is_an_answer():
    hal = _enrolled()
    hal.files[switch.CERT] = b"rubbish"
    answer = enrol.status(hal)
    assert answer["id"] == ID and answer["not_after"] is None and answer["damaged"]
    assert enrol.status(Hal())["fingerprint"] is None
