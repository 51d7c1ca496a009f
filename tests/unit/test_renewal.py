"""What a unit does with its certificate's dates and with the next identity beside the present one; the requests
themselves are tested with real servers in tests/host/test_est.py."""

import asyncio
import json
import random

from check import raises, tidy
from coupler.trust import anchors, candidate, csr, der, enrol, expiry, issuing, p256, renewal, switch, x509
from issued import CA, CA_DER, CA_KEY, ID, NOW, Hal, PowerCut, authority, certificate

_DAY = 86400
_KEYS = [4711, 815, 99, 1234567]
_BEGIN = 1735689600  # of certificate(): 2025-01-01
_END = 2051222400  # 2035-01-01
_SIGNED_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
_EMPTY = der.tlv(der.SET)
_CLIENT = (b"\x55\x1d\x0f", b"\x03\x02\x07\x80")


class Clock(Hal):
    """With the rest of what the renewal takes from the hal; time passes when somebody sleeps."""

    def urandom(self, n):
        return bytes(n)

    def forget(self, *_modules):
        pass

    def ticks_ms(self):
        return self._now * 1000

    async def sleep_ms(self, ms):
        self._now += ms / 1000
        await asyncio.sleep(0)


class Session:
    """connects: whether the broker takes an identity; busy: seconds for which it goes on with the one before."""

    def __init__(self, identity, connects, busy=0):
        self.identity = self._before = identity
        self.connects = connects
        self.count = {"attempts": 0}
        self.status = {"state": "online", "text": ""}
        self.proved = identity
        self.used = []
        self._busy = busy

    def use(self, identity):
        self.used.append(identity["cert"])
        self.identity = identity

    def second(self):
        if self._busy > 0:
            self._busy -= 1
            self.proved = self._before
            return
        self.count["attempts"] += 1
        self.proved = self.identity if self.connects(self.identity) else None
        self.status = {"state": "online" if self.proved else "waiting", "text": "" if self.proved else "refused"}


class Unit:
    session = None
    serial = None
    cloud = True

    def __init__(self, hal):
        self.hal = hal
        self.changes = 0

    @property
    def journal(self):
        return self

    def changed(self):
        self.changes += 1


def _parts(index, **options):
    key = _KEYS[index]
    return csr.write_key(key), certificate(ID, p256.public_key(key), extensions=(_CLIENT,), **options), CA_DER


def _unit(parts=None, now=NOW, url="https://localhost/.well-known/est"):
    hal = Clock(now=now)
    if parts:
        candidate.adopt(hal, parts)
    unit = Unit(hal)
    return unit, expiry.Expiry(unit, url)


def _has(hal, parts):
    return all([hal.files.get(path) == data for path, data in zip(switch.IDENTITY, parts)])


# --- when


def test_renewal_begins_between_two_thirds_and_three_quarters_and_not_for_all_at_once():
    life = _END - _BEGIN
    dues = []
    for index in range(4):
        unit, one = _unit(_parts(index))
        assert one.not_after == _END
        for at in (0.5, 0.666):
            unit.hal._now = _BEGIN + int(at * life)
            assert not one.due()
        unit.hal._now = _BEGIN + life * 3 // 4 + 1
        assert one.due()
        dues.append(one._due)
        assert expiry.Expiry(unit, "x")._due == one._due, "the same after a restart"
    assert len(set(dues)) == 4 and max(dues) - min(dues) > life // 100


def test_who_asks_for_a_renewal_gets_one_an_hour():
    unit, one = _unit(_parts(0))
    assert one.renew() and one.due()
    one.forced = False
    unit.hal._now += 3599
    assert not one.renew() and not one.due()
    unit.hal._now += 1
    assert one.renew() and one.due() and not one.renew()
    unit.hal._now -= 86400
    assert one.renew(), "the clock was set back"


def test_nothing_is_due_while_the_time_is_not_known():
    unit, one = _unit(_parts(0), now=None)
    assert not one.due() and one.report() == {"not_after": _END, "days": None, "state": "valid", "error": None}


def test_alarms_come_before_the_end_once_a_day_and_when_it_becomes_worse():
    unit, one = _unit(_parts(0))
    states = []
    for left in (31, 29, 8, 6, -1):
        unit.hal._now = _END - left * _DAY
        before = unit.changes
        for _ in range(3):
            one._warn()
        states.append((unit.changes - before, one.state(), one.report()["days"]))
    assert states == [(0, "valid", 31), (1, "expiring", 29), (0, "expiring", 8), (1, "expiring", 6), (1, "expired", -1)]
    one._told = 0
    one._warn()
    assert unit.changes == 4, "a day later"


