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
            answer[room] = {name: stats() for name, stats in parts.items()}
        return answer
