import binascii
import hashlib

from check import raises
from coupler.trust import rsa
from rsa_key import KEY, encoded, sign

# Made by cryptography: a modulus, its exponent, the signature of _MESSAGE.
_MESSAGE = b"message"
_SIGNED = (
    (
        "95d3309261dda02e9b82269a630dd72e81fa8b19953d10834447ca07386004e210fb2c863f3aaf591f45c0b859891905"
        "0b04ffcbf75e1c2c128f564ccc34b07f95a0882ce8f40285a4b86353fb19ab1caf50735862d1d9fbea5bed9e550a377c"
        "8012b0b1b283616ea216db97e95ac2bce54911ddd211b0e2b0317a6d380aed9e3591be53d0fd7dd52f906c74f2bbcc2b"
        "96b26b5f609508162f5f12460f6f68ef0b3768fc7dad9c832c77caa34ee06d3d92e174c1dc66936f8b2dda1d25738553"
        "b81f345b419764d0ccebd3f8a249adcb454a6fe2ee6308df0f571553e563fdd426628edeaeb8fa25ad4d9b03cb3c0197"
        "c38c25de8faf9f31ce6c2008185e0bd1",
        65537,
        "5d433acc6279207a1e1adb7e80a46551e09375a50695c87a70dea1720ccaa552fae57cc176403a698e65b9bcb88be5c0"
        "b8f89d72d3f30a08fc52a935386de90f4a5eca1ff77b706a4ae2b439f759eccf24d3948b58114b7e91a262152ff13cf6"
        "12ce71f12362097314cc833efb473a3baa8d18136285d8d6e91a8485ee461dd45089f4166a98417781410d099101c8bf"
        "3426ff7dff5a057058583b72b143d5780cbceb9582df1f19a00fe8a9a54791f4b7187c318ef53ad3f3b631e5ab6a4c49"
        "0dcde59c234986bcbaeffa81fac586f6b3a54777a3e9719f22f35dc2895cf6af9bd8018ad214ee4f7c819f405b5d59b8"
        "a88d7542900c4e43bc3d073a5b2f2be9",
    ),
    (
        "ce781d165eeb38238d9e1664a9c30a2b10f221d32178e73704e007feef16197cb2d245a2e0300baa8c7f74b89f915905"
        "3a41f2fba3c44ab4a8edd9d4e401ce7901e532788c680516f9d17e01f7c74ebf8d67103d7b2523300e4ab5ea11650c29"
        "0c21be8d714d3a89148100129e9f0bf81fe024c4b823182071960ae00d3b52f089d964cf8b11115b9f512853301f97c3"
        "b8924706910dcbeece12619b5a495e60c1d4b1b1da620600aafab6546e943210887fa48b99f0f5ae9a652338cc0cf852"
        "f7df4cdde74bcf95210f4fd74c954e1ca60f150d8bd71b21f829d23b0b65e959ab2a84393da1406800e1b46b6e954e51"
        "6ad0a15e87d5a5ff864939c7594dd273",
        3,
        "556f8f81fe973386f71a69f88aab222459ea91636952f66ec42b9f7eb443402f6370cf0a35c95081844b9cc80068cff3"
        "0474c53cd67129c337a2e616fa90083ff14c007f58d806665fd50ca381f8c4a9a3a60fae9c8cc9598a85f0f6cfbad9f7"
        "a297f10e692b2f63b0b0b04c86993878a5e0eba548136b55170a4527e17646381e3bfb8cd0c92241096167b8066f475f"
        "31697bf38ba2a52e2b2d44c45b87096157ba14f3e87b51a56839026f1f8fd5cf87f2a74b87a78a98b1e539a577c8f966"
        "682199169fb14a1ef3cbda1fa95a096b2ad4ca93bf6fbb17ab4f72ddb46adb4130895e306fcbe455a2f51819e44cdff1"
        "8c6f17f37df72b66a7b0b23b432d03b4",
    ),
    (
        "d80a18aafb24df926870aa76de0f6d0beba8d89bc863d9164095a93cce0c877f81d460a3373e44e54bb617cc25387958"
        "1eaa1d5a3e3337b82ab25b6521349b1c6ba735f2055704e4cab54446a4c86919fe951cbdb5042ea22993161c4d532e41"
        "e715a710e0072fee36b7f131db3239ec6c2a7866836b5d442ab6206a19b531f9e4905733b7ec47fb1d80560164787662"
        "5112f1c26dac364c719064c72336d556588e046850165aba16ec12dbf26109374626f8262af08aed2fc45e52a50f4daf"
        "bd548abcd2017d7b3aaf0b2d88405a2948bcbeab4b52cfc1b652619d258e0830aab68bb9ac193c4854b95fdeaed4cf03"
        "ef728a7f2d366cead8ee312c5a6da9a52903ffc3a6d4b88eec89de7d61116a0a1fc7832e722701d739ac758e72226d03"
        "98df997f9e3d7f9a0c64c43f7fcd2687809f998656bc3046c5819f947e2afa9cc16ccd8227a012d9771d675a4a3e5ee8"
        "c121c63a8d06f9bbed56e27b23ec42002bf61fc71d93ce535166d00f78c9e8ac4dba26365836a16e16fe19eae2d9c134"
        "b9dfaf14377910b4f29f06591fa08529f4cb316e1261191b25a79d37b4709f6002bfd27f9d61a3b1449d7ab35a14b8f7"
        "acc509505f180c00266826f1035be8b44f4b6cecf57220ea29f593e561065769bd46f8f624de976473b2d65b840ae62d"
        "1998a38b43438748b942d47d919ed751559f6bb8bbef260faf1d38214bf96dc7",
        65537,
        "0961271054411b6a69ebdf72e025e099d911e2cc2ec1e554c68fcf739194c008ac6542ea36c887792366da8ee4b85b9d"
        "1fe4029ea6248746b1c9e7f008cac9491e862e7705f53371c703949e0a5a6aeb7f1f8176ef3f0dfcef9f0c588a50a41c"
        "49fc1497131322f85392a39d519e82d963f0926fc1c04153e6d44944c6233d1884e150389df3fdae6a7e0c704c21d478"
        "03e0b91f6670ece38c2862bd52c5996bef10807b11beb09419f3ed8c24138911de674f800f743ca54170f7555fb04fb7"
        "f223ae4a4ef301f237aa464807a82b8f75f49cf1a409c4d6c881afb4cb0e4b6874a0bdcaab27ed428d245831e9d764fd"
        "33204cb8dffd9c0a15c0e3da163d9c67a3d7e85bff8d4ea6ab76b997178be2daec17dc23612f7f95fae3cb2fdc013915"
        "da00cd08d47bdc9e08ff4a79f0bb4ebf9711c861a91a183351085152669e5a935540208caa1f297e9cf7086b8082dce5"
        "378e5a25691e58135cecb368b9fb60fb7752cb01510a23943840f4a96eab58d03d1facab7f3f76c71056d5560d7d7875"
        "e47a805097dba70219c1d8d19339936b4994594d45d6347b5bd269f78d530f9ec74da44006cb224c62f8ed41cd9e8d0a"
        "683c397362b3a368b54ed2b54cd661c1dcf1b56a26d7110b891a5ce0e1d46af7ca37de7a85966d45a0d4f400d00b6f88"
        "51bb481c1abac161235865ddf301d25e14e5648105171c0c3b9196df5bd2abc1",
    ),
)
_hex = binascii.unhexlify
_DIGEST = hashlib.sha256(_MESSAGE).digest()
_N, _E = KEY
_GOOD = sign(encoded(_DIGEST))
_SHA256 = _hex("3031300d060960864801650304020105000420")