def test_a_short_life_is_no_reason_to_worry_from_the_first_day_on():
    short = {"extensions": (_CLIENT,), "years": (27, 28)}
    hal = Clock(now=1798761600 + 200 * _DAY)
    candidate.adopt(hal, (csr.write_key(4711), certificate(ID, p256.public_key(4711), **short), CA_DER))
    unit = Unit(hal)
    assert expiry.Expiry(unit).state() == "valid"
    hal._now = 1798761600 + 340 * _DAY
    assert expiry.Expiry(unit).state() == "expiring"


def test_a_unit_without_a_certificate_or_with_a_damaged_one_says_so():
    unit, one = _unit()
    assert one.report() == {"not_after": None, "days": None, "state": "none", "error": None} and not one.due()
    unit.hal.files[switch.CERT] = b"rubbish"
    one.read()
    assert "cannot be read" in one.report()["error"]


# --- beside the present one


def test_a_candidate_is_found_again_or_counts_as_none():
    hal = Hal()
    assert candidate.load(hal) is None
    candidate.save(hal, b"key")
    assert candidate.load(hal) == [b"key", b"", b""]
    candidate.save(hal, b"key", b"certificate", b"authorities")
    whole = hal.files[switch.NEXT]
    assert candidate.load(hal) == [b"key", b"certificate", b"authorities"]
    for i in range(len(whole)):
        hal.files[switch.NEXT] = whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :]
        assert candidate.load(hal) is None and switch.NEXT not in hal.files
        hal.files[switch.NEXT] = whole[:i]
        assert candidate.load(hal) is None


def test_power_may_fail_at_any_operation_of_a_renewal():
    old, new = _parts(0), _parts(1)
    start = Hal()
    start.files[switch.CONFIG] = b"{}"
    candidate.adopt(start, old)
    assert _has(start, old) and switch.NEXT not in start.files

    def renew(hal):
        parts = candidate.load(hal)
        key = parts[0] if parts else new[0]
        if not parts or not parts[1]:
            candidate.save(hal, key)
            candidate.save(hal, key, new[1], new[2])
            parts = candidate.load(hal)
        candidate.adopt(hal, parts)

    hal = start.again()
    renew(hal)
    operations = hal.operations
    assert _has(hal, new) and switch.NEXT not in hal.files and operations > 8
    kinds = set()
    for first in range(operations):
        torn = hal = bare = None
        tidy()  # one of these has 128 KB
        torn = start.again(first)
        raises(PowerCut, renew, torn)
        for second in range(first % 3, operations + 1, 3):
            hal = bare = None
            tidy()
            hal = torn.again(second)
            try:
                switch.recover(hal)
            except PowerCut:
                pass
            hal.cut = -1
            switch.recover(hal)
            adopted = _has(hal, new)
            assert adopted or _has(hal, old), (first, second)
            assert not (adopted and switch.NEXT in hal.files), "it is not tried again"
            kinds.add((adopted, switch.NEXT in hal.files))
            bare = hal.again()
            bare.files.clear()
            switch.recover(bare)
            assert _has(bare, new if adopted else old), "and so is its second place"
            if not adopted:
                renew(hal)
                assert _has(hal, new)
    assert kinds == {(False, False), (False, True), (True, False)}


def test_what_the_flash_lost_leaves_the_present_one():
    old, new = _parts(0), _parts(1)
    hal = Hal()
    candidate.adopt(hal, old)
    write = hal.write_file

    def lossy(path, data):
        write(path, b"" if path == switch.STAGED[switch.CERT] else data)

    hal.write_file = lossy
    raises(OSError, candidate.adopt, hal, new)
    assert _has(hal, old)


# --- the change


def _trial(connects, busy=0, now=NOW):
    old, new = _parts(0), _parts(1)
    unit, one = _unit(old, now)
    identity = {"id": ID, "key": old[0], "cert": old[1], "ca": old[2]}
    unit.session = session = Session(identity, lambda it: connects(it["cert"] == new[1]), busy)
    sleep = unit.hal.sleep_ms

    async def slept(ms):
        session.second()
        await sleep(ms)

    unit.hal.sleep_ms = slept
    candidate.save(unit.hal, *new)
    return unit, one, old, new


def _step(one):
    return asyncio.run(renewal.step(one))


def test_the_new_one_is_taken_when_the_broker_accepts_it():
    unit, one, old, new = _trial(lambda new: True)
    assert _step(one) == 60 and _has(unit.hal, new)
    assert switch.NEXT not in unit.hal.files and one.state() == "valid" and unit.session.used == [new[1]]


def test_a_connection_that_was_under_way_with_the_old_one_proves_nothing():
    unit, one, old, new = _trial(lambda new: not new, busy=3)
    assert _step(one) == 3600 and _has(unit.hal, old)
    assert unit.session.used == [new[1]] * 4 + [old[1]] and "does not accept" in one.error


