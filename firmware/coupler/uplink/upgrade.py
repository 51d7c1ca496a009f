# The HTTP request and answer that begin a WebSocket (RFC 6455, section 4): needed once for each connection.
import binascii
import hashlib

from coupler.uplink.errors import ProtocolError


def request(host, path, subprotocol, key):
    """The request's bytes; subprotocol may be None; key: 16 random bytes in base64."""
    text = "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" % (path, host)
    text += "Sec-WebSocket-Version: 13\r\n"
    if subprotocol:
        text += "Sec-WebSocket-Protocol: %s\r\n" % subprotocol
    return text.encode() + b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"


def check(raw, key, subprotocol):
    """ProtocolError unless `raw`, the answer up to its empty line, accepts the request."""
    lines = raw.split(b"\r\n")
    status = lines[0].split(b" ", 2)
    if status[0] != b"HTTP/1.1" or len(status) < 2 or len(status[1]) != 3 or not status[1].isdigit():
        _fail("the answer is not HTTP")
    if status[1] != b"101":
        reason = "".join(chr(c) for c in b" ".join(status[1:])[:60] if 32 <= c < 127)
        _fail("the server answered HTTP %s instead of upgrading" % reason)
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip() != name:
            _fail("malformed header in the answer")
        name = name.lower()
        value = value.strip()
        fields[name] = fields[name] + b"," + value if name in fields else value
    if fields.get(b"upgrade", b"").lower() != b"websocket":
        _fail("the answer does not upgrade to websocket")
    if b"upgrade" not in [token.strip() for token in fields.get(b"connection", b"").lower().split(b",")]:
        _fail("the answer lacks Connection: Upgrade")
    digest = _sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
    if fields.get(b"sec-websocket-accept") != binascii.b2a_base64(digest).strip():
        _fail("Sec-WebSocket-Accept does not fit the key")
    if fields.get(b"sec-websocket-extensions"):
        _fail("the server uses an extension that was not offered", 1010)
    if fields.get(b"sec-websocket-protocol", b"") != (subprotocol or "").encode():
        _fail("the server did not agree to the subprotocol %s" % subprotocol)


def _sha1(data):
    if hasattr(hashlib, "sha1"):
        return hashlib.sha1(data).digest()
    new = getattr(hashlib, "new", None)  # CircuitPython
    if new:
        return new("sha1", data).digest()
    from coupler.uplink.sha1 import sha1

    return sha1(data)


def _fail(text, code=1002):
    raise ProtocolError("http", text, code)
