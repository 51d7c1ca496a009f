import binascii
import hashlib

from check import raises
from coupler.trust import der, p256

# RFC 6979, A.2.5: the key, its public point, and with SHA-256 the signatures of two messages
_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
_X = 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
_Y = 0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299
# y of the point with x = 5
_Y5 = 31468013646237722594854082025316614106172411895747863909393730389177298123724
_SIGNED = (
    (
        b"sample",
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    (
        b"test",
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
)

# From Wycheproof (C2SP, Apache-2.0): where implementations of this arithmetic went wrong.
_HARD = (
    (
        "replaced r by n - r",
        "042927b10512bae3eddcfe467828128bad2903269919f7086069c8c4df6c732838"
        "c7787964eaac00e5921fb1498a60f4606766b3d9685001558d1a974e7341513e",
        "313233343030",
        "d45c5740946b2a147f59262ee6f5bc90bd01ed280528b62b3aed5fc93f06f739"
        "b329f479a2bbd0a5c384ee1493b1f5186a87139cac5df4087c134b49156847db",
        False,
    ),
    (
        "Edge case for Shamir multiplication",
        "042927b10512bae3eddcfe467828128bad2903269919f7086069c8c4df6c732838"
        "c7787964eaac00e5921fb1498a60f4606766b3d9685001558d1a974e7341513e",
        "3639383139",
        "64a1aab5000d0e804f3e2fc02bdee9be8ff312334e2ba16d11547c97711c898e"
        "6af015971cc30be6d1a206d4e013e0997772a2f91d73286ffd683b9bb2cf4f1b",
        True,
    ),
    (
        "special case hash",
        "042927b10512bae3eddcfe467828128bad2903269919f7086069c8c4df6c732838"
        "c7787964eaac00e5921fb1498a60f4606766b3d9685001558d1a974e7341513e",
        "343236343739373234",
        "16aea964a2f6506d6f78c81c91fc7e8bded7d397738448de1e19a0ec580bf266"
        "252cd762130c6667cfe8b7bc47d27d78391e8e80c578d1cd38c3ff033be928e9",
        True,
    ),
    (
        "special case hash",
        "042927b10512bae3eddcfe467828128bad2903269919f7086069c8c4df6c732838"
        "c7787964eaac00e5921fb1498a60f4606766b3d9685001558d1a974e7341513e",
        "37313338363834383931",
        "9cc98be2347d469bf476dfc26b9b733df2d26d6ef524af917c665baccb23c882"
        "093496459effe2d8d70727b82462f61d0ec1b7847929d10ea631dacb16b56c32",
        True,
    ),
    (
        "small r and s",
        "04a71af64de5126a4a4e02b7922d66ce9415ce88a4c9d25514d91082c8725ac957"
        "5d47723c8fbe580bb369fec9c2665d8e30a435b9932645482e7c9f11e872296b",
        "313233343030",
        "0000000000000000000000000000000000000000000000000000000000000005"
        "0000000000000000000000000000000000000000000000000000000000000001",
        True,
    ),
    (
        "small r and s",
        "046627cec4f0731ea23fc2931f90ebe5b7572f597d20df08fc2b31ee8ef16b1572"
        "6170ed77d8d0a14fc5c9c3c4c9be7f0d3ee18f709bb275eaf2073e258fe694a5",
        "313233343030",
        "0000000000000000000000000000000000000000000000000000000000000005"
        "0000000000000000000000000000000000000000000000000000000000000003",
        True,
    ),
    (
        "edge case modular inverse",
        "0461722eaba731c697c7a9ba4d0afdbb5713d8aa12b0eab601bb33dbaf792c5adc"
        "272cd993b2b663aba5b3a26c101182ff178684945e83879e71598b95fe647dfc",
        "313233343030",
        "555555550000000055555555555555553ef7a8e48d07df81a693439654210c70"
        "02f676969f451a8ccafa4c4f09791810e6d632dbd60b1d5540f3284fbe1889b0",
        True,
    ),
    (
        "edge case modular inverse",
        "04c4c91981e720e20d7e478ff19d09b95a98f58c0f469b72801a8ce844a3473165"
        "94afcd4188182e7779889b3258d0368ece1e66797fe7c648c6f0b9e26bd71871",
        "313233343030",
        "555555550000000055555555555555553ef7a8e48d07df81a693439654210c70"
        "4e260962e33362ef0046126d2d5a4edc6947ab20e19b8ec19cf79e5908b6e628",
        True,
    ),
    (
        "point at infinity during verify",
        "04b533d4695dd5b8c5e07757e55e6e516f7e2c88fa0239e23f60e8ec07dd70f287"
        "1b134ee58cc583278456863f33c3a85d881f7d4a39850143e29d4eaf009afe47",
        "313233343030",
        "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8"
        "555555550000000055555555555555553ef7a8e48d07df81a693439654210c70",
        False,
    ),
    (
        "point duplication during verification",
        "045b812fd521aafa69835a849cce6fbdeb6983b442d2444fe70e134c027fc46963"
        "838a40f2a36092e9004e92d8d940cf5638550ce672ce8b8d4e15eba5499249e9",
        "313233343030",
        "6f2347cab7dd76858fe0555ac3bc99048c4aacafdfb6bcbe05ea6c42c4934569"
        "bb726660235793aa9957a61e76e00c2c435109cf9a15dd624d53f4301047856b",
        True,
    ),
    (
        "duplication bug",
        "045b812fd521aafa69835a849cce6fbdeb6983b442d2444fe70e134c027fc46963"
        "7c75bf0c5c9f6d17ffb16d2726bf30a9c7aaf31a8d317472b1ea145ab66db616",
        "313233343030",
        "6f2347cab7dd76858fe0555ac3bc99048c4aacafdfb6bcbe05ea6c42c4934569"
        "bb726660235793aa9957a61e76e00c2c435109cf9a15dd624d53f4301047856b",
        False,
    ),
    (
        "public key shares x-coordinate with generator",
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        "313233343030",
        "bb5a52f42f9c9261ed4361f59422a1e30036e7c32b270c8807a419feca605023"
        "249249246db6db6ddb6db6db6db6db6dad4591868595a8ee6bf5f864ff7be0c2",
        False,
    ),
    (
        "x-coordinate of the public key has many trailing 0's",
        "044f337ccfd67726a805e4f1600ae2849df3807eca117380239fbd816900000000"
        "ed9dea124cc8c396416411e988c30f427eb504af43a3146cd5df7ea60666d685",
        "4d657373616765",
        "d434e262a49eab7781e353a3565e482550dd0fd5defa013c7f29745eff3569f1"
        "9b0c0a93f267fb6052fd8077be769c2b98953195d7bc10de844218305c6ba17a",
        True,
    ),
    (
        "y-coordinate of the public key has many trailing 0's",
        "043cf03d614d8939cfd499a07873fac281618f06b8ff87e8015c3f497265004935"
        "84fa174d791c72bf2ce3880a8960dd2a7c7a1338a82f85a9e59cdbde80000000",
        "4d657373616765",
        "664eb7ee6db84a34df3c86ea31389a5405badd5ca99231ff556d3e75a233e73a"
        "59f3c752e52eca46137642490a51560ce0badc678754b8f72e51a2901426a1bd",
        True,
    ),
)


def _public(x, y):
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def _sha(message):
    return hashlib.sha256(message).digest()


def test_the_signatures_of_rfc_6979_come_out_bit_by_bit():
    public = p256.public_key(_KEY)
    assert public == _public(_X, _Y)
    for message, r, s in _SIGNED:
        assert p256.sign(_KEY, _sha(message)) == (r, s)
        assert p256.verify(public, _sha(message), r, s)


def test_small_and_large_scalars_meet_on_the_curve():
    # (N - 1) G = -G, and 2 G as in the NIST routines' example
    generator = p256.public_key(1)
    opposite = p256.public_key(p256.N - 1)
    assert generator[1:33] == opposite[1:33]
    assert int.from_bytes(generator[33:], "big") + int.from_bytes(opposite[33:], "big") == p256.P
    assert p256.public_key(2)[1:33] == binascii.unhexlify(
        "7CF27B188D034F7E8A52380304B51AC3C08969E277F21B35A60B48FC47669978"
    )


def test_a_new_key_signs_and_its_signature_holds_for_nothing_else():
    private = p256.generate()
    public = p256.public_key(private)
    other = p256.public_key(p256.generate())
    r, s = p256.sign(private, _sha(b"message"))
    assert p256.verify(public, _sha(b"message"), r, s)
    assert not p256.verify(public, _sha(b"messagf"), r, s)
    assert not p256.verify(other, _sha(b"message"), r, s)
    assert not p256.verify(public, _sha(b"message"), r, s ^ 1)
    assert not p256.verify(public, _sha(b"message"), r ^ 1, s)


def test_new_keys_are_in_range_and_never_the_same():
    keys = {p256.generate() for _ in range(20)}
    assert len(keys) == 20
    assert all(0 < key < p256.N for key in keys)


def test_a_draw_out_of_range_is_drawn_again():
    class Source:
        draws = [bytes(32), b"\xff" * 32, p256.N.to_bytes(32, "big"), bytes(31) + b"\x07"]

        def urandom(self, n):
            return self.draws.pop(0)

    genuine = p256.os
    p256.os = Source()
    try:
        assert p256.generate() == 7
    finally:
        p256.os = genuine


def test_a_signature_is_deterministic_though_its_computation_is_blinded():
    assert p256.sign(_KEY, _sha(b"x")) == p256.sign(_KEY, _sha(b"x"))


def test_signature_parts_out_of_range_are_not_accepted():
    public = _public(_X, _Y)
    message, r, s = _SIGNED[0]
    for bad in ((0, s), (r, 0), (p256.N, s), (r, p256.N), (r + p256.N, s), (r, s + p256.N), (-r, s), (r, -s)):
        assert not p256.verify(public, _sha(message), *bad)
    assert not p256.verify(public, _sha(message)[:31], r, s)


def test_keys_that_are_no_points_of_the_curve_are_refused():
    good = _public(_X, _Y)
    p256.point(good)
    p256.point(_public(5, _Y5))
    bad = (
        b"",
        good[:64],
        good + b"\0",
        b"\x02" + good[1:],
        bytes(65),
        b"\x04" + bytes(64),
        good[:64] + bytes((good[64] ^ 1,)),
        _public(5 + p256.P, _Y5),  # the same point under a second name
    )
    for public in bad:
        raises(ValueError, p256.point, public)
        raises(ValueError, p256.verify, public, bytes(32), 1, 1)


def test_private_keys_out_of_range_are_refused():
    for private in (0, p256.N, -1, p256.N + 1):
        raises(ValueError, p256.public_key, private)
        raises(ValueError, p256.sign, private, bytes(32))


def test_hard_cases_of_other_implementations():
    for comment, public, message, signature, valid in _HARD:
        r = int(signature[:64], 16)
        s = int(signature[64:], 16)
        digest = _sha(binascii.unhexlify(message))
        assert p256.verify(binascii.unhexlify(public), digest, r, s) is valid, comment


def test_a_verification_can_be_done_in_pieces():
    public = _public(_X, _Y)
    message, r, s = _SIGNED[0]
    for digest, answer in ((_sha(message), True), (_sha(b"other"), False)):
        steps = list(p256.verifying(public, digest, r, s))
        assert steps == [None] * 16 + [answer]


def test_opposite_scalars_give_opposite_points():
    for k in (2, 3, 1 << 80, 1 << 160, 1 << 240, (1 << 256) % p256.N):
        one = p256.public_key(k)
        p256.point(one)
        other = p256.public_key(p256.N - k)
        assert one[1:33] == other[1:33] and one[33:] != other[33:]


def test_every_signature_and_every_public_key_is_blinded_anew():
    class Source:
        def __init__(self):
            self.draws = []

        def urandom(self, n):
            self.draws.append(n)
            return genuine.urandom(n)

    genuine = p256.os
    p256.os = source = Source()
    try:
        p256.public_key(_KEY)
        assert source.draws == [8, 32]  # the scalar, the point
        p256.sign(_KEY, bytes(32))
        assert source.draws[2:] == [8, 32, 32]  # and the inversion
    finally:
        p256.os = genuine


def test_hmac_of_rfc_4231():
    # test cases 1 (key padded here: HMAC pads it the same) and 2
    assert binascii.hexlify(p256.hmac(b"\x0b" * 20, b"Hi There")) == (
        b"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    )
    assert binascii.hexlify(p256.hmac(b"Jefe", b"what do ya want for nothing?")) == (
        b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_der_signatures_come_back_as_the_numbers_they_were():
    for r, s in ((1, 1), (127, 128), (p256.N - 1, 255), (2**255, 2**248)):
        whole = der.Reader(der.signature(r, s))
        assert whole.signature() == (r, s)
        whole.finish()