def _bytes(number, size=256):
    return number.to_bytes(size, "big")


def test_signatures_of_another_implementation_hold_for_their_message_and_key_alone():
    keys = []
    for modulus, exponent, signature in _SIGNED:
        keys.append((int(modulus, 16), exponent))
        signature = _hex(signature)
        assert rsa.verify(keys[-1][0], exponent, _DIGEST, signature)
        assert not rsa.verify(keys[-1][0], exponent, hashlib.sha256(b"other").digest(), signature)
        assert not rsa.verify(keys[-1][0], 5, _DIGEST, signature)
        for at in (0, 100, len(signature) - 1):
            spoilt = bytearray(signature)
            spoilt[at] ^= 1
            assert not rsa.verify(keys[-1][0], exponent, _DIGEST, bytes(spoilt))
    assert keys[0] == KEY
    assert _hex(_SIGNED[0][2]) == _GOOD
    assert not rsa.verify(keys[1][0], 65537, _DIGEST, _GOOD)


def test_only_the_one_right_encoding_is_taken():
    right = _SHA256 + _DIGEST
    pad = b"\xff" * (253 - len(right))
    sha1 = _hex("3021300906052b0e03021a05000414") + _DIGEST[:20]
    sha384 = _hex("3031300d060960864801650304020205000420") + _DIGEST
    no_null = _hex("302f300b06096086480165030402010420") + _DIGEST
    long_null = _hex("3032300e06096086480165030402010581000420") + _DIGEST
    long_length = _hex("308131300d060960864801650304020105000420") + _DIGEST
    inside = _hex("3041301d060960864801650304020105100000") + bytes(14) + b"\x04\x20" + _DIGEST

    def padded(content, head=b"\0\x01"):
        return head + b"\xff" * (255 - len(head) - len(content)) + b"\0" + content

    cases = (
        ("the digest alone", padded(_DIGEST)),
        ("another digest", padded(_SHA256 + bytes(32))),
        ("a digest cut off", padded(right[:-1])),
        ("SHA-1", padded(sha1)),
        ("the name of SHA-384", padded(sha384)),
        ("no NULL", padded(no_null)),
        ("a NULL of a long length", padded(long_null)),
        ("a long length", padded(long_length)),
        ("garbage in the NULL", padded(inside)),
        ("garbage behind, after short padding", b"\0\x01" + b"\xff" * 8 + b"\0" + right + bytes(194)),
        ("garbage behind, without padding", b"\0\x01\0" + right + b"\x5a" * 202),
        ("one byte behind", b"\0\x01" + pad[1:] + b"\0" + right + b"\0"),
        ("padding of another byte", b"\0\x01" + b"\xff" * 100 + b"\xfe" + pad[101:] + b"\0" + right),
        ("padding with a zero", b"\0\x01" + pad[1:] + b"\0\0" + right),
        ("padding that does not end", b"\0\x01" + pad + b"\xff" + right),
        ("block type 0", b"\0\0" + bytes(len(pad)) + b"\0" + right),
        ("block type 2", padded(right, b"\0\x02")),
        ("no zero in front", padded(right, b"\x01")),
        ("a one in front", b"\x01\x01" + pad + b"\0" + right),
        ("zeros alone", bytes(256)),
    )
    assert padded(right) == encoded(_DIGEST)
    for name, text in cases:
        assert len(text) == 256, name
        signature = sign(text)
        assert pow(int.from_bytes(signature, "big"), _E, _N) == int.from_bytes(text, "big"), name
        assert not rsa.verify(_N, _E, _DIGEST, signature), name


