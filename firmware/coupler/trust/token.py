# Tokens: who may do what on this unit, in the words of a cloud whose keys the unit knows (JWS compact, RFC 7515; JWT,
# RFC 7519). Only ES256, and the token never chooses a key beyond naming one of those pinned. No clock, no socket.
#
#   keys = [Key("2026", public), Key("2027", other, begins=…)]      both valid while one takes over from the other
#   verifier = Verifier("urn:dev:kobler:" + unit_id, keys)
#   grant = verifier.check(token, now)                              TokenError says what was wrong
#   grant.allows("operator")
#
# A token opens a session once; its `jti` is remembered until it ends. docs/decisions/0041-tokens.md has the claims.
import binascii
import hashlib
import json

from coupler.const import const
from coupler.trust import p256
from coupler.trust.roles import ROLES, allowed

_MOST = const(2048)  # characters of a token
_HEADER = const(512)
_TEXT = const(64)  # characters of a subject or an id
_BLANK = b" \t\r\n"  # RFC 8259, 2
_LIFE = const(86400)  # seconds a token may last
LEEWAY = const(60)  # seconds that the clocks of issuer and unit may differ
_ROOM = const(64)  # tokens remembered


class TokenError(ValueError):
    """The token is refused; the text says why, and never repeats the token."""


class TooEarly(TokenError):
    """It was issued before those that count."""


class Key:
    """A pinned key: its id, 65 bytes, when it may sign (Unix seconds, ends exclusive) and the most it may grant."""

    def __init__(self, kid, public, begins=0, ends=None, most="admin"):
        p256.point(public)
        if most not in ROLES:
            raise ValueError("key %r: no role %r" % (kid, most))
        self.kid = kid
        self.public = public
        self.begins = begins
        self.ends = ends
        self.most = most


class Grant:
    """What a good token says: subject, role, issued and ends (Unix seconds), jti, the id of the key."""

    def __init__(self, subject, role, issued, ends, jti, kid):
        self.subject = subject
        self.role = role
        self.issued = issued
        self.ends = ends
        self.jti = jti
        self.kid = kid

    def allows(self, role):
        return allowed(self.role, role)


class Verifier:
    """Judges tokens for one audience. `keys` may be replaced at any time; `room` bounds the tokens remembered."""

    def __init__(self, audience, keys, room=_ROOM):
        self.audience = audience
        self.keys = keys
        self.refused = 0
        self._room = room
        self._used = {}  # (kid, jti) -> when it may be forgotten
        self._latest = 0  # when a token was taken, by the unit's clock

    def check(self, token, now, nonce=None, since=0):
        """The Grant of a token (str or bytes) at `now`, Unix seconds; TokenError. A token is good once.

        nonce: what the token must repeat, where the unit asked for it. since: tokens issued before, or within LEEWAY
        after it, are refused; the start of the unit, as what was used before it is forgotten.
        """
        return list(self.checking(token, now, nonce, since))[-1]

    def checking(self, token, now, nonce=None, since=0):
        """check() in pieces, between which a loop can do other things: yields None, at last the Grant."""
        self.refused += 1  # until it is found good
        if now is None:
            raise TokenError("the unit does not know the time yet, so it cannot judge a token")
        header, payload, signature = parts = _split(token)
        key = self._key(_header(_decode(header)), now)
        claims = _decode(payload)
        signature = _decode(signature)
        if len(signature) != 64:
            raise TokenError("signature has %d bytes, not 64" % len(signature))
        digest = hashlib.sha256(b".".join(parts[:2])).digest()
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        good = False
        for good in p256.verifying(key.public, digest, r, s):
            yield None
        if not good:
            raise TokenError("signature is not that of the key %r" % key.kid)
        grant = self._grant(_claims(claims), key, now, nonce, since)
        self.refused -= 1
        yield grant

    def _key(self, kid, now):
        for key in self.keys:
            if key.kid == kid:
                if now < key.begins:
                    raise TokenError("key %r is not valid yet" % kid)
                if key.ends is not None and now >= key.ends:
                    raise TokenError("key %r is no longer valid" % kid)
                return key
        raise TokenError("unknown key %r" % kid)

    def _grant(self, claims, key, now, nonce, since):
        audience = claims.get("aud")
        if audience != self.audience and not (isinstance(audience, list) and self.audience in audience):
            raise TokenError("aud: the token is for another unit")
        ends = _seconds(claims, "exp")
        issued = _seconds(claims, "iat")
        if not issued < ends <= issued + _LIFE:
            raise TokenError("exp: not within %d seconds after iat" % _LIFE)
        if now >= ends + LEEWAY:
            raise TokenError("exp: the token has expired")
        if now < issued - LEEWAY:
            raise TokenError("iat: the token was issued in the future, or the unit's clock is slow")
        if "nbf" in claims and now < _seconds(claims, "nbf") - LEEWAY:
            raise TokenError("nbf: the token is not valid yet")
        if since and issued < since + LEEWAY:  # by a clock that is fast it was issued before
            raise TooEarly("iat: the token was issued before the unit's start, or in the minute after it")
        if nonce is not None and claims.get("nonce") != nonce:
            raise TokenError("nonce: not the one the unit gave")
        role = claims.get("role")
        if role not in ROLES:
            raise TokenError("role: must be one of %s" % ", ".join(ROLES))
        if not allowed(key.most, role):
            raise TokenError("role: key %r may grant %s at most" % (key.kid, key.most))
        grant = Grant(_text(claims, "sub"), role, issued, ends, _text(claims, "jti"), key.kid)
        # Remembered for as long as a clock that goes back by LEEWAY, which is let pass, could make it good again.
        self._use((key.kid, grant.jti), ends + 2 * LEEWAY, now)
        return grant

    def _use(self, one, ends, now):
        used = self._used
        if now < self._latest - LEEWAY:
            # What was forgotten since, as it had ended, would be good again.
            raise TokenError("the unit's clock went back: no token is taken until it is right, or the unit restarts")
        self._latest = max(self._latest, now)
        for old in [old for old in used if used[old] <= now]:
            del used[old]
        if one in used:
            raise TokenError("jti: the token was used before")
        if len(used) >= self._room:
            # None may be forgotten before its end: it could be used again.
            raise TokenError("too many tokens within a day")
        used[one] = ends


