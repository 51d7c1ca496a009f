import binascii
import hashlib
import json

from check import raises
from coupler.trust import p256, token

_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
_PUBLIC = p256.public_key(_KEY)
_OTHER = 4711
_UNIT = "urn:dev:kobler:246f28aabbcc"
_NOW = 1800000000
_HEADER = '{"alg":"ES256","kid":"a","typ":"JWT"}'


def _base64url(data):
    return binascii.b2a_base64(data)[:-1].rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_").decode()


def _claims(**changes):
    claims = {"aud": _UNIT, "sub": "anna", "role": "operator", "iat": _NOW - 10, "exp": _NOW + 300, "jti": "1"}
    claims.update(changes)
    return {name: value for name, value in claims.items() if value is not None}


def _sign(signed, key=_KEY):
    r, s = p256.sign(key, hashlib.sha256(signed.encode()).digest())
    return signed + "." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def _raw(payload, header=_HEADER, key=_KEY):
    return _sign(_base64url(header.encode()) + "." + _base64url(payload.encode()), key)


def _token(key=_KEY, header=_HEADER, **changes):
    return _raw(json.dumps(_claims(**changes)), header, key)


def _verifier(*keys, **options):
    return token.Verifier(_UNIT, keys or (token.Key("a", _PUBLIC),), **options)


def _refused(words, text, now=_NOW, verifier=None, **options):
    verifier = verifier or _verifier()
    error = str(raises(token.TokenError, lambda: verifier.check(text, now, **options)))
    assert words in error, (words, error)
    assert verifier.refused


def test_a_good_token_grants_what_it_says():
    verifier = _verifier()
    grant = verifier.check(_token(), _NOW)
    assert (grant.subject, grant.role, grant.ends, grant.jti, grant.kid) == ("anna", "operator", _NOW + 300, "1", "a")
    assert [role for role in token.ROLES if grant.allows(role)] == ["viewer", "operator"]
    assert verifier.refused == 0


def test_a_name_may_have_letters_of_other_languages():
    for name in ("J\u00fcrgen", "\u0416\u0430\u043d\u043d\u0430", "\u73e0\u5b50"):
        assert _verifier().check(_token(sub=name), _NOW).subject == name


def test_bytes_and_lists_of_units_and_claims_of_others_are_taken():
    for text in (
        _token().encode(),
        _token(aud=["urn:other", _UNIT]),
        _token(more={"deep": [1, {"x": None}]}),
        _token(header='{ "typ" : "at+jwt", "kid":"a" , "alg":"ES256" }'),
    ):
        assert _verifier().check(text, _NOW).subject == "anna"