def test_a_number_has_one_signature_of_the_modulus_length_and_below_it():
    number = int.from_bytes(_GOOD, "big")
    cases = (
        b"",
        b"\0",
        b"\0" + _GOOD,
        _GOOD + b"\0",
        _GOOD[1:],
        _GOOD[:-1],
        bytes(256),
        _bytes(1),
        _bytes(_N - 1),
        _bytes(_N),
        _bytes(_N + 1),
        _bytes(_N - number),
        _bytes(number + _N, 257),
        b"\xff" * 256,
    )
    for signature in cases:
        assert not rsa.verify(_N, _E, _DIGEST, signature), signature
    assert rsa.verify(_N, _E, _DIGEST, _GOOD)
    # The same number once more, where that fits the length.
    for i in range(20):
        digest = hashlib.sha256(bytes((i,))).digest()
        signature = sign(encoded(digest))
        again = int.from_bytes(signature, "big") + _N
        if not again >> 2048:
            assert rsa.verify(_N, _E, digest, signature)
            assert not rsa.verify(_N, _E, digest, _bytes(again))
            return
    raise AssertionError("none is small enough")


def _cube_root(number):
    # the least whole number whose cube is no less
    low, high = 0, 1 << 1400
    while low < high:
        middle = (low + high) >> 1
        if middle * middle * middle < number:
            low = middle + 1
        else:
            high = middle
    return low


