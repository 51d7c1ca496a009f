from coupler.store.names import Names
from journal_world import Point
from nor import Nor, PowerCut


def points(n, tag="p"):
    return [Point("field/meter/%s%d" % (tag, i), "W" if i % 2 else None, i % 3 == 0) for i in range(n)]


def rows(found):
    return found and [(point.name, point.unit, point.history) for point in found]


def test_the_same_points_keep_their_number_and_others_get_a_new_one():
    flash = Nor(8)
    assert Names(flash, 2, 4).keep(points(100), 0) == 1
    assert Names(flash, 2, 4).keep(points(100), 1) == 1
    assert Names(flash, 2, 4).keep(points(3), 1) == 2
    assert Names(flash, 2, 4).keep(points(100), 2) == 3
    names = Names(flash, 2, 4)
    assert rows(names.load(1)) == rows(names.load(3)) == rows(points(100)) and rows(names.load(2)) == rows(points(3))
    assert names.load(4) is None
    assert max(flash.erases) == 0 and flash.data[: 2 * 4096] == b"\xff" * 8192, "in its own sectors"


def test_a_number_that_the_journal_has_is_never_given_to_other_points():
    flash = Nor(4)
    assert Names(flash, 0, 4).keep(points(3), 17) == 18
    assert Names(flash, 0, 4).keep(points(3), 17) == 19, "17 may have been others"


def test_the_ring_forgets_the_oldest():
    flash = Nor(4)
    number = 0
    for i in range(60):
        number = Names(flash, 0, 4).keep(points(20, "q%d-" % i), number)
    names = Names(flash, 0, 4)
    assert number == 60 and names.load(1) is None
    for i in range(50, 61):
        assert rows(names.load(i)) == rows(points(20, "q%d-" % (i - 1)))
    assert max(flash.erases) - min(flash.erases) <= 1


def test_a_power_cut_anywhere_leaves_the_old_and_then_makes_the_new():
    for cut in range(20):
        for within in (0, 1, 5, 100, 255):
            flash = Nor(4)
            Names(flash, 0, 4).keep(points(5), 0)
            flash.cut_after(cut, within)
            try:
                Names(flash, 0, 4).keep(points(60, "new"), 1)
            except PowerCut:
                pass
            flash.power()
            assert rows(Names(flash, 0, 4).load(1)) == rows(points(5))
            number = Names(flash, 0, 4).keep(points(60, "new"), 1)
            assert number > 1 and rows(Names(flash, 0, 4).load(number)) == rows(points(60, "new"))
