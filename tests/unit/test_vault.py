import random

from check import raises
from coupler.store.layout import layout
from coupler.store.snapshot import Snapshot
from coupler.trust import switch, vault
from nor import SECTOR, Nor, PowerCut

_SECTORS = 32
_PATHS = switch.IDENTITY


class Hal:
    """Files that change in one step, each a flash operation of its own beside those of the raw flash."""

    def __init__(self, files, nor):
        self.files = files
        self.nor = nor

    def again(self):
        nor = Nor(_SECTORS)
        nor.data[:] = self.nor.data
        return Hal(dict(self.files), nor)

    def flash(self):
        return self.nor

    def read_file(self, path):
        return self.files.get(path)

    def write_file(self, path, data):
        self.nor._operation(0, b"")
        self.files[path] = bytes(data)

    def remove(self, path):
        self.nor._operation(0, b"")
        self.files.pop(path, None)


def _identity(n):
    """Three files; their lengths are not multiples of four, and their ends are like blank flash."""
    return dict((path, bytes([n + i]) * (31 + i) + b"\xff" * (i + 1)) for i, path in enumerate(_PATHS))


def _put(hal, files):
    """As a switch does."""
    for path, data in files.items():
        hal.write_file(switch.STAGED[path], data)
    switch.begin(hal, files)
    assert switch.finish(hal) == []


def _unit(*identities):
    hal = Hal({}, Nor(_SECTORS))
    for one in identities:
        _put(hal, one)
    return hal


def _has(hal, identity):
    return all(hal.files.get(path) == data for path, data in identity.items())


def _vault_sector():
    return layout(_SECTORS)["vault"][0]


def _recovered(hal, identity):
    """Boots; the identity is whole in both places after it."""
    found = switch.recover(hal)
    assert _has(hal, identity)
    assert switch.recover(hal) == "clean"
    bare = hal.again()
    bare.files.clear()
    assert switch.recover(bare) == "restored" and _has(bare, identity)
    assert bytes(bare.files["/etc/identity"]) == hal.files["/etc/identity"]
    return found


def _der(size, n):
    return b"\x30\x82" + (size - 4).to_bytes(2, "big") + bytes([n]) * (size - 4)


def _chained(*sizes):
    """An identity with a certificate and those between it and its authority of so many bytes."""
    key, cert, ca = _PATHS
    return {key: b"k" * 121, cert: b"".join([_der(size, i) for i, size in enumerate(sizes)]), ca: _der(1300, 77)}


def test_certificates_that_lead_to_the_authority_are_in_the_vault_as_far_as_there_is_room():
    room = vault.ROOM - 121 - 1300 - 1000
    for sizes, kept in (
        ((1000,), 1),
        ((1000, 500, 600), 3),
        ((1000, room), 2),
        ((1000, room + 1), 1),
        ((1000, 600, room - 600), 3),
        ((1000, 600, room - 599), 2),
        ((1000, room - 599, 600, 4), 2),
    ):
        identity = _chained(*sizes)
        hal = _unit(_identity(1), identity)
        assert _has(hal, identity) and switch.recover(hal) == "clean" and _has(hal, identity)
        # without its files, or with a damaged one, it has what is in the vault
        for spoil in _PATHS:
            bare = hal.again()
            bare.files[spoil] = bare.files[spoil][:-1] + b"?"
            assert switch.recover(bare) == "restored" and _has(bare, _chained(*sizes[:kept]))
            assert switch.recover(bare) == "clean"
        bare = hal.again()
        bare.files.clear()
        assert switch.recover(bare) == "restored" and _has(bare, _chained(*sizes[:kept]))
        # and the vault what is in the files
        fresh = Hal(dict(hal.files), Nor(_SECTORS))
        assert switch.recover(fresh) == "clean" and _has(fresh, identity)
        fresh.files.clear()
        assert switch.recover(fresh) == "restored" and _has(fresh, _chained(*sizes[:kept]))


def test_the_room_for_authorities_is_what_the_unit_s_own_certificate_leaves():
    for sizes in ((800,), (800, 700, 600)):
        assert vault.room(_chained(*sizes)[switch.CERT]) == vault.ROOM - 121 - 864
    assert vault.room(None) == vault.ROOM - 1321