def test_for_exponent_3_nobody_forges_a_signature_by_a_cube_root():
    # Bleichenbacher, 2006: what begins rightly and ends in garbage is the cube of a number, for any modulus.
    for pad in (8, 1, 0, 30):
        begin = b"\0\x01" + b"\xff" * pad + b"\0" + _SHA256 + _DIGEST
        root = _cube_root(int.from_bytes(begin + bytes(256 - len(begin)), "big"))
        assert _bytes(root * root * root)[: len(begin)] == begin
        assert not rsa.verify(_N, 3, _DIGEST, _bytes(root))
    # and where the digest is looked for at the end: the cube of this one ends with it
    tail = _SHA256 + _DIGEST
    wanted = int.from_bytes(tail, "big")
    bits = 8 * len(tail)
    assert wanted & 1
    root = 1
    for i in range(bits):
        if (root * root * root ^ wanted) >> i & 1:
            root |= 1 << i
    assert _bytes(root * root * root)[-len(tail) :] == tail
    assert not rsa.verify(_N, 3, _DIGEST, _bytes(root))


def test_a_digest_of_another_length_has_no_signature():
    short, long = _DIGEST[:31], _DIGEST + b"\0"
    for digest, text in ((short, b"\0" + encoded(short, 255)), (long, encoded(long, 257)[1:]), (b"", _GOOD)):
        assert not rsa.verify(_N, _E, digest, sign(text))


def test_unfit_keys_are_refused_with_their_fault():
    top = 1 << 2047
    for words, modulus, exponent in (
        ("too short, at least 2048", 0, 3),
        ("too short, at least 2048", (1 << 511) + 1, 65537),
        ("too short, at least 2048", top - 1, 65537),
        ("too long, at most 4096", (1 << 4096) + 1, 65537),
        ("even modulus", top, 65537),
        ("exponent", top + 1, 0),
        ("exponent", top + 1, 1),
        ("exponent", top + 1, 2),
        ("exponent", top + 1, 65536),
        ("exponent", top + 1, (1 << 32) + 1),
        ("exponent", top + 1, top - 1),
    ):
        error = str(raises(ValueError, rsa.verify, modulus, exponent, _DIGEST, bytes(256)))
        assert words in error, (words, error)
    assert not rsa.verify(top + 1, 3, _DIGEST, bytes(256))
    assert not rsa.verify((1 << 4096) - 1, (1 << 32) - 1, _DIGEST, bytes(512))


def test_signature_and_encoding_are_as_long_as_the_modulus_which_need_not_fill_its_bytes():
    for bits in (2049, 2055, 2056, 4089):
        for more in (-1, 0, 1):
            size = (bits + 7) // 8 + more
            right = int.from_bytes(encoded(_DIGEST, size), "big")
            # Without a private key: a number, and the modulus by which its cube is what is wanted.
            root = _cube_root(right + (1 << bits - 1)) | 1
            root += right & 1
            modulus = root * root * root - right
            assert modulus >> bits - 1 == 1
            for length in (size - 1, size, size + 1):
                found = rsa.verify(modulus, 3, _DIGEST, _bytes(root, length))
                assert found is (not more and length == size), (bits, more, length)