def _split(token):
    # -> its three parts, bytes, still encoded
    if len(token) > _MOST:
        raise TokenError("token of %d characters, at most %d" % (len(token), _MOST))
    if isinstance(token, str):
        try:
            token = token.encode()
        except UnicodeError:
            raise TokenError("token is not text")
    else:
        token = bytes(token)
    parts = token.split(b".")
    if len(parts) != 3:
        raise TokenError("token does not have three parts")
    return parts


def _decode(part):
    # base64url without padding (RFC 7515, appendix C). Decoders overlook much: so encode again and compare.
    text = part.replace(b"-", b"+").replace(b"_", b"/")
    try:
        data = binascii.a2b_base64(text + b"=" * (-len(part) % 4))
    except ValueError:
        data = b""
    again = binascii.b2a_base64(data)[:-1].rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_")
    if not data or again != part:
        raise TokenError("token is not in base64url without padding")
    return data


def _header(data):
    # -> kid. Anybody may write a header, and JSON readers differ: so only a flat object of plain strings is read here.
    if len(data) > _HEADER:
        raise TokenError("header of %d bytes, at most %d" % (len(data), _HEADER))
    found = {}
    text = data.strip(_BLANK)
    if text[:1] != b"{" or text[-1:] != b"}":
        raise TokenError("header is not a JSON object")
    fields = text[1:-1].split(b'"')
    # "name" : "value" , …  gives: blank, name, colon, value, comma, name, …, blank
    if len(fields) % 4 != 1 or fields[0].strip(_BLANK) or fields[-1].strip(_BLANK):
        raise TokenError("header has something other than plain strings")
    for at in range(1, len(fields), 4):
        name, colon, value, comma = fields[at : at + 4]
        if colon.strip(_BLANK) != b":" or comma.strip(_BLANK) != (b"," if at + 4 < len(fields) else b""):
            raise TokenError("header has something other than plain strings")
        for byte in name + value:
            if not 0x20 <= byte < 0x7F or byte == 0x5C:
                raise TokenError("header has an escape or a character that is not ASCII")
        name = name.decode()
        if name in found:
            raise TokenError("header has %r twice" % name)
        found[name] = value.decode()
    if found.get("alg") != "ES256":
        raise TokenError("alg: only ES256 is accepted")
    if "crit" in found or "b64" in found:
        raise TokenError("crit: no extension is known here")
    if "kid" not in found:
        raise TokenError("kid: missing")
    return found["kid"]


def _claims(payload):
    try:
        claims = json.loads(payload)
    except (ValueError, RuntimeError):  # RuntimeError: nested too deep
        claims = None
    if not isinstance(claims, dict):
        raise TokenError("payload is not a JSON object")
    return claims


def _seconds(claims, name):
    # Whole numbers only: on a chip a float tells times of this size apart by two minutes.
    number = claims.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise TokenError("%s: must be a whole number of seconds" % name)
    return number


def _text(claims, name):
    text = claims.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= _TEXT:
        raise TokenError("%s: must be 1 to %d characters" % (name, _TEXT))
    for c in text:
        # It goes into logs: nothing that moves a cursor, turns the direction of writing, or is no character.
        if not (" " <= c < "\x7f" or "\xa0" <= c < "\u2000" or "\u2070" <= c < "\ud800"):
            raise TokenError("%s: has a character that is not for reading" % name)
    return text
