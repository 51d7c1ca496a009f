from bus_fakes import Hal, Port, frame, registers, run
from check import raises, tidy
from coupler.bus.client import Client
from coupler.bus.poller import Poller


def unit(number, *blocks, **options):
    cfg = {"id": number, "name": "u%d" % number, "timeout": 500, "blocks": list(blocks)}
    cfg.update(options)
    return cfg


def block(address=0, ms=1000, fc=4, n=1):
    return {"fc": fc, "a": address, "n": n, "ms": ms, "p": []}


def bus(*units):
    return {"name": "field", "kind": "rtu", "baud": 19200, "parity": "even", "stop": 1, "units": list(units)}


class World:
    """Servers whose registers hold their address. Polls are noted as (ms, unit, address, error)."""

    def __init__(self, cfg, alive=(), answers=None):
        self.hal = Hal()
        self.alive = set(alive)
        self.answers = answers or {}
        self.polls = []
        self.port = Port(self.hal, self.answer)
        self.client = Client(self.port, self.hal)
        self.poller = Poller(self.client, cfg, self.hal, self.on_block, self.split)
        self.begin = self.hal.us

    def answer(self, request):
        number, address, count = request[0], request[2] << 8 | request[3], request[5]
        if number in self.answers:
            answer = self.answers[number]
            if callable(answer):
                answer = answer(request, address, count)
            return [(10, answer)]
        if number in self.alive:
            return [(10, registers(number, request[1], *range(address, address + count)))]
        return []

    def on_block(self, unit_cfg, block_cfg, data, error):
        if data is not None:
            assert data[0] << 8 | data[1] == block_cfg["a"]
        self.polls.append((self.ms(), unit_cfg["id"], block_cfg["a"], error.quality if error else None))

    def split(self, cfg):
        """At the widest gap between points, which are addresses here."""
        points = cfg["p"]
        if len(points) < 2:
            return None
        middle = len(points) // 2
        half = max(range(1, len(points)), key=lambda i: (points[i] - points[i - 1], -abs(i - middle)))
        return [dict(cfg, a=p[0], n=p[-1] - p[0] + 1, p=p) for p in (points[:half], points[half:])]

    def ms(self):
        return (self.hal.us - self.begin) // 1000

    def run(self, ms):
        self.polls = []
        end = self.hal.us + 1000 * ms
        while self.hal.us < end:
            run(self.poller.step())
            if self.port.count % 64 == 0:
                tidy()  # else what is kept here is strewn all over the heap
        return self.polls


