class NetError(Exception):
    """No connection, or no more. kind: dns tcp tls-clock tls-authority tls-name tls-refused tls timeout closed."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind
        self.text = text


def closed_early(where, known):
    """The peer closed during the TLS handshake; known: after its certificate had been seen.

    Many servers (every asyncio one) refuse a client certificate without a word, so from there on it is a refusal."""
    if known:
        return NetError("tls-refused", "%s refused this unit's certificate: it closed the connection" % where)
    return NetError("closed", "%s closed the connection during the TLS handshake" % where)
