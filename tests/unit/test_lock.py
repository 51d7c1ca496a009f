"""The console's lock: what opens it, and that nothing else does."""

import asyncio
import binascii
import hashlib
import json

from check import raises
from coupler.trust import lock, p256
from nor import Nor

_UID = b"\x24\x6f\x28\xaa\xbb\xcc"
_NOW = 1800000000
_KEY = 4711
_OTHER = 4712
_AUDIENCE = "urn:dev:kobler:246f28aabbcc:console"
_TICK = 50


class Over(Exception):
    pass


class Hal:
    """`script`: what is typed at a time in ms. `button`: from when until when it is held."""

    def __init__(self, script=None, button=(), last=5000):
        self.numbers = {}
        self.nor = Nor(32)
        self.now = _NOW
        self.ms = 0
        self.resets = 0
        self.script = dict(script or {})
        self.button = button
        self.last = last

    def flash(self):
        return self.nor

    def unique_id(self):
        return _UID

    def now_ms(self):
        return None if self.now is None else 1000 * self.now

    def get_number(self, name):
        return self.numbers.get(name)

    def put_number(self, name, value):
        self.numbers[name] = value

    def forget(self, *modules):
        pass

    def console(self):
        return self

    def reset(self):
        self.resets += 1
        raise Over

    async def sleep_ms(self, ms):
        self.ms += ms
        if self.ms >= self.last:
            raise Over

    def read(self):
        typed = b""
        for at in sorted(self.script):
            if at <= self.ms:
                typed += self.script.pop(at)
        return typed

    def pressed(self):
        return any([begin <= self.ms < end for begin, end in self.button])


def _base64url(data):
    return binascii.b2a_base64(data)[:-1].rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_")


def _token(key=_KEY, kid="a", **changes):
    claims = {"aud": _AUDIENCE, "sub": "anna", "role": "admin", "iat": _NOW, "exp": _NOW + 300, "jti": "1"}
    claims.update(changes)
    header = json.dumps({"alg": "ES256", "kid": kid}).encode()
    text = _base64url(header) + b"." + _base64url(json.dumps(claims).encode())
    r, s = p256.sign(key, hashlib.sha256(text).digest())
    return text + b"." + _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def _shut(hal, owner=True):
    lock.shut(hal, "a" if owner else None, binascii.hexlify(p256.public_key(_KEY)).decode() if owner else None)
    return hal


def _run(hal):
    saved = []
    guard = lock.Guard(hal, lambda: saved.append(1))
    try:
        asyncio.run(guard.run())
    except Over:
        pass
    assert len(saved) == hal.resets
    return guard


def _lines(token):
    pieces = [token[at : at + 100] for at in range(0, len(token), 100)]
    return [b"unlock " + piece + b"\\\r\n" for piece in pieces[:-1]] + [b"unlock " + pieces[-1] + b"\r\n"]


def _typed(token, at=200):
    return {at + 100 * i: line for i, line in enumerate(_lines(token))}


def test_the_owners_token_opens_and_the_unit_restarts():
    hal = _shut(Hal(_typed(_token())))
    assert hal.numbers["console"] == lock.LOCKED == 1, "boot.py looks for 1"
    guard = _run(hal)
    assert hal.numbers["console"] == lock.BY_TOKEN and hal.resets == 1 and guard.refused == 0


def test_a_token_that_is_not_for_this_is_refused_with_its_cause():
    for words, token, now in (
        ("not that of the key", _token(_OTHER), _NOW),
        ("unknown key", _token(kid="b"), _NOW),
        ("for another unit", _token(aud="urn:dev:kobler:246f28ffffff:console"), _NOW),
        ("for another unit", _token(aud="urn:dev:kobler:246f28aabbcc"), _NOW),  # for something else on this unit
        ("expired", _token(), _NOW + 1000),
        ("in the future", _token(iat=_NOW + 100, exp=_NOW + 200), _NOW),
        ("issued before", _token(iat=_NOW - 10), _NOW),
        ("only admin", _token(role="operator"), _NOW),
        ("three parts", b"rubbish", _NOW),
        ("does not know the time", _token(), None),
    ):
        hal = _shut(Hal())
        hal.now = now
        guard = lock.Guard(hal, None)
        error = raises(lock.LockError, asyncio.run, guard.judge(token.decode()))
        assert words in str(error), (words, str(error))
        assert hal.numbers["console"] == lock.LOCKED and guard.refused == 1 and not hal.resets


def test_without_an_owner_no_token_opens():
    hal = _shut(Hal(), owner=False)
    error = raises(lock.LockError, asyncio.run, lock.Guard(hal, None).judge(_token().decode()))
    assert "only the button" in str(error)


