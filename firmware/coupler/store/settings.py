# What the unit is to remember of its own and of its owner's choices: few small values, changed seldom, all or nothing.
# Nothing of it stays in memory between two calls.
import json

from coupler.const import const
from coupler.store.snapshot import Snapshot

_MOST = const(2000)  # bytes of JSON: two fit in a sector, and so does what they take of the heap for a moment


class Settings:
    """Values that JSON has, by name, in `count` sectors of the flash from `first` on."""

    def __init__(self, flash, first, count=2):
        self._snapshot = Snapshot(flash, first, count)

    @property
    def damaged(self):
        """Places in the flash that hold no whole snapshot: what a power cut or a flipped bit has left."""
        return self._snapshot.damaged

    def get(self, key, default=None):
        return self._load().get(key, default)

    def set(self, key, value):
        self.update({key: value})

    def update(self, changes):
        """All of them or none, durable when it returns; None removes a key. ValueError: too much, or no JSON."""
        content = self._load()
        before = json.dumps(content)
        for key, value in changes.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        text = json.dumps(content)
        if text == before:
            return
        try:
            json.loads(text)  # MicroPython writes anything, NaN and objects too
        except ValueError:
            raise ValueError("settings: %s: a value that JSON has not" % ", ".join(changes))
        data = text.encode()
        if len(data) > _MOST:
            raise ValueError("settings: %s: %d bytes in all, at most %d" % (", ".join(changes), len(data), _MOST))
        for _ in range(2):  # so that one flipped bit does not bring an old choice back
            self._snapshot.save(data)

    def _load(self):
        # Any bytes will do, on all three interpreters.
        return json.loads(self._snapshot.load() or b"{}")  # pyright: ignore[reportArgumentType]
