class ProtocolError(Exception):
    """The peer broke, or refused, a protocol. kind: http websocket mqtt mqtt-refused; code: of the WebSocket close."""

    def __init__(self, kind, text, code=1002):
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.code = code
