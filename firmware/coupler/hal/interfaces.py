# Several ways into the network, in the order of preference.
#
# Those before the one in use stay active, for only so they show that they are back. Those behind it are not touched:
# a Wi-Fi that was never needed takes no heap.
from coupler.const import const
from coupler.hal.interface import Interface

_WAIT_MS = const(15000)


def _make(net, board):
    try:
        return Interface(net, board)
    except (OSError, ValueError) as e:  # its controller does not answer: the others are there for that
        print("kobler: %s: %s" % (net["kind"], e))
        return _Missing(net["kind"])


class _Missing:
    # In the place of an interface that cannot be made; until a restart.

    def __init__(self, kind):
        self._kind = kind

    async def up(self, hal, wait_ms):
        await hal.sleep_ms(wait_ms)
        return False

    def connected(self):
        return False

    def down(self):
        pass

    def info(self):
        none = "0.0.0.0"
        return {"kind": self._kind, "ip": none, "mask": none, "gateway": none, "dns": [], "mac": ""}


class Interfaces:
    """net: the configuration's part, with `fallback`. To be used as an Interface."""

    def __init__(self, net, board):
        self._nets = [net] + net["fallback"]
        self._board = board
        self._active = [_make(net, board)]  # the last one is in use
        self._lost = None  # ticks since which it has no address
        self._better = None  # a preferred one that has an address again,
        self._since = 0  # ticks since which

    async def up(self, hal):
        """True when the one in use has an address; else False within 15 s, and another may be in use then."""
        self._return(hal)
        active = self._active
        nets = self._nets
        while True:
            now = hal.ticks_ms()
            lost = now if self._lost is None else self._lost
            wait = _WAIT_MS
            last = len(active) == len(nets)
            if not last:
                wait = min(wait, max(0, nets[len(active)]["after"] - hal.ticks_diff(now, lost)))
            try:
                up = await active[-1].up(hal, wait)
            except OSError as e:  # of a driver, and no reason not to try the others
                up = False
                print("kobler: %s: %s" % (nets[len(active) - 1]["kind"], e))
            self._lost = None if up else lost
            if up or last or hal.ticks_diff(hal.ticks_ms(), lost) < nets[len(active)]["after"]:
                return up
            net = nets[len(active)]
            print("kobler: no %s; trying %s" % (nets[len(active) - 1]["kind"], net["kind"]))
            active.append(_make(net, self._board))
            self._lost = None

    def info(self):
        return self._active[-1].info()

    def _return(self, hal):
        # To a preferred one, once it has been up for as long as the others had to wait for their turn; at once if the
        # one in use is down.
        active = self._active
        now = hal.ticks_ms()
        for i in range(len(active) - 1):
            if active[i].connected():
                if self._better != i:
                    self._better = i
                    self._since = now
                stable = hal.ticks_diff(now, self._since) >= self._nets[i + 1]["after"]
                if stable or not active[-1].connected():
                    print("kobler: back to %s" % self._nets[i]["kind"])
                    while len(active) > i + 1:
                        active.pop().down()
                    self._better = self._lost = None
                return
        self._better = None
