# Why a TLS handshake failed, in words; loaded when one has.
from coupler import RELEASED_MS
from coupler.const import const
from coupler.net.errors import NetError

_YEAR_MS = const(31556952000)
_NOT_ACCEPTED = {  # as mbedTLS puts it
    "signed by": ("tls-authority", "its certificate is signed by no authority that this unit trusts"),
    "Common Name": ("tls-name", "its certificate is for another name"),
    "expired": ("tls-clock", "its certificate has expired"),
    "future": ("tls-clock", "its certificate is not yet valid"),
}


def fault(where, cause, known, detail, today):
    """The NetError for it. cause: what is wrong with the peer's certificate (a key of _NOT_ACCEPTED, or "certificate",
    in detail), "refused" (by an alert), "closed", "tls" (else, in detail). known: its certificate had been seen.
    today: by this unit's clock, (year, month, day, ...)."""
    if cause in _NOT_ACCEPTED:
        kind, text = _NOT_ACCEPTED[cause]
        if kind == "tls-clock":
            clock = "this unit's clock says %04d-%02d-%02d" % tuple(today[:3])
            if today[0] < 1970 + RELEASED_MS // _YEAR_MS:
                text = "its certificate cannot be judged, for the clock is not set"
            text = "%s: %s" % (text, clock)
        return NetError(kind, "%s: %s" % (where, text))
    if cause == "certificate":
        return NetError("tls-authority", "%s: its certificate was not accepted: %s" % (where, detail))
    if cause == "tls":
        return NetError("tls", "%s: %s" % (where, detail))
    # Many servers (every asyncio one) refuse a client certificate without a word. Their own comes first, so from
    # there on it is a refusal.
    if known:
        how = detail or ("by a TLS alert" if cause == "refused" else "it closed the connection")
        why = "is it revoked, expired, or of an authority that is not known there?"
        return NetError("tls-refused", "%s refused this unit's certificate (%s): %s" % (where, how, why))
    if cause == "refused":
        return NetError("tls-refused", "%s refused the handshake: %s" % (where, detail or "a TLS alert"))
    return NetError("closed", "%s closed the connection during the TLS handshake" % where)