def test_a_unit_without_an_identity_writes_nothing():
    hal = _unit()
    hal.files[switch.CONFIG] = b"{}"
    assert switch.recover(hal) == "clean"
    assert hal.nor.operations == 0 and list(hal.files) == [switch.CONFIG]


def test_a_whole_identity_is_only_looked_at():
    hal = _unit(_identity(1))
    done = hal.nor.operations
    for _ in range(3):
        assert switch.recover(hal) == "clean"
    _put(hal, {switch.CONFIG: b"{}"})
    assert hal.nor.erases[_vault_sector()] == 1 and hal.nor.operations == done + 5, "a configuration is no identity"


def test_the_first_boot_after_an_update_fills_the_vault():
    hal = Hal(_identity(1), Nor(_SECTORS))
    assert _recovered(hal, _identity(1)) == "clean"


def test_the_files_are_restored_when_the_file_system_is_new():
    hal = _unit(_identity(1), _identity(5))
    hal.files.clear()
    assert _recovered(hal, _identity(5)) == "restored"


def test_a_file_that_is_gone_or_flipped_is_restored():
    for path in _PATHS:
        for spoil in (None, b"", 0, 13):
            hal = _unit(_identity(1), _identity(5))
            if spoil is None:
                del hal.files[path]
            elif spoil == b"":
                hal.files[path] = b""
            else:
                data = bytearray(hal.files[path])
                data[spoil] ^= 4
                hal.files[path] = bytes(data)
            assert _recovered(hal, _identity(5)) == "restored"


def test_a_lost_or_flipped_digest_is_made_again():
    for digest in (None, b"", bytes(32)):
        hal = _unit(_identity(1))
        hal.files["/etc/identity"] = digest
        assert _recovered(hal, _identity(1)) == "clean"


def test_a_lost_digest_takes_nothing_away_that_the_vault_has_no_room_for():
    identity = _chained(1000, 900, 1200, 700)
    for digest in (None, b"", b"half of it"):
        hal = _unit(identity)
        hal.files["/etc/identity"] = digest
        assert switch.recover(hal) == "clean" and _has(hal, identity)
        assert switch.recover(hal) == "clean"
    # A digest of other files says that one of them is not what it was, and here that may be what the vault lacks.
    hal = _unit(identity)
    hal.files[switch.CERT] = hal.files[switch.CERT][:-1] + b"?"
    assert switch.recover(hal) == "restored" and _has(hal, _chained(1000, 900))


def test_a_vault_that_lost_the_newest_set_never_brings_the_old_one_back():
    hal = _unit(_identity(1), _identity(5))
    kept = Snapshot(hal.nor, *layout(_SECTORS)["vault"])
    hal.nor.flip(kept._at + 20, 3)
    again = hal.again()
    assert _identity(1)[switch.KEY] in bytes(kept.load())
    assert _recovered(hal, _identity(5)) == "clean"
    # Not even when the journal's flash was erased.
    for sector in range(_SECTORS):
        again.nor.erase(sector)
    assert _recovered(again, _identity(5)) == "clean"


def test_an_old_identity_is_better_than_none():
    hal = _unit(_identity(1), _identity(5))
    kept = Snapshot(hal.nor, *layout(_SECTORS)["vault"])
    hal.nor.flip(kept._at + 20, 3)
    hal.files[switch.CA] = b"rubbish"
    assert _recovered(hal, _identity(1)) == "restored"


def test_what_nobody_has_is_damaged_and_left_alone():
    hal = _unit(_identity(1))
    hal.nor.erase(_vault_sector())
    hal.files[switch.CERT] = b"rubbish"
    before = dict(hal.files)
    assert switch.recover(hal) == "damaged" and hal.files == before
    del hal.files[switch.CERT]
    assert switch.recover(hal) == "damaged"
    _put(hal, _identity(9))
    assert _recovered(hal, _identity(9)) == "clean"


def test_a_flash_that_keeps_nothing_is_said_and_the_files_serve():
    hal = _unit(_identity(1))
    operation = hal.nor._operation

    def dead(at, new):
        operation(at, new)
        if new:
            hal.nor.flip(at, 0)

    hal.nor._operation = dead
    for path, data in _identity(5).items():
        hal.write_file(switch.STAGED[path], data)
    switch.begin(hal, _PATHS)
    assert switch.finish(hal) == ["vault"]
    assert _has(hal, _identity(5))
    raises(OSError, switch.recover, hal)
    assert _has(hal, _identity(5)), "and not the old ones, which are all that the vault has"
    hal.nor._operation = operation
    assert _recovered(hal, _identity(5)) == "clean"


