# The lock of the console (ETSI EN 303 645, 5.6-4): while it is shut nothing leads to the REPL. boot.py makes Ctrl-C a
# byte before anything else runs, and what ends restarts the unit. All that reads the console then is the Guard: it
# opens for who holds the button, or has a token of the owner's. docs/decisions/0045-the-console-is-locked.md
#
#   unlock PIECE\      a token longer than a line of a chip's console comes in pieces,
#   unlock PIECE       the last without a backslash
import asyncio
import binascii

from coupler.const import const

STATE = "console"  # in NVS, where boot.py looks: one of
LOCKED = const(1)
BY_BUTTON = const(2)
BY_TOKEN = const(3)
NAMES = ("never locked", "locked", "unlocked by the button", "unlocked by a token")
_SINCE = "locked"  # in NVS, Unix seconds: tokens from before are void
_OWNER = "owner"  # in the settings: [kid, public key in hex]
_LOOK_MS = const(50)
_HOLD_MS = const(3000)  # the button, which must have been seen released,
_WINDOW_MS = const(60000)  # in the first minute
_LINE = const(120)  # characters,
_TOKEN = const(2048)  # and of a token
_PAUSE_MS = const(1000)  # after a refused token, then twice as long each time,
_PAUSE_MAX_MS = const(60000)  # up to this
_TELL_MS = const(1000)
_SAID_MS = const(200)  # what was printed last would be lost with the reset
_ANSWER_MS = const(1000)
_LAST_MS = const(60000)


class LockError(ValueError):
    """The console stays locked; the text says why."""


class TooSoon(LockError):
    """The token was not looked at."""


def shut(hal, kid=None, owner=None):
    """Lock the console from the next start on. owner: the public key (65 bytes, hex) whose tokens open it; without it
    that of before stays, and where there was none only the button opens it."""
    now = hal.now_ms()
    if owner is not None:
        from coupler.trust import p256

        p256.point(binascii.unhexlify(owner))
        _settings(hal).set(_OWNER, [kid, owner])
    if now is not None:
        # A token that opened it before may be from a clock that is a minute fast.
        now //= 1000
        hal.put_number(_SINCE, min(max(now, hal.get_number(_SINCE) or 0), now + 61))
    hal.put_number(STATE, LOCKED)


def _settings(hal):
    from coupler.store.layout import open_flash
    from coupler.store.settings import Settings

    flash, regions = open_flash(hal)
    return Settings(flash, *regions["settings"])


def attend(unit, watch, state):
    """Have a running unit report of its console and, while it is locked, guard it."""
    name = NAMES[state]
    unit.health.add("console", "state", lambda: name)
    if state == LOCKED:
        unit.guard = guard = Guard(unit.hal, unit.save)
        unit.health.add("console", "refused", lambda: guard.refused)
        watch.start("console", guard.run)
    else:
        unit.hal.forget("coupler.trust.lock")


def keep(hal, run):
    """run() and, when it ends, however it ends, hold()."""
    try:
        run()
    except Exception as error:  # noqa: BLE001 - nobody may see a prompt, and the unit is to run again
        print("kobler: failed: %s: %s" % (type(error).__name__, error))
    hold(hal)


def hold(hal):
    """The coupler does not run: the button still opens the console, for a minute; then the unit restarts."""
    asyncio.new_event_loop().close()  # on the chip: the tasks that were left are forgotten
    asyncio.run(Guard(hal, lambda: None).run(_LAST_MS))
    hal.reset()


