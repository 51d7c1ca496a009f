import random

from check import raises
from coupler.store.settings import Settings
from coupler.store.snapshot import MOST, Snapshot
from nor import SECTOR, Nor, PowerCut

_FIRST = 1
_TORN = (0xFF, 0xA5)  # all bits of the last byte, or some


def _copy(flash):
    other = Nor(flash.sectors)
    other.data[:] = flash.data
    return other


def _cuts(flash, change, every=1):
    """Each way in which the power can fail during `change(flash)`, or one of so many: the flash as it is after it."""
    sizes = []
    whole = _copy(flash)
    operation = whole._operation

    def noted(at, new):
        sizes.append(len(new))
        operation(at, new)

    whole._operation = noted
    change(whole)
    n = 0
    for i, size in enumerate(sizes):
        step = 1 if size < SECTOR else 16  # of an erase not each of its bytes
        for within in range(0, size + 1, step):
            for torn in _TORN if within and step == 1 else _TORN[:1]:
                n += 1
                if n % every:
                    continue
                other = _copy(flash)
                other.cut_after(i, within, torn)
                raises(PowerCut, change, other)
                other.power()
                yield other


def test_values_outlive_the_program_and_none_removes_them():
    flash = Nor(4)
    settings = Settings(flash, _FIRST)
    assert settings.get("interval") is None and settings.get("interval", 7) == 7
    settings.update({"interval": 60, "cloud": {"on": True, "names": ["ä", "b"]}})
    settings.set("ratio", 0.5)
    again = Settings(flash, _FIRST)
    assert again.get("interval") == 60 and again.get("ratio") == 0.5
    assert again.get("cloud") == {"on": True, "names": ["ä", "b"]}
    again.update({"interval": None, "never": None})
    assert Settings(flash, _FIRST).get("interval", "gone") == "gone"
    assert settings.damaged == again.damaged == 0
    assert flash.erases[0] == flash.erases[3] == 0, "the neighbours' sectors"


def test_what_does_not_change_is_not_written():
    flash = Nor(4)
    settings = Settings(flash, _FIRST)
    settings.update({"a": 1, "b": [1, 2]})
    done = flash.operations
    settings.update({"b": [1, 2], "a": 1, "none": None})
    Settings(flash, _FIRST).update({"b": [1, 2]})
    settings.update({})
    assert flash.operations == done
    changed = settings.get("b")
    changed.append(3)
    settings.set("b", changed)
    assert Settings(flash, _FIRST).get("b") == [1, 2, 3]


def test_too_much_is_refused_and_nothing_changes():
    flash = Nor(4)
    settings = Settings(flash, _FIRST)
    settings.set("a", 1)
    done = flash.operations
    error = raises(ValueError, settings.update, {"a": 2, "long": "x" * 2000})
    assert "long" in str(error) and "at most 2000" in str(error)
    assert flash.operations == done
    assert settings.get("a") == 1 and settings.get("long") is None
    settings.set("long", "x" * 1900)
    assert len(settings.get("long")) == 1900


def test_erases_are_few_and_even():
    flash = Nor(4)
    settings = Settings(flash, _FIRST)
    for i in range(1000):
        settings.set("count", i)
    assert abs(flash.erases[1] - flash.erases[2]) <= 1
    assert sum(flash.erases) < 2 * 1000 * 32 // SECTOR + 2, "each is written twice"
    assert Settings(flash, _FIRST).get("count") == 999


def test_a_sector_that_is_no_snapshots_at_all_is_taken():
    flash = Nor(4)
    flash.program(SECTOR, bytes(range(256)) * 32)
    settings = Settings(flash, _FIRST)
    assert settings.damaged == 2
    settings.set("a", 1)
    assert Settings(flash, _FIRST).get("a") == 1


