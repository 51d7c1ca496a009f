"""Finding the units of a bus, while its poller waits for its turn."""

from bus_fakes import Hal, Port, registers, run
from coupler.bus.client import Client
from coupler.bus.scan import scan

OWN = (19200, "even", 1)


class World:
    """Units whose registers hold their address; `after`: unit -> milliseconds until it answers."""

    def __init__(self, **after):
        self.hal = Hal()
        self.after = {int(name[1:]): ms for name, ms in after.items()}
        self.port = Port(self.hal, self.answer)
        self.port.line = OWN
        self.port.set_line = self.set_line
        self.client = Client(self.port, self.hal)
        self.lines = []

    def set_line(self, *line):
        self.lines.append(line)
        self.port.line = line

    def answer(self, request):
        ms = self.after.get(request[0])
        if ms is None:
            return []
        return [(ms, registers(request[0], 3, request[2] << 8 | request[3]))]

    def scan(self, *args):
        return run(scan(self.client, self.hal, *args))


def test_what_answers_is_found_and_the_line_is_restored():
    world = World(u3=5, u7=5)
    assert world.scan((9600, "none", 2), 1, 9, 50, lambda: False) == ([3, 7], 10)
    assert world.lines == [(9600, "none", 2), OWN] and world.client._free == 1
    assert world.scan(OWN, 1, 9, 50, lambda: world.port.count >= 12) == ([3], 4)


def test_an_answer_that_comes_after_the_scan_is_not_taken_for_the_pollers():
    world = World(u5=120)
    assert world.scan(OWN, 5, 5, 50, lambda: False) == ([], 6)
    assert bytes(run(world.client.read(5, 3, 100, 1, 500))) == b"\0\x64"