def test_locking_again_keeps_the_owner_and_voids_what_was_issued_before():
    hal = _shut(Hal())
    used = _token()
    asyncio.run(lock.Guard(hal, None).judge(used.decode()))
    hal.now = _NOW + 60
    _shut(hal, owner=False)
    assert "issued before" in str(raises(lock.LockError, asyncio.run, lock.Guard(hal, None).judge(used.decode())))
    fresh = _token(iat=_NOW + 60, exp=_NOW + 300)
    asyncio.run(lock.Guard(hal, None).judge(fresh.decode()))
    assert hal.numbers["console"] == lock.BY_TOKEN


def test_a_token_of_a_fast_clock_opens_once_too():
    hal = _shut(Hal())
    used = _token(iat=_NOW + 50)
    asyncio.run(lock.Guard(hal, None).judge(used.decode()))
    for seconds in (10, 70):
        hal.now = _NOW + seconds
        _shut(hal, owner=False)
        assert "issued before" in str(raises(lock.LockError, asyncio.run, lock.Guard(hal, None).judge(used.decode())))
        hal.now += 2
        asyncio.run(lock.Guard(hal, None).judge(_token(iat=_NOW + seconds + 52, exp=_NOW + 300).decode()))
        assert hal.numbers["console"] == lock.BY_TOKEN


def test_an_owners_key_that_is_none_is_refused_and_nothing_is_locked():
    hal = Hal()
    raises(ValueError, lock.shut, hal, "a", "04" + "00" * 64)
    assert hal.numbers == {}


def test_refused_tokens_make_the_next_wait_longer_each_time():
    script = {}
    for at in range(100, 20000, 100):
        script[at] = b"unlock a.b.c\r"
    hal = _shut(Hal(script, last=20000))
    guard = _run(hal)
    # at once, after 1 s, 2 s, 4 s and 8 s
    assert guard.refused == 5, guard.refused
    good = _shut(Hal({200: b"unlock a.b.c\r"}, last=400))
    guard = _run(good)
    good.last = 100000
    raises(lock.TooSoon, asyncio.run, guard.judge(_token().decode()))
    assert good.numbers["console"] == lock.LOCKED


def test_what_is_typed_is_bounded_and_opens_nothing():
    keys = b"\x03\x03\x01\x02\x04\x05A\x01\r\n>>> import machine\r\nunlock\r\nunlock \xff\xfe\r\n"
    endless = {at: b"unlock " + b"A" * 100 + b"\\\r" for at in range(50, 4000, 50)}
    for script in (
        {200: keys},
        {200: b"x" * 5000},
        {200: b"unlock " + b"A" * 5000 + b"\r"},
        endless,
        {at: bytes(range(256)) for at in range(50, 4000, 50)},
    ):
        hal = _shut(Hal(script))
        guard = _run(hal)
        assert hal.numbers["console"] == lock.LOCKED and not hal.resets
        assert len(guard._line) <= 121 and len(guard._token) <= 2048


def test_ctrl_c_in_the_middle_forgets_the_token():
    pieces = _typed(_token())
    pieces[250] = b"\x03"
    hal = _shut(Hal(pieces))
    assert _run(hal).refused == 1 and hal.numbers["console"] == lock.LOCKED


def test_the_button_opens_when_it_is_pressed_and_held_in_the_first_minute():
    for button, opens in (
        ([(500, 4000)], True),
        ([(59000, 63000)], True),
        ([(500, 3000)], False),  # not long enough
        ([(500, 2500), (2600, 5000)], False),
        ([(0, 30000)], False),  # never seen released: shorted, or held by a cable
        ([(0, 500), (1000, 5000)], True),
        ([(61000, 70000)], False),
    ):
        hal = _shut(Hal(button=button, last=80000), owner=False)
        _run(hal)
        assert hal.numbers["console"] == (lock.BY_BUTTON if opens else lock.LOCKED), button
        assert hal.resets == opens


def test_whatever_ends_the_coupler_leads_to_no_prompt():
    def fail():
        raise MemoryError

    for run in (fail, lambda: None):
        hal = _shut(Hal(last=1000000))
        raises(Over, lock.keep, hal, run)
        assert hal.resets == 1 and hal.ms >= 60000


def test_a_unit_that_cannot_run_restarts_after_a_while_and_its_button_works_till_then():
    for button, state in (((), lock.LOCKED), ([(500, 4000)], lock.BY_BUTTON)):
        hal = _shut(Hal(button=button, last=1000000), owner=False)
        raises(Over, lock.hold, hal)
        assert hal.numbers["console"] == state and hal.resets == 1