def test_a_refused_one_is_tried_again_ever_more_seldom_and_at_last_given_up():
    unit, one, old, new = _trial(lambda new: not new)
    pauses = [_step(one) for _ in range(8)]
    assert pauses == [3600, 7200, 14400, 28800, 57600, 86400, 86400, 43200]
    assert switch.NEXT not in unit.hal.files and _has(unit.hal, old) and unit.session.identity["cert"] == old[1]


def test_without_any_connection_nothing_is_held_against_it():
    unit, one, old, new = _trial(lambda new: False)
    assert [_step(one) for _ in range(12)] == [600] * 12
    assert switch.NEXT in unit.hal.files and one.trials == 0
    unit.session.connects = lambda identity: True
    assert _step(one) == 60 and _has(unit.hal, new)


def test_a_session_that_does_not_run_is_waited_for():
    unit, one, old, new = _trial(lambda new: True)
    unit.session.second = lambda: None
    unit.session.proved = None
    began = unit.hal._now
    assert _step(one) == 600 and "does not run" in one.error
    assert unit.hal._now - began <= 1300 and one.trials == 0


def test_where_the_memory_does_not_suffice_the_cloud_waits():
    unit, one, old, new = _trial(lambda new: True)
    candidate.drop(unit.hal)
    one.renew()
    held = []

    async def ask(*_arguments):
        if held != [True]:
            raise MemoryError
        raise renewal.est.EstError("reached")

    def hold(wanted):
        held.append(wanted)
        unit.session.status = {"state": "stopped" if wanted else "waiting"}

    unit.hold = hold
    real = renewal.est.ask
    renewal.est.ask = ask
    try:
        assert _step(one) <= 60 and not held
        one.forced = True
        assert _step(one) > 60 and one.error == "reached" and held == [True, False]
    finally:
        renewal.est.ask = real


# --- authorities


def test_several_authorities_stand_behind_one_another():
    other = authority(years=(25, 36))
    assert [one.der for one in anchors.read(CA_DER + other)] == [CA_DER, other]
    for spoilt in (b"", b"rubbish", CA_DER[:-1], CA_DER + b"\0", CA_DER + CA_DER[:4]):
        raises(ValueError, anchors.read, spoilt)
    random.seed(5)
    for _ in range(300):
        data = bytearray(CA_DER + other)
        data[random.randrange(8)] = random.getrandbits(8)
        try:
            assert anchors.read(bytes(data))
        except ValueError:
            pass


def test_expired_authorities_go_unless_they_are_all_there_is():
    new = x509.Certificate(CA_DER)
    old = x509.Certificate(authority(years=(25, 26)))
    assert anchors.rolled([old, new], [], NOW) == ([new], [])
    assert anchors.rolled([old], [], NOW) == ([old], [])


def test_only_a_trusted_authority_itself_vouches_for_a_new_one():
    old = x509.Certificate(CA_DER)
    middle = x509.Certificate(certificate("Middle", p256.public_key(7), extensions=(CA,)))
    new = x509.Certificate(certificate("New", p256.public_key(8), key=8, issuer="New", extensions=(CA,)))
    for issuer, key, found in (("CA", CA_KEY, [new]), ("Middle", 7, [])):
        proof = certificate("New", p256.public_key(8), key=key, issuer=issuer, extensions=(CA,))
        assert anchors.rolled([old], [middle, x509.Certificate(proof), new], NOW) == ([old] + found, found), issuer


def test_an_authority_changes_its_key_and_keeps_its_name():
    old = x509.Certificate(CA_DER)
    new = x509.Certificate(certificate("CA", p256.public_key(8), key=8, extensions=(CA,)))
    over = x509.Certificate(certificate("CA", p256.public_key(8), extensions=(CA,)))
    back = x509.Certificate(certificate("CA", p256.public_key(CA_KEY), key=8, extensions=(CA,)))
    for offered in ([old, new, over, back], [back, over, new]):
        assert anchors.rolled([old], offered, NOW) == ([old, new], [new])
    for offered in ([new], [new, back], [over], [back]):
        assert anchors.rolled([old], offered, NOW) == ([old], []), "nobody who is trusted vouches for it"


