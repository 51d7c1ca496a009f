"""HTTP/1.1 as the unit reads and writes it: what is taken, what is refused, and that no cut of the bytes matters."""

from check import raises
from coupler.net import retry_after
from coupler.net.http import Answer, HttpError, basic, head, split

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LATEST = 1764000000000  # 2025-11-24 16:00 UTC


def feed(raw, size=None, limit=4096, method="GET", closes=True):
    """(Answer, body) of what came in pieces of that size, and then the end."""
    answer = Answer(limit, method)
    body = bytearray()
    for at in range(0, len(raw), size or len(raw) or 1):
        for piece in answer.receive(raw[at : at + (size or len(raw))]):
            body.extend(piece)
    if closes and not answer.done:
        answer.closed()
    return answer, bytes(body)


def outcome(raw, size=None, **options):
    try:
        answer, body = feed(raw, size, **options)
        return answer.status, answer.fields, body
    except HttpError as error:
        return str(error)


def refused(raw, text="", **options):
    said = [outcome(raw, size, **options) for size in (None, 1, 3)]
    assert said[0] == said[1] == said[2], said
    assert isinstance(said[0], str) and text in said[0], (raw, said[0])


def taken(raw, status=200, body=b"", **options):
    """The fields."""
    said = [outcome(raw, size, **options) for size in (None, 1, 2, 7)]
    assert said[0] == said[1] == said[2] == said[3], said
    assert said[0][0] == status and said[0][2] == body, said[0]
    return said[0][1]


def test_a_length_tells_where_the_body_ends():
    fields = taken(OK + b"Content-Length: 5\r\nContent-Type:\t text/plain \r\n\r\nhello", body=b"hello")
    assert fields == {"content-length": "5", "content-type": "text/plain"}
    taken(OK + b"Content-Length: 5\r\n\r\nhello and more", body=b"hello")
    taken(OK + b"Content-Length: 0\r\n\r\n")
    refused(OK + b"Content-Length: 6\r\n\r\nhello", "cut short")


def test_a_length_that_could_be_two_is_refused():
    for bad in (b"5, 5", b"+5", b"-5", b"0x5", b"5 5", b"", b"12345678901", b"\xb2"):
        refused(OK + b"Content-Length: " + bad + b"\r\n\r\nhello", "a length of")
    refused(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "a length of")