def test_every_block_is_read_at_once_and_then_in_its_period():
    world = World(bus(unit(1, block(0), block(10, 5000)), unit(2, block(20, 500))), (1, 2))
    first = world.run(60)
    assert sorted([poll[2] for poll in first]) == [0, 10, 20]
    polls = world.run(20000)
    for address, ms in ((0, 1000), (10, 5000), (20, 500)):
        times = [poll[0] for poll in polls if poll[2] == address]
        assert abs(len(times) - 20000 // ms) <= 1
        gaps = [b - a for a, b in zip(times, times[1:])]
        assert all([abs(gap - ms) <= 30 for gap in gaps]), (address, gaps)
    assert world.poller.stats["late"] == 0


def test_blocks_of_one_period_are_spread_over_it():
    world = World(bus(unit(1, *[block(10 * i) for i in range(10)])), (1,))
    world.run(1000)
    times = [poll[0] for poll in world.run(1000)]
    assert len(times) == 10
    assert max([b - a for a, b in zip(times, times[1:])]) < 130


def test_a_dead_unit_never_starves_the_others():
    live = [unit(number, block(number, 200)) for number in range(1, 4)]
    dead = [unit(number, block(number, 200), block(number + 100, 200)) for number in range(10, 30)]
    world = World(bus(*(live + dead)), (1, 2, 3))
    polls = world.run(20000)
    assert len([poll for poll in polls if poll[3] is None]) >= 0.45 * 3 * 20000 / 200, "not even at the start"
    world.run(300000)  # until each has failed twice
    for _ in range(4):
        polls = world.run(30000)
        assert sum([poll[3] == "timeout" for poll in polls]) * 500 <= 2 * 0.05 * 30000, "each has two blocks"
    for _ in range(4):
        polls = world.run(30000)
        # A twentieth of the time goes to the dead, during which those alive miss their turns.
        assert len([poll for poll in polls if poll[3] is None]) >= 0.94 * 3 * 30000 / 200
    world.run(60000)
    assert world.poller.stats["silent"] == 20
    probed = set()
    for _ in range(9):
        probed.update([poll[1] for poll in world.run(30000) if poll[3] == "timeout"])
    assert len(probed) == 20, "each is still probed"


def test_a_silent_unit_is_probed_with_one_block_at_growing_intervals_and_all_its_blocks_are_failed():
    world = World(bus(unit(1, block(0), block(10), block(20))))
    polls = world.run(300000)
    assert set([poll[2] for poll in polls]) == {0, 10, 20}
    starts = sorted(set([poll[0] for poll in polls]))
    gaps = [b - a for a, b in zip(starts, starts[1:])]
    assert gaps[-1] >= 60000 and len(starts) < 20
    assert world.port.count == len(starts)
    assert [poll[3] for poll in polls if poll[0] == starts[-1]] == ["timeout"] * 3


def test_a_unit_that_comes_back_is_read_in_full_at_its_next_probe():
    world = World(bus(unit(1, block(0), block(10)), unit(2, block(50))), (2,))
    world.run(30000)
    world.alive.add(1)
    world.run(61000)
    assert world.poller.stats["silent"] == 0
    polls = world.run(10000)
    assert len([poll for poll in polls if poll[1] == 1]) >= 19
    assert all([poll[3] is None for poll in polls])


def test_one_lost_answer_costs_one_reading():
    world = World(bus(unit(1, block(0))), (1,))
    world.run(5000)
    world.alive.clear()
    world.run(1000)
    world.alive.add(1)
    polls = world.run(10000)
    assert len([poll for poll in polls if poll[3] is None]) >= 8


def test_a_unit_that_answers_exceptions_is_alive_and_read_in_its_period():
    world = World(bus(unit(1, block(0))), answers={1: frame(1, 0x84, 6)})
    polls = world.run(10000)
    assert len(polls) >= 10 and set([poll[3] for poll in polls]) == {"exception:6"}
    assert world.poller.stats["silent"] == 0


def hole(*missing):
    """A server that refuses what touches one of these addresses."""

    def answer(request, address, count):
        if [one for one in missing if address <= one < address + count]:
            return frame(request[0], request[1] | 0x80, 2)
        return registers(request[0], request[1], *range(address, address + count))

    return answer


def test_a_block_with_a_hole_is_divided_until_every_register_that_is_there_is_read():
    cfg = block(0, n=20)
    cfg["p"] = [0, 1, 4, 8, 19]
    world = World(bus(unit(1, cfg, block(40))), answers={1: hole(5, 6, 12)})
    polls = world.run(3000)
    assert all([poll[3] is None for poll in polls]), "a refusal that can be mended is nobody's failure"
    assert set([poll[2] for poll in world.run(2000)]) == {0, 8, 19, 40}
    assert world.poller.holes == [
        "u1: function 4, address 9, count 10",
        "u1: function 4, address 5, count 3",
    ]
    assert world.poller.stats["silent"] == 0


def test_a_point_that_is_not_there_costs_only_itself_and_is_asked_for_once_a_minute():
    cfg = block(0, n=4)
    cfg["p"] = [0, 1, 2, 3]
    world = World(bus(unit(1, cfg)), answers={1: hole(2)})
    world.run(1000)
    polls = world.run(120000)
    bad = [poll for poll in polls if poll[3]]
    assert 1 <= len(bad) <= 3 and set([poll[2] for poll in bad]) == {2}
    assert len(polls) >= 2 * 115
    assert "u1: function 4, address 2, count 1" in world.poller.holes


def test_a_device_that_refuses_everything_is_divided_a_bounded_number_of_times():
    cfg = block(0, n=100)
    cfg["p"] = list(range(100))
    world = World(bus(unit(1, cfg)), answers={1: hole(*range(100))})
    world.run(5000)
    assert len(world.poller._blocks) <= 40
    assert len(world.run(60000)) <= 80


def test_a_unit_that_needs_a_pause_gets_it_while_others_are_read():
    world = World(bus(unit(1, block(0, 100), block(10, 100), pause=400), unit(2, block(20, 100))), (1, 2))
    world.run(2000)
    polls = world.run(10000)
    slow = [poll[0] for poll in polls if poll[1] == 1]
    assert min([b - a for a, b in zip(slow, slow[1:])]) >= 400
    assert len(slow) >= 22 and set([poll[2] for poll in polls]) == {0, 10, 20}
    assert len(polls) - len(slow) >= 95


def test_figures_of_each_unit():
    world = World(bus(unit(1, block(0)), unit(2, block(50))), (1,))
    world.run(10000)
    requests, errors, least, mean, most = world.poller.units()["u1"]
    assert requests >= 9 and errors == 0 and 10 <= least <= mean <= most <= 25
    requests, errors, least, mean, most = world.poller.units()["u2"]
    assert requests == errors and (least, mean, most) == (0, 0, 0)


def test_under_overload_every_block_gets_its_turn_and_what_was_missed_is_counted():
    world = World(bus(unit(1, *[block(10 * i, 50) for i in range(10)])), (1,))
    polls = world.run(10000)
    counts = {}
    for poll in polls:
        counts[poll[2]] = counts.get(poll[2], 0) + 1
    assert len(counts) == 10 and max(counts.values()) - min(counts.values()) <= 1
    missed = world.poller.stats["late"]
    assert abs(missed + len(polls) - 10 * 10000 // 50) <= 20


def test_the_bus_is_busy_all_the_time_when_there_is_always_something_due():
    world = World(bus(unit(1, *[block(10 * i, 50) for i in range(10)])), (1,))
    polls = world.run(10000)
    one = 8 * 0.573 + 10
    assert len(polls) >= 0.97 * 10000 / one


def test_a_broken_plan_is_refused_with_the_name_of_the_field():
    good = bus(unit(1, block(0)))
    hal = Hal()
    Poller(Client(Port(hal, None), hal), good, hal, None, None)
    for change, path in (
        (lambda b: b.update(kind="udp"), "bus[3].kind"),
        (lambda b: b.update(units=None), "bus[3].units"),
        (lambda b: b["units"].append(7), "bus[3].units[1]"),
        (lambda b: b["units"][0].update(id=0), "bus[3].units[0].id"),
        (lambda b: b["units"][0].update(id=True), "bus[3].units[0].id"),
        (lambda b: b["units"][0].update(timeout="500ms"), "bus[3].units[0].timeout"),
        (lambda b: b["units"][0]["blocks"][0].update(fc=5), "bus[3].units[0].blocks[0].fc"),
        (lambda b: b["units"][0]["blocks"][0].update(n=126), "bus[3].units[0].blocks[0].n"),
        (lambda b: b["units"][0]["blocks"][0].update(a=65536), "bus[3].units[0].blocks[0].a"),
        (lambda b: b["units"][0]["blocks"][0].pop("ms"), "bus[3].units[0].blocks[0].ms"),
        (lambda b: b["units"][0].update(blocks=[None]), "bus[3].units[0].blocks[0]"),
    ):
        broken = bus(unit(1, block(0)))
        change(broken)
        error = raises(ValueError, lambda: Poller(Client(Port(hal, None), hal), broken, hal, None, None, "bus[3]"))
        assert str(error).startswith(path), (path, str(error))


def test_a_bus_without_blocks_only_sleeps():
    hal = Hal()
    run(Poller(Client(Port(hal, None), hal), bus(unit(1)), hal, None, None).step())
