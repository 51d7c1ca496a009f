class Refused(Exception):
    """A wish that is not granted: status as in HTTP (400, 403, 404, 409, 429, 504), text for a person."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status
