# What the unit says of itself in `reported`: versions, configuration, network, bus and link, in plain numbers.
from coupler import VERSION


class Health:
    def __init__(self, hal, config, board, boot):
        self._hal = hal
        self._config = config
        self._board = board
        self._cause = hal.reset_cause()
        self._began = hal.ticks_ms()
        self._parts = {}
        self.boot = boot

    def add(self, room, name, stats):
        """stats() -> what is reported under room/name."""
        self._parts.setdefault(room, {})[name] = stats

    def fill(self, room, stats):
        """stats() -> all that is reported under room."""
        self._parts[room] = stats

    def report(self):
        """The reported properties, a dict that JSON can carry."""
        hal = self._hal
        answer = {
            "name": self._config["name"],
            "revision": self._config["rev"],
            "firmware": VERSION,
            "board": self._board.get("name"),
            "runtime": hal.name,
            "boot": self.boot,
            "reset": self._cause,
            "uptime": hal.ticks_diff(hal.ticks_ms(), self._began) // 1000,
            "heap_free": hal.mem_free(),
            "network": hal.network_info(),
        }
        for room, parts in self._parts.items():
            answer[room] = parts() if callable(parts) else {name: stats() for name, stats in parts.items()}
        return answer


class BusFigures:
    """A bus as `reported` shows it: requests and errors, these by kind; its units, and what they refused."""

    def __init__(self, hal, client, poller):
        self._hal = hal
        self._client = client
        self._poller = poller
        self._since = hal.ticks_ms()
        self._busy = 0

    def take(self):
        stats = self._client.stats
        figures = dict(self._poller.stats)
        figures.update(stats)
        figures["kinds"] = stats["errors"]
        figures["errors"] = sum(stats["errors"].values())
        busy = figures.pop("busy_us", None)
        if busy is not None:
            now = self._hal.ticks_ms()
            passed = self._hal.ticks_diff(now, self._since)
            if passed > 0:
                figures["utilisation"] = round((busy - self._busy) / 10 / passed)  # percent, since the last report
            self._since = now
            self._busy = busy
        figures["units"] = self._poller.units()
        if self._poller.holes:
            figures["holes"] = self._poller.holes
        return figures
