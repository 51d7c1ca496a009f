class NetError(Exception):
    """No connection, or no more. kind: dns tcp tls-clock tls-authority tls-name tls-refused tls timeout closed."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind
        self.text = text