def test_the_signature_of_rfc_7515_a_3_verifies():
    # The example's payload is no token of ours: it gets as far as its claims.
    x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
    y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    public = b"\x04" + token._decode(x.encode()) + token._decode(y.encode())
    text = (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
        "cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    _refused("kid: missing", text, verifier=_verifier(token.Key("a", public)))
    signed, _, signature = text.rpartition(".")
    signature = token._decode(signature.encode())
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    assert p256.verify(public, hashlib.sha256(signed.encode()).digest(), r, s)


def test_claims_that_do_not_fit_are_refused_by_name():
    cases = (
        ("aud", {"aud": "urn:dev:kobler:other"}),
        ("aud", {"aud": None}),
        ("aud", {"aud": [_UNIT + "0"]}),
        ("aud", {"aud": {_UNIT: 1}}),
        ("aud", {"aud": _UNIT[:-1]}),
        ("exp", {"exp": None}),
        ("exp", {"exp": str(_NOW + 300)}),
        ("exp", {"exp": _NOW + 300.5}),
        ("exp", {"exp": True}),
        ("exp", {"exp": -1}),
        ("expired", {"iat": _NOW - 1000, "exp": _NOW - 60}),
        ("not within", {"exp": _NOW + 86400}),
        ("not within", {"exp": _NOW - 10}),
        ("iat", {"iat": None}),
        ("issued in the future", {"iat": _NOW + 61}),
        ("nbf", {"nbf": _NOW + 61}),
        ("nbf", {"nbf": "now"}),
        ("role", {"role": None}),
        ("role", {"role": "root"}),
        ("role", {"role": ["admin"]}),
        ("sub", {"sub": None}),
        ("sub", {"sub": ""}),
        ("sub", {"sub": "a\nb"}),
        ("not for reading", {"sub": "a\x9bb"}),
        ("not for reading", {"sub": "a\u202eb"}),
        ("not for reading", {"sub": "a\u2066b"}),
        ("sub", {"sub": "x" * 65}),
        ("sub", {"sub": 7}),
        ("jti", {"jti": None}),
        ("jti", {"jti": 1}),
    )
    for words, changes in cases:
        _refused(words, _token(**changes), _NOW)


def test_clocks_may_differ_by_a_minute():
    check = lambda now, **changes: _verifier().check(_token(**changes), now)  # noqa: E731
    check(_NOW, iat=_NOW + 60)
    check(_NOW, nbf=_NOW + 60)
    check(_NOW + 359)
    _refused("expired", _token(), _NOW + 360)


def test_without_the_time_no_token_can_be_judged():
    _refused("does not know the time", _token(), None)


def test_a_token_is_good_once():
    verifier = _verifier()
    verifier.check(_token(), _NOW)
    _refused("used before", _token(), _NOW + 1, verifier)
    # the same id in another token
    _refused("used before", _token(sub="bert"), _NOW + 1, verifier)
    verifier.check(_token(jti="2"), _NOW)
    # no longer than it could be used
    assert len(verifier._used) == 2
    verifier.check(_token(jti="3", iat=_NOW + 420, exp=_NOW + 500), _NOW + 420)
    assert len(verifier._used) == 1


def test_a_refused_token_is_not_used_up():
    verifier = _verifier()
    _refused("nonce", _token(nonce="x"), verifier=verifier, nonce="y")
    assert verifier.check(_token(nonce="x"), _NOW, "x").subject == "anna"


def test_the_memory_of_tokens_is_bounded_and_forgets_none_too_early():
    verifier = _verifier(room=2)
    verifier.check(_token(jti="1"), _NOW)
    verifier.check(_token(jti="2"), _NOW)
    _refused("too many", _token(jti="3"), _NOW, verifier)
    _refused("used before", _token(jti="1"), _NOW, verifier)
    assert verifier.check(_token(jti="3", iat=_NOW + 420, exp=_NOW + 500), _NOW + 420).jti == "3"


def test_what_was_issued_before_the_start_is_refused():
    for since in (_NOW - 69, _NOW - 9, _NOW):  # also by a clock that is a minute fast
        _refused("before the unit's start", _token(), since=since)
    assert _verifier().check(_token(), _NOW, None, _NOW - 70).subject == "anna"


def test_a_clock_that_goes_back_makes_no_used_token_good_again():
    verifier = _verifier()
    verifier.check(_token(), _NOW)
    later = _NOW + 1000
    verifier.check(_token(jti="2", iat=later, exp=later + 60), later)  # the first one is forgotten
    _refused("clock went back", _token(), _NOW, verifier)
    assert verifier.check(_token(jti="3", iat=later - 60, exp=later), later - 60).issued == later - 60
    # nor by less than what is let pass, when it had just ended
    verifier = _verifier()
    verifier.check(_token(), _NOW)
    verifier.check(_token(jti="2", iat=_NOW + 365, exp=_NOW + 400), _NOW + 365)
    _refused("used before", _token(), _NOW + 359, verifier)


def test_a_nonce_that_was_asked_for_must_be_there():
    _refused("nonce", _token(), nonce="n")
    assert _verifier().check(_token(nonce="n"), _NOW, "n").subject == "anna"


def test_keys_roll_over():
    keys = (token.Key("a", _PUBLIC, ends=_NOW + 100), token.Key("b", p256.public_key(_OTHER), begins=_NOW + 50))
    new = '{"alg":"ES256","kid":"b"}'
    verifier = _verifier(*keys)
    verifier.check(_token(), _NOW)
    _refused("not valid yet", _token(_OTHER, new, jti="2"), _NOW, verifier)
    verifier.check(_token(jti="3"), _NOW + 99)
    verifier.check(_token(_OTHER, new, jti="3"), _NOW + 99)  # ids are each key's own
    _refused("no longer valid", _token(jti="4"), _NOW + 100, verifier)
    verifier.keys = keys[:1]
    _refused("unknown key 'b'", _token(_OTHER, new, jti="5"), _NOW + 99, verifier)


def test_a_key_grants_no_more_than_it_may():
    verifier = _verifier(token.Key("a", _PUBLIC, most="operator"))
    verifier.check(_token(), _NOW)
    _refused("operator at most", _token(role="admin", jti="2"), _NOW, verifier)


def test_pinned_keys_must_be_keys():
    raises(ValueError, token.Key, "a", bytes(65))
    raises(ValueError, lambda: token.Key("a", _PUBLIC, most="root"))


def test_the_signature_must_be_that_of_the_named_key():
    _refused("signature is not", _token(_OTHER))
    good = _token()
    signed = good[: good.rindex(".")]
    other = _token(role="admin")
    _refused("signature is not", signed + other[other.rindex(".") :])
    for r, s in ((0, 1), (1, 0), (0, 0), (p256.N, 1), (2**256 - 1, 2**256 - 1)):
        _refused("signature is not", signed + "." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big")))


def test_a_header_that_is_not_plain_is_refused():
    cases = (
        ("alg", '{"alg":"none","kid":"a"}'),
        ("alg", '{"alg":"None","kid":"a"}'),
        ("alg", '{"alg":"HS256","kid":"a"}'),
        ("alg", '{"alg":"ES384","kid":"a"}'),
        ("alg", '{"alg":"es256","kid":"a"}'),
        ("alg", '{"kid":"a"}'),
        ("kid", '{"alg":"ES256"}'),
        ("unknown key", '{"alg":"ES256","kid":"b"}'),
        ("'alg' twice", '{"alg":"none","kid":"a","alg":"ES256"}'),
        ("'kid' twice", '{"alg":"ES256","kid":"b","kid":"a"}'),
        ("plain strings", '{"alg":"ES256","kid":"a","crit":["exp"]}'),
        ("crit", '{"alg":"ES256","kid":"a","crit":"exp"}'),
        ("plain strings", '{"alg":"ES256","kid":"a","b64":false}'),
        ("plain strings", '{"alg":"ES256","kid":"a","jwk":{"kty":"EC"}}'),
        ("plain strings", '{"alg":"ES256","kid":1}'),
        ("plain strings", '{"alg":"ES256","kid":null}'),
        ("escape", '{"alg":"ES256","kid":"\\u0061"}'),
        ("escape", '{"\\u0061lg":"ES256","kid":"a"}'),
        ("plain strings", '{"alg" "ES256","kid":"a"}'),
        ("plain strings", '{"alg":"ES256" "kid":"a"}'),
        ("plain strings", '{"alg":"ES256","kid":"a",}'),
        ("plain strings", '{,"alg":"ES256","kid":"a"}'),
        ("plain strings", '{"alg":"ES256","kid":"a"}{}'),
        ("not a JSON object", '["alg","ES256"]'),
        ("not a JSON object", '{"alg":"ES256","kid":"a"'),
        ("plain strings", '{"alg":"ES256","kid":"a"x}'),
        ("plain strings", '{"alg":"ES256","kid":"a"\x0b}'),
        ("plain strings", '{"alg":\x0c"ES256","kid":"a"}'),
        ("alg", "{}"),
        ("header of", '{"alg":"ES256","kid":"%s"}' % ("a" * 512)),
    )
    for words, header in cases:
        _refused(words, _token(header=header))


def test_an_hmac_under_the_public_key_is_no_signature():
    payload = _base64url(json.dumps(_claims()).encode())
    for alg, words, short in (("HS256", "alg", "alg"), ("ES256", "signature is not", "not 64")):
        signed = _base64url(b'{"alg":"%s","kid":"a"}' % alg.encode()) + "." + payload
        mac = p256.hmac(_PUBLIC[1:65], signed.encode())
        _refused(words, signed + "." + _base64url(mac + mac))
        _refused(short, signed + "." + _base64url(mac))


def test_a_payload_that_is_no_object_is_refused():
    for payload in ("[]", "null", "7", "{", '"x"', "[" * 600):
        _refused("payload", _raw(payload))


def test_only_the_canonical_form_of_a_token_is_taken():
    good = _token()
    header, payload, signature = good.split(".")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    again = alphabet[alphabet.index(last) ^ 1]  # differs in bits that belong to no byte
    cases = (
        ("three parts", ""),
        ("three parts", header + "." + payload),
        ("three parts", good + "."),
        ("three parts", good + "." + signature),
        ("base64url", header + "." + payload + "."),
        ("base64url", "." + payload + "." + signature),
        ("base64url", header + ".." + signature),
        ("base64url", good + "="),
        ("base64url", good + "=="),
        ("base64url", good + "\n"),
        ("base64url", " " + good),
        ("base64url", header + "." + payload + "." + signature[:-1] + again),
        ("base64url", header + "." + payload + "." + signature[:-1]),
        ("base64url", header + "!." + payload + "." + signature),
        ("base64url", header + "." + payload + "." + "+" + signature[1:]),
        ("base64url", header + "." + payload + "." + "/" + signature[1:]),
        ("base64url", header + "." + payload + "." + "\u00e9" + signature[1:]),
        ("not 64", header + "." + payload + "." + _base64url(bytes(63))),
        ("not 64", header + "." + payload + "." + _base64url(bytes(65))),
        ("not 64", header + "." + payload + "." + _base64url(b"\x30\x06\x02\x01\x01\x02\x01\x01")),
        ("at most 2048", good + "A" * 2048),
    )
    for words, text in cases:
        _refused(words, text)


def test_a_check_can_be_done_in_pieces():
    steps = list(_verifier().checking(_token(), _NOW))
    assert len(steps) > 10 and not any(steps[:-1]) and steps[-1].subject == "anna"