def test_a_switch_without_all_three_falls_back_to_what_the_vault_has():
    hal = _unit(_identity(1))
    hal.write_file(switch.STAGED[switch.CERT], b"new")
    switch.begin(hal, (switch.CERT,))
    hal.remove(switch.KEY)
    assert switch.finish(hal) == ["vault"]
    assert _recovered(hal, _identity(1)) == "restored"


def _cuts(hal, change, every=1):
    """Each way in which the power can fail during change(hal), or one of so many: the unit as it is after it."""
    sizes = []
    whole = hal.again()
    operation = whole.nor._operation

    def noted(at, new):
        sizes.append(len(new))
        operation(at, new)

    whole.nor._operation = noted
    change(whole)
    n = 0
    for i, size in enumerate(sizes):
        for within in range(0, size + 1, 1 if size < SECTOR else 64):
            n += 1
            if n % every:
                continue
            torn = hal.again()
            torn.nor.cut_after(i, within, 0xFF if n & 1 else 0x5A)
            raises(PowerCut, change, torn)
            torn.nor.power()
            yield torn


def _full(old, new):
    """(a unit whose next switch goes to the other sector, what it has, what it is to get)"""
    hal = _unit(old)
    while True:
        trial = hal.again()
        _put(trial, new)
        if trial.nor.erases[_vault_sector() + 1]:
            return hal, old, new
        hal = trial.again()
        old, new = new, old


def _check_cuts(hal, change, outcomes, every=1):
    for torn in _cuts(hal, change, every):
        switch.recover(torn)
        assert [one for one in outcomes if _has(torn, one)], "one whole identity"
        found = [one for one in outcomes if _has(torn, one)][0]
        assert _recovered(torn, found) == "clean"


def test_power_may_fail_at_any_byte_of_a_switch():
    old, new = _identity(1), _identity(5)
    for hal, old, new in ((_unit(), old, new), (_unit(old), old, new), _full(old, new)):
        before = dict(hal.files)
        for path, data in new.items():
            hal.write_file(switch.STAGED[path], data)

        def change(it):
            switch.begin(it, _PATHS)
            switch.finish(it)

        for torn in _cuts(hal, change):
            switch.recover(torn)
            if _has(torn, new):
                assert _recovered(torn, new) == "clean"
            elif before:
                assert _recovered(torn, old) == "clean"
            else:
                assert not torn.files, "nothing at all, as before"


def test_power_may_fail_at_any_byte_of_a_repair():
    old, new = _identity(1), _identity(5)
    formatted = _unit(old, new)
    formatted.files.clear()
    flipped = _unit(old, new)
    flipped.files[switch.CERT] = b"x"
    fallen = _unit(old, new)
    fallen.nor.flip(Snapshot(fallen.nor, *layout(_SECTORS)["vault"])._at + 20, 3)
    erased = _unit(old, new)
    erased.nor.erase(_vault_sector())
    updated = Hal(dict(new), Nor(_SECTORS))
    for hal in (formatted, flipped, fallen, erased, updated):
        _check_cuts(hal, switch.recover, (new,))


def test_an_interrupted_switch_may_be_interrupted_again():
    old, new = _identity(1), _identity(5)
    hal, old, new = _full(old, new)
    for path, data in new.items():
        hal.write_file(switch.STAGED[path], data)

    def change(it):
        switch.begin(it, _PATHS)
        switch.finish(it)

    for torn in _cuts(hal, change, 7):
        _check_cuts(torn, switch.recover, (old, new), 11)


def test_damage_anywhere_leaves_a_whole_identity_as_long_as_one_place_is_whole():
    random.seed(3)
    old, new = _identity(1), _identity(5)
    unit = _unit(old, new)
    first = _vault_sector() * SECTOR
    for _ in range(200):
        hal = unit.again()
        for _ in range(random.choice((1, 5, 200))):
            if random.getrandbits(1):
                hal.nor.flip(first + random.getrandbits(9), random.getrandbits(3))
        if hal.nor.data == unit.nor.data:
            hal.files[random.choice(_PATHS)] = b"rubbish"
        assert _recovered(hal, new) in ("clean", "restored")