def test_content_of_any_length_and_any_bytes():
    flash = Nor(3)
    kept = Snapshot(flash, 0, 3)
    for size in (0, 1, 2, 3, 4, 5, 127, 128, 129, 255, 4083, MOST, 1, MOST, 300, 3000):
        for data in (b"\xff" * size, bytes(size), (b"\xfeS\x04\x00" * (size // 4 + 1))[:size]):
            kept.save(data)
            assert kept.load() == data
            again = Snapshot(flash, 0, 3)
            assert again.load() == data and again.damaged == 0
    raises(ValueError, kept.save, bytes(MOST + 1))
    assert max(flash.erases) - min(flash.erases) <= 1


def _fill(flash, n):
    """Until the sector in use has no room for another one."""
    while True:
        trial = _copy(flash)
        Settings(trial, 0).update({"a": "%d" % n * 40, "n": n})
        if sum(trial.erases):
            return n - 1
        flash.data[:] = trial.data
        n += 1


def test_power_may_fail_at_any_byte_of_any_flash_operation():
    flash = Nor(2)
    old = {"a": None, "n": None}
    cuts = 0
    for n in (1, 2, 100, 101, 200, 201):
        if n in (100, 200):
            n = _fill(flash, n) + 1
            old = {"a": "%d" % (n - 1) * 40, "n": n - 1}
        new = {"a": "%d" % n * 40, "n": n}

        def change(it):
            Settings(it, 0).update(new)

        outcomes = set()
        for torn in _cuts(flash, change):
            cuts += 1
            settings = Settings(torn, 0)
            found = {key: settings.get(key) for key in ("a", "n")}
            assert found in (old, new), (n, found)
            outcomes.add(found == new)
            if cuts % 16 == 0:
                settings.update({"c": 1})
                again = Settings(torn, 0)
                assert again.get("c") == 1 and again.get("n") == found["n"], "it goes on"
        assert outcomes == {False, True}, "new already when only the last byte was cut"
        change(flash)
        old = new
    assert cuts > 1800
    assert flash.erases == [2, 1], "both sectors had their turn"


def test_power_may_fail_again_while_it_recovers():
    flash = Nor(2)
    n = _fill(flash, 100) + 1

    def change(it):
        Settings(it, 0).update({"a": "y" * 40, "n": n})

    for torn in _cuts(flash, change, 29):
        found = Settings(torn, 0).get("n")
        for again in _cuts(torn, change, 31):
            assert Settings(again, 0).get("n") in (found, n)


def test_a_flipped_bit_is_counted_and_brings_no_old_choice_back():
    flash = Nor(4)
    for i in range(3):
        Settings(flash, _FIRST).set("n", i)
    size = len('{"n": 0}') + 12
    begin = SECTOR + 5 * size
    for at in range(begin, begin + size):
        for bit in range(8):
            torn = _copy(flash)
            torn.flip(at, bit)
            settings = Settings(torn, _FIRST)
            assert settings.get("n") == 2, (at, bit)
            assert settings.damaged == 1
            settings.set("n", 7)
            assert Settings(torn, _FIRST).get("n") == 7
    settings = Settings(flash, _FIRST)
    flash.flip(begin + 15, 3)
    assert settings.get("n") == 2 and settings.damaged == 1, "also while it runs"


def test_flips_anywhere_never_make_up_a_value():
    random.seed(5)
    flash = Nor(4)
    written = []
    for i in range(60):
        written.append({"n": i, "text": "%d" % random.getrandbits(20) * 9})
        Settings(flash, _FIRST).update(written[-1])
    for _ in range(300):
        torn = _copy(flash)
        for _ in range(random.choice((1, 2, 30, 300))):
            torn.flip(random.getrandbits(13) % (2 * SECTOR) + SECTOR, random.getrandbits(3))
        settings = Settings(torn, _FIRST)
        n = settings.get("n")
        assert n is None or {"n": n, "text": settings.get("text")} == written[n]
        settings.set("n", 1000)
        assert Settings(torn, _FIRST).get("n") == 1000


def test_a_worn_sector_is_passed_over():
    flash = Nor(4)
    settings = Settings(flash, _FIRST)
    settings.set("n", 1)
    operation = flash._operation

    def worn(at, new):
        operation(at, new)
        if at // SECTOR == 1 and len(new) < SECTOR:
            flash.flip(at, 0)

    flash._operation = worn
    settings.set("n", 2)
    assert Settings(flash, _FIRST).get("n") == 2 and flash.erases[2] == 1

    def dead(at, new):
        operation(at, new)
        flash.flip(at, 0)

    flash._operation = dead
    for _ in range(3):
        raises(OSError, settings.set, "n", 3)
        assert Settings(flash, _FIRST).get("n") == 2, "the last one that is whole stays"
    flash._operation = operation
    settings.set("n", 3)
    assert Settings(flash, _FIRST).get("n") == 3


def test_it_is_like_a_dict_that_survives_everything():
    random.seed(11)
    flash = Nor(2)
    model = {}
    settings = Settings(flash, 0)
    cuts = 0
    for _ in range(800):
        changes = {}
        for _ in range(random.choice((1, 1, 2, 3))):
            value = random.choice((None, random.getrandbits(30), "t" * random.getrandbits(6), [1, {"x": True}]))
            changes["k%d" % random.getrandbits(3)] = value
        after = dict(model)
        for key, value in changes.items():
            if value is None:
                after.pop(key, None)
            else:
                after[key] = value
        if random.getrandbits(2) == 0:
            flash.cut_after(random.getrandbits(1), random.getrandbits(7), random.getrandbits(8))
        try:
            settings.update(changes)
            model = after
        except PowerCut:
            cuts += 1
            flash.power()
            settings = Settings(flash, 0)
            found = {key: settings.get(key) for key in ("k%d" % i for i in range(8)) if settings.get(key) is not None}
            assert found in (model, after)
            model = found
        flash.power()
        if random.getrandbits(3) == 0:
            settings = Settings(flash, 0)
        for i in range(8):
            assert settings.get("k%d" % i) == model.get("k%d" % i)
    assert cuts > 100
    assert abs(flash.erases[0] - flash.erases[1]) <= cuts