class Guard:
    """Keeps the console. save() is called before the restart that follows when it was opened."""

    def __init__(self, hal, save):
        self._hal = hal
        self._save = save
        self.refused = 0
        self._pause = 0  # ms until a token is looked at again
        self._next = _PAUSE_MS
        self._judging = False
        self._line = bytearray()
        self._token = ""
        self._told = 0  # ms until the hint is given again
        self._age = 0
        self._held = None  # ms; None: not seen released yet

    async def run(self, last=None):
        """For ever, or for so many ms."""
        hal = self._hal
        console = hal.console()
        self._tell()
        while last is None or self._age < last:
            await hal.sleep_ms(_LOOK_MS)
            self._age += _LOOK_MS
            self._pause = max(0, self._pause - _LOOK_MS)
            self._told = max(0, self._told - _LOOK_MS)
            if self._button(console.pressed()):
                self._open(BY_BUTTON)
                await self._restart(_SAID_MS)
            for byte in console.read():
                if 0x20 <= byte < 0x7F:
                    if len(self._line) <= _LINE:
                        self._line.append(byte)
                    continue
                line, self._line = bytes(self._line), bytearray()
                if byte in b"\r\n" and line[:7] == b"unlock " and len(line) <= _LINE:
                    await self._piece(line[7:])
                elif byte != 10 or line:  # the second half of CR LF says nothing
                    self._token = ""
                    self._tell()

    def _button(self, pressed):
        # Held down from the start on it may be shorted, or held by a cable: so it is to be let go first.
        if self._age > _WINDOW_MS and not self._held:
            return False
        if not pressed:
            self._held = 0
        elif self._held is not None:
            self._held += _LOOK_MS
            return self._held >= _HOLD_MS
        return False

    def _tell(self):
        if not self._told:
            self._told = _TELL_MS
            name = binascii.hexlify(self._hal.unique_id()).decode()
            print("kobler: the console of %s is locked: `kobler unlock`, or restart it and hold its button" % name)

    async def _piece(self, piece):
        more = piece[-1:] == b"\\"
        self._token += piece[:-1].decode() if more else piece.decode()
        if len(self._token) > _TOKEN:
            self._token = ""
            print("kobler: refused: too long")
        elif more:
            print("kobler: go on")
        else:
            token, self._token = self._token, ""
            try:
                await self.judge(token)
                await self._restart(_SAID_MS)
            except LockError as error:
                print("kobler: refused:", error)

    async def judge(self, token):
        """Open the console for a good token; LockError. The caller answers, then restart()s."""
        if self._judging or self._pause:
            raise TooSoon("another token was refused just now: try again in %d s" % (self._pause // 1000 + 1))
        self._judging = True
        try:
            await self._check(token)
        except LockError:
            self.refused += 1
            self._pause = self._next
            self._next = min(_PAUSE_MAX_MS, 2 * self._next)
            raise
        finally:
            self._judging = False
        self._open(BY_TOKEN)

    async def _check(self, token):
        from coupler.trust import token as tokens

        hal = self._hal
        now = hal.now_ms()
        owner = _settings(hal).get(_OWNER)
        if owner is None:
            raise LockError("no owner's key is known here: only the button opens this console")
        keys = [tokens.Key(owner[0], binascii.unhexlify(owner[1]))]
        # An audience of its own: what opens a page does not open the console.
        verifier = tokens.Verifier("urn:dev:kobler:%s:console" % binascii.hexlify(hal.unique_id()).decode(), keys)
        grant = None
        try:
            # What was used is known by its iat: none of the minute is needed that a unit's start needs.
            since = max(0, (hal.get_number(_SINCE) or 0) - tokens.LEEWAY)
            for grant in verifier.checking(token, now and now // 1000, since=since):
                await hal.sleep_ms(0)
        except tokens.TooEarly:
            raise LockError(
                "iat: the token was issued before the console was locked or last opened, by this unit's clock"
            )
        except tokens.TokenError as error:
            raise LockError(str(error))
        finally:
            hal.forget("coupler.trust.token", "coupler.trust.roles", "coupler.trust.p256")
        if grant is None or not grant.allows("admin"):
            raise LockError("role: only admin opens the console")
        hal.put_number(_SINCE, grant.issued + 1)

    def _open(self, state):
        self._hal.put_number(STATE, state)
        print("kobler: the console is %s: restarting" % NAMES[state])

    async def _restart(self, ms):
        await self._hal.sleep_ms(ms)
        self._save()
        self._hal.reset()

    def restart(self):
        """In a moment, so that an answer goes first."""
        asyncio.create_task(self._restart(_ANSWER_MS))
