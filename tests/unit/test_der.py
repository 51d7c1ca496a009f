import binascii

from check import raises
from coupler.trust import der


def _hex(text):
    return binascii.unhexlify(text.replace(" ", ""))


def test_lengths_take_their_shortest_form():
    for size, header in ((0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100")):
        element = der.tlv(der.OCTET_STRING, bytes(size))
        assert element[: len(header) // 2] == _hex(header)
        reader = der.Reader(element)
        assert reader.read(der.OCTET_STRING) == bytes(size)
        reader.finish()
    raises(der.DerError, der.tlv, der.OCTET_STRING, bytes(65536))


def test_integers_are_minimal_and_positive():
    for number, encoded in ((0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100")):
        assert der.integer(number) == _hex(encoded)
        assert der.Reader(der.integer(number)).number() == number
    assert len(der.integer(2**256 - 1)) == 35


def test_what_is_not_der_is_refused():
    cases = (
        ("", "cut off"),
        ("30", "cut off"),
        ("3001", "cut off"),
        ("308100", "shortest"),
        ("30817f" + "00" * 127, "shortest"),
        ("308200ff" + "00" * 255, "shortest"),
        ("3080 0000", "bad length"),
        ("3083000001 00", "bad length"),
        ("30ff", "bad length"),
        ("3082ff", "bad length"),
        ("3f8101 00", "tag of several bytes"),
        ("0401 00", "instead of"),
    )
    for data, words in cases:
        error = raises(der.DerError, der.Reader(_hex(data)).inside, der.SEQUENCE)
        assert words in str(error), (data, str(error))


def test_numbers_that_are_not_der_are_refused():
    for data, words in (
        ("0200", "empty"),
        ("020180", "negative"),
        ("0202007f", "shortest"),
        ("02020000", "shortest"),
    ):
        error = raises(der.DerError, der.Reader(_hex(data)).number)
        assert words in str(error), data


def test_an_element_that_reaches_past_its_parent_is_refused():
    # the inner length fits into the data, but not into the sequence around it
    outer = der.Reader(_hex("3003 0405 aabb 0000000000"))
    inner = outer.inside(der.SEQUENCE)
    assert "cut off" in str(raises(der.DerError, inner.read, der.OCTET_STRING))


def test_bit_strings_of_odd_bits_are_refused():
    assert der.Reader(_hex("0303 00 aabb")).bits() == b"\xaa\xbb"
    raises(der.DerError, der.Reader(_hex("0302 01 aa")).bits)
    raises(der.DerError, der.Reader(_hex("0300")).bits)


def test_a_reader_says_when_there_is_more():
    reader = der.Reader(_hex("0500 0500"))
    assert reader.peek() == 5
    assert reader.element() == b"\x05\x00"
    raises(der.DerError, reader.finish)
    reader.expect(b"\x05\x00")
    assert not reader.more()
    assert reader.peek() == -1
    reader.finish()
    raises(der.DerError, reader.element)


def test_booleans_are_00_or_ff_and_false_where_there_is_none():
    for data, value in (("0101ff", True), ("010100", False), ("0500", False), ("", False)):
        assert der.Reader(_hex(data)).flag() is value
    for data in ("010101", "0100", "0102ffff"):
        raises(der.DerError, der.Reader(_hex(data)).flag)


def test_the_rest_is_all_that_is_left():
    reader = der.Reader(_hex("0500 040100 0500")).inside(5)
    assert reader.rest() == b""
    reader = der.Reader(_hex("3004 0500 0500 aa"))
    inner = reader.inside(der.SEQUENCE)
    inner.element()
    assert inner.rest() == _hex("0500") and not inner.more()