def test_a_new_authority_for_which_there_is_no_room_stays_out_and_stops_nothing():
    new = certificate("New", p256.public_key(8), key=8, issuer="New", extensions=(CA,))
    proof = certificate("New", p256.public_key(8), extensions=(CA,))
    signed = der.tlv(der.SEQUENCE, _DATA)
    signed = der.tlv(der.SEQUENCE, der.integer(1), _EMPTY, signed, der.tlv(0xA0, new, proof), _EMPTY)
    message = der.tlv(der.SEQUENCE, _SIGNED_DATA, der.tlv(0xA0, signed))
    both = CA_DER + new
    assert issuing.roots(CA_DER, message, NOW, len(both)) == (both, ["New"], [proof], [])
    assert issuing.roots(CA_DER, message, NOW, len(both) - 1) == (CA_DER, [], [new, proof], ["New"])
    assert issuing.roots(CA_DER, message, NOW, 0) == (CA_DER, [], [new, proof], ["New"]), "what is trusted stays"


def test_a_unit_may_trust_two_authorities_one_of_which_signed_its_certificate():
    stranger = certificate("Stranger", p256.public_key(7), key=7, issuer="Stranger", extensions=(CA,))
    for authorities, words in (
        (stranger + CA_DER, None),
        (stranger, "was issued by 'CA', which is not trusted here"),
        (b"\0", "CA certificate: "),
    ):
        hal = Hal()
        key, found, _ = _parts(0)
        for name, data in (("cert", found), ("ca", authorities)):
            enrol.stage(hal, name, data, switch.digest(data))
        hal.files[switch.STAGED[switch.KEY]] = key
        if words:
            assert words in str(raises(enrol.EnrolError, enrol.commit, hal))
        else:
            assert enrol.commit(hal)["id"] == ID and hal.files[switch.CA] == authorities


# --- what provisioning leaves


def _given(hal, bootstrap, config=b'{"v":1,"rev":"1","est":{"url":"https://x"}}'):
    for name, data in (("bootstrap", bootstrap), ("config", config)):
        enrol.stage(hal, name, data, switch.digest(data))
    return enrol.commit(hal)


def test_a_unit_can_be_given_a_secret_instead_of_a_certificate():
    hal = Hal()
    answer = _given(hal, b"unit:secret\n" + CA_DER)
    assert answer["est"] and answer["fingerprint"] is None and "secret" not in json.dumps(answer)
    assert hal.files[switch.BOOTSTRAP] == b"unit:secret\n" + CA_DER
    unit = Unit(Clock(hal.files))
    assert expiry.Expiry(unit, "https://x").due()


def test_a_bootstrap_that_cannot_work_is_refused():
    cases = (
        (b"unit:secret", {}, "user:password"),
        (b"secret\n" + CA_DER, {}, "user:password"),
        (b"unit:s\xc3\xa4\n" + CA_DER, {}, "user:password"),
        (b"unit:secret\n", {}, "CA certificate"),
        (b"unit:secret\nrubbish", {}, "CA certificate"),
        (b"\n" + CA_DER, {}, "no secret"),
        (b"unit:secret\n" + CA_DER * 10, {}, "at most"),
        (b"unit:secret\n" + CA_DER, {"config": b'{"v":1,"rev":"1"}'}, "[est] url"),
    )
    for bootstrap, options, words in cases:
        hal = Hal()
        error = raises(enrol.EnrolError, lambda: _given(hal, bootstrap, **options))
        assert words in str(error) and "secret\n" not in str(error), (words, str(error))
        assert switch.BOOTSTRAP not in hal.files


def test_an_identity_by_cable_ends_what_was_under_way():
    hal = Hal()
    _given(hal, b"unit:secret\n" + CA_DER)
    candidate.save(hal, *_parts(1))
    key, found, authorities = _parts(0)
    hal.files[switch.STAGED[switch.KEY]] = key
    for name, data in (("cert", found), ("ca", authorities)):
        enrol.stage(hal, name, data, switch.digest(data))
    before = dict(hal.files)
    whole = hal.again()
    enrol.commit(whole)
    assert _has(whole, _parts(0)) and switch.NEXT not in whole.files and switch.BOOTSTRAP not in whole.files
    for cut in range(whole.operations):
        torn = hal.again(cut)
        try:
            enrol.commit(torn)
        except PowerCut:
            pass
        again = torn.again()
        switch.recover(again)
        done = switch.KEY in again.files
        assert done or again.files[switch.BOOTSTRAP] == before[switch.BOOTSTRAP]
        assert done == (switch.BOOTSTRAP not in again.files) == (switch.NEXT not in again.files)


def test_a_configuration_alone_leaves_what_is_under_way():
    hal = Hal()
    _given(hal, b"unit:secret\n" + CA_DER)
    candidate.save(hal, b"key")
    enrol.stage(hal, "config", b'{"v":1,"rev":"2"}', switch.digest(b'{"v":1,"rev":"2"}'))
    enrol.commit(hal)
    assert switch.BOOTSTRAP in hal.files and switch.NEXT in hal.files