def test_chunks():
    taken(CHUNKED + b"5\r\nhello\r\n7\r\n there\xff\r\n0\r\n\r\n", body=b"hello there\xff")
    taken(CHUNKED + b"00005 ; a=b;c\r\nhello\r\n0;last\r\nExpires: now\r\nX:\r\n\r\nmore", body=b"hello")
    taken(CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", body=b"0123456789" * 2)
    taken(CHUNKED + b"1" + b";" * 253 + b"\r\nx\r\n0\r\n\r\n", body=b"x")
    for bad in (b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"5\r\nhel", b"", b"0\r\nExpires: now\r\n"):
        refused(CHUNKED + bad, "cut short")
    for bad in (b"", b" 5", b"5 ", b"-5", b"+5", b"0x5", b"5_0", b"g", b";a", b"00000005", b"\xb2"):
        refused(CHUNKED + bad + b"\r\nhello\r\n0\r\n\r\n", "malformed chunk size")
    for bad in (b"4\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloo\r\n"):
        refused(CHUNKED + bad, "")
    refused(CHUNKED + b"5;" + b"x" * 300 + b"\r\nhello", "more than")
    refused(CHUNKED + b"5\nhello\r\n0\r\n\r\n", "CR LF")
    refused(CHUNKED + b"5\r\nhello\n0\r\n\r\n", "CR LF")
    refused(CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", "control")
    refused(CHUNKED + b"0\r\n folded\r\n\r\n", "malformed field")
    refused(CHUNKED + b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n", "fields")


def test_codings_beside_a_length_or_unknown_are_refused():
    for bad in (b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked;x", b"identity", b""):
        refused(OK + b"Transfer-Encoding: " + bad + b"\r\n\r\n0\r\n\r\n", "transfer coding")
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    refused(OK + both, "beside a length")
    refused(CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer coding")
    refused(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer coding")
    taken(OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n")


def test_the_end_of_the_connection_ends_a_body_where_nothing_else_does():
    taken(OK + b"Connection: close\r\n\r\nhello", body=b"hello")
    taken(OK + b"Connection: x, Close\r\n\r\n", body=b"")
    taken(b"HTTP/1.0 200 OK\r\n\r\nhello", body=b"hello")
    taken(OK + b"\r\nhello", body=b"hello")
    taken(OK + b"Connection: keep-alive\r\n\r\nhello", body=b"hello")
    refused(b"", "cut short")
    refused(OK + b"Connection: close\r\n", "cut short")


def test_what_nobody_needs_is_not_waited_for():
    for status in (b"202", b"301", b"401", b"503"):
        head_of = b"HTTP/1.1 " + status + b" Later\r\nRetry-After: 5\r\n"
        taken(head_of + b"\r\n", int(status))  # cisco's libest
        taken(head_of + b"Connection: close\r\n\r\nwhy", int(status), body=b"why")
        taken(head_of + b"Content-Length: 3\r\n\r\nwhy", int(status), body=b"why")


def test_a_long_page_about_an_error_is_cut():
    page = bytes(range(32, 127)) * 10
    for way in (b"Content-Length: 950\r\n\r\n" + page, b"Transfer-Encoding: chunked\r\n\r\n3B6\r\n" + page):
        taken(b"HTTP/1.1 404 No\r\n" + way, 404, body=page[:100], limit=100)
        refused(OK + way, "too large", limit=100)


def test_answers_without_a_body():
    for status in (b"204 No Content", b"304 Not Modified"):
        head_of = b"HTTP/1.1 " + status + b"\r\n"
        taken(head_of + b"\r\n", int(status[:3]))
        taken(head_of + b"Content-Length: 5\r\n\r\nhello", int(status[:3]))
    taken(OK + b"Content-Length: 5\r\n\r\n", method="HEAD")


def test_interim_answers_are_skipped_and_an_upgrade_is_not_wanted():
    interim = b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n"
    fields = taken(interim + b"HTTP/1.1 103\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", body=b"ok")
    assert fields == {"content-length": "2"}
    refused(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "101")
    refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "interim")
    refused(interim, "cut short")


def test_what_is_not_http_is_refused():
    for bad in (b"HTTP/2 200 OK", b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b"HTTP/1.1  200", b"HTTP/1.1 20", b"SSH-2.0",
                b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 +20 OK", b"", b"HTTP/1.1 200\tOK"):  # fmt: skip
        refused(bad + b"\r\nContent-Length: 0\r\n\r\n", "")
    taken(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")
    taken(b"HTTP/1.1 599 \xfcber\r\nContent-Length: 0\r\n\r\n", 599)


def test_lines_and_fields_that_could_be_read_in_two_ways_are_refused():
    for bad in (b"X : 1", b" X: 1", b"\tfolded", b"X", b": 1", b"", b"X\xe9: 1", b"X(: 1", b"X Y: 1"):
        if bad:
            refused(OK + b"Content-Length: 0\r\n" + bad + b"\r\n\r\n", "malformed field")
    for bad in (b"X: a\0b", b"X: a\rb", b"X: \x7f", b"X\0: 1"):
        refused(OK + bad + b"\r\n\r\n", "control")
    refused(OK[:-2] + b"\nContent-Length: 0\r\n\r\n", "CR LF")
    refused(OK + b"Content-Length: 0\n\n", "CR LF")
    fields = taken(OK + b"Content-Length: 0\r\nA: 1\r\na:\r\nA:  2\t\r\nB: \xe9\r\n\r\n")
    assert fields["a"] == "1, , 2" and fields["b"] == "?"


def test_limits():
    taken(OK + b"X: " + b"y" * 8000 + b"\r\nContent-Length: 0\r\n\r\n")
    refused(OK + b"X: " + b"y" * 8200, "8192")
    refused(b"y" * 9000, "8192")
    refused(OK + b"X: y\r\n" * 1000, "64 fields")
    taken(OK + b"X: y\r\n" * 60 + b"Content-Length: 0\r\n\r\n")
    taken(OK + b"Content-Length: 5\r\n\r\nhello", body=b"hello", limit=5)
    refused(OK + b"Content-Length: 5\r\n\r\n", "too large", limit=4)
    refused(OK + b"Connection: close\r\n\r\nhello", "too large", limit=4)
    refused(CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "too large", limit=4)


def test_a_url_is_split_or_refused():
    assert split("https://a.example") == ("a.example", 443, "/")
    assert split("https://a-1.example:8443/x/y?sig=a%2Fb&z=1") == ("a-1.example", 8443, "/x/y?sig=a%2Fb&z=1")
    assert split("HTTPS://127.0.0.1/") == ("127.0.0.1", 443, "/")
    for bad in ("http://a/", "https:///x", "https://", "https://a:0/", "https://a:65536/", "https://a:/", "https://a:x/",
                "https://user@a/", "https://a:1:2/", "https://a/x y", "https://a/\r\nX: 1", "https://a/\u00e9",
                "https://a/#x", "https://a?x=1", "https://[::1]/", "https://a\\b/", "", "ftp://a/"):  # fmt: skip
        raises(HttpError, split, bad)


def test_a_request_says_what_is_meant_and_nothing_can_be_smuggled_into_it():
    text = head("PUT", "a.example", 443, "/x?y", (("X-A", "b"),), 5).decode()
    assert text.startswith("PUT /x?y HTTP/1.1\r\nHost: a.example\r\n") and text.endswith("\r\n\r\n")
    assert set(text.split("\r\n")[2:-2]) == {"Connection: close", "User-Agent: kobler", "Content-Length: 5", "X-A: b"}
    assert "Host: a:8443\r\n" in head("GET", "a", 8443, "/", (), None).decode()
    assert "Content-Length" not in head("GET", "a", 443, "/", (), None).decode()
    assert "Content-Length: 0\r\n" in head("POST", "a", 443, "/", (), 0).decode()
    for bad in ((("X", "a\r\nY: b"),), (("X\n", "a"),), (("X", "\u00e9"),), (("X", "\0"),)):
        raises(HttpError, head, "GET", "a", 443, "/", bad, None)
    assert basic("Aladdin", "open sesame") == ("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")  # RFC 7617, 2
    assert basic("a" * 60, "b" * 60)[1].count("\n") == 0


def test_how_long_to_wait():
    after = retry_after.seconds
    assert after("120", LATEST) == 120 and after(" 0 ", None) == 0
    for then in ("Mon, 24 Nov 2025 16:01:30 GMT", "Monday, 24-Nov-25 16:01:30 GMT", "Mon Nov 24 16:01:30 2025"):
        assert after(then, LATEST) == 90, then
    assert after("Thu, 01 Jan 1970 00:00:10 GMT", 0) == 10
    assert after("Sun, 29 Feb 2032 00:00:00 GMT", LATEST) == 1961625600 - LATEST // 1000
    assert after("Sun, 06 Nov 1994 08:49:37 GMT", LATEST) == 0, "in the past"
    assert after("Sunday, 06-Nov-94 08:49:37 GMT", LATEST) == 0, "and not in 2094"
    assert after("Sun, 06 Nov 1994 08:49:37 GMT", 0) == 784111777  # RFC 9110, 5.6.7
    assert after("Mon, 24 Nov 2025 16:01:30 GMT", None) is None, "without a clock"
    for bad in (None, "", "-1", "1.5", "soon", "99999999999", "Mon, 24 Nov 2025 16:01:30 PST",
                "Mon, 24 Xxx 2025 16:01:30 GMT",
                "Mon, 24 Nov 2025 24:00:00 GMT", "Mon, 24 Nov 2025 16:01 GMT", "Mon, 40 Nov 2025 16:01:30 GMT", ",,,,,",
                "Mon, 24 anf 2025 16:01:30 GMT", "a b c d e f g"):  # fmt: skip
        assert after(bad, LATEST) is None, bad
