# A client of EST (RFC 7030, with RFC 8951): one request and what its answer means. The server is verified by TLS, by
# name and by the authorities that are given, before anything is sent; redirects are not followed.
import binascii

from coupler.const import const
from coupler.net.errors import NetError

_LEAST_S = const(5)
MOST_S = const(604800)
_PENDING_S = const(300)  # where the server does not say
_LIMIT = const(12288)  # bytes of an answer
_WORDS = const(80)  # of a refusal
_LINE = const(48)  # bytes in a line of base64; OpenSSL's decoder spoils lines of more than a thousand characters
_PATIENCE_MS = const(60000)  # an authority may take its time to issue

CACERTS = "cacerts"
CSRATTRS = "csrattrs"
ENROLL = "simpleenroll"
REENROLL = "simplereenroll"


class EstError(Exception):
    """refused: the same again would not help. pause: seconds that the server asked to wait, None if it did not.
    status: as of HTTP, 0 where that is not the reason."""

    def __init__(self, text, refused=True, pause=None, status=0):
        super().__init__(text)
        self.refused = refused
        self.pause = pause
        self.status = status


async def ask(hal, url, operation, trust, csr=None, secret=None, bus=None):
    """(DER of the answer, 0); (None, seconds to wait before the same again) for an enrolment that is pending.

    url: up to the label. trust: as of http.request. csr: DER. secret: "user:password", or None. The answer to CSRATTRS
    is empty where the server wants none. NetError, EstError."""
    from coupler.net import http  # 20 KB of heap, which who asks may forget before he looks at the answer
    from coupler.net.retry_after import seconds

    fields = []
    body = None
    if csr is not None:
        # RFC 8951, 3: nobody may rely on the second one, but servers of before do.
        fields = [("Content-Type", "application/pkcs10"), ("Content-Transfer-Encoding", "base64")]
        body = b"".join([binascii.b2a_base64(csr[at : at + _LINE]) for at in range(0, len(csr), _LINE)])
    if secret:
        fields.append(http.basic(*secret.split(":", 1)))
    where = url + "/" + operation
    method, patience = ("GET", http.IDLE_MS) if body is None else ("POST", _PATIENCE_MS)
    try:
        answer = await http.request(
            hal, method, where, trust, fields, body, limit=_LIMIT, bus=bus, idle_ms=patience, total_ms=2 * patience
        )
    except NetError as error:
        if error.kind == "tls-refused" and "cert" not in trust:
            raise NetError(error.kind, "the EST server wants a certificate, not a secret alone: %s" % error)
        raise
    status = answer.status
    pause = seconds(answer.fields.get("retry-after"), hal.now_ms())
    if pause is not None:
        pause = max(_LEAST_S, min(MOST_S, pause))
    if status == 200:
        return _content(operation, answer), 0
    if status == 202 and body is not None:
        return None, pause or _PENDING_S
    if operation == CSRATTRS and status in (204, 404, 405, 501):
        return b"", 0
    text = "the EST server answered %s with %d" % (operation, status)
    if status == 401:
        text += ": " + _wanted(answer, secret, "cert" in trust)
    elif not secret:  # what a server says of it could repeat it
        text += _words(answer)
    raise EstError(text, status < 500 and status not in (408, 429), pause, status)


def _content(operation, answer):
    kind = answer.fields.get("content-type", "").split(";")[0].strip().lower()
    if kind != ("application/csrattrs" if operation == CSRATTRS else "application/pkcs7-mime"):
        raise EstError("the EST server's answer to %s is of the type %r" % (operation, kind[:_WORDS]))
    # Base64 with white space anywhere (RFC 8951, 3.1). Encoding it again tells what the decoder has passed over.
    text = b"".join(answer.body.strip(b"\0").split())
    try:
        content = binascii.a2b_base64(text)
    except ValueError:
        content = b""
    if not content or binascii.b2a_base64(content).strip() != text:
        raise EstError("the EST server's answer to %s is not base64" % operation)
    return content


def _wanted(answer, secret, shown):
    scheme = answer.fields.get("www-authenticate", "").split(" ")[0]
    if scheme and scheme.lower() != "basic":
        return "it wants %s, which this unit does not know" % scheme[:_WORDS]
    if secret:
        return "is the secret wrong, or was it used before? Provision the unit again"
    if shown:
        return "it does not know the unit's certificate, or wants a secret: provision the unit again"
    return "it wants a secret or a certificate"


def _words(answer):
    if not answer.fields.get("content-type", "").lower().startswith("text/plain"):
        return ""
    words = "".join([chr(c) if 32 <= c < 127 else " " for c in answer.body[:_WORDS]]).strip()
    return ": " + words if words else ""
