# How long the unit's certificate still holds: alarms before it ends, and when the next one is due. It stays in memory,
# so what asks for that next one (renewal.py) is loaded when it is time, and forgotten.
import asyncio
import hashlib

from coupler.const import const

_CERT = "/etc/cert.der"  # these three are as in switch.py, which is not in memory
_NEXT = "/etc/next.der"
_BOOTSTRAP = "/etc/bootstrap"
_HOUR = const(3600)
_DAY = const(86400)
_WEEK = const(604800)
_SOON = const(30)  # days; no more than a fifth of the certificate's life
_URGENT = const(7)  # days; no more than a twelfth
_PARTS = const(65536)


class Expiry:
    """unit: what app made: hal, session, journal, serial. url: of the EST server up to the label, None without one.

    state: none, valid, expiring, expired; failed, pending or trial of the renewal; error: why it does not go on."""

    def __init__(self, unit, url=None):
        self.unit = unit
        self.url = url
        self.doing = None
        self.error = None
        self.forced = False
        self.starved = False  # the memory did not suffice for a renewal beside the cloud's connection
        self.failures = 0  # in a row; renewal.py counts these,
        self.waits = 0  # these
        self.trials = 0  # and these
        self.look = int.from_bytes(unit.hal.urandom(2), "big") * _WEEK // _PARTS  # seconds until it looks for new roots
        self._asked = asyncio.Event()
        self._alarm = 0
        self._told = 0
        self._forced = -_HOUR  # when somebody asked for a renewal
        self.read()

    def read(self):
        """The certificate in use has changed."""
        from coupler.trust import x509

        hal = self.unit.hal
        self.not_after = self._due = 0
        self._limits = (0, 0, 0)
        try:
            data = hal.read_file(_CERT)
            if data:
                one = x509.own(data)
                end = self.not_after = one.not_after
                life = end - one.not_before
                # From two thirds of its life on, up to a twelfth later: so a fleet does not come at once.
                later = int.from_bytes(hashlib.sha256(data).digest()[:2], "big")
                self._due = one.not_before + life * 2 // 3 + life // 12 * later // _PARTS
                self._limits = (end - min(_SOON * _DAY, life // 5), end - min(_URGENT * _DAY, life // 12), end)
        except ValueError as error:
            self.error = "the certificate cannot be read: %s" % error
        finally:
            hal.forget("coupler.trust.x509", "coupler.trust.p256", "coupler.trust.der")

    def renew(self):
        """Ask for the next certificate now; False, and nothing, if that was asked for within the hour: it costs the
        flash a dozen operations, and the authority a certificate."""
        now = self._now()
        if 0 <= now - self._forced < _HOUR:
            return False
        self._forced = now
        self.forced = True
        self._asked.set()
        return True

    def due(self):
        """Whether a certificate is to be asked for, or was and is not in use yet."""
        hal = self.unit.hal
        if self.forced or hal.read_file(_NEXT) or hal.read_file(_BOOTSTRAP):
            return True
        return 0 < self._due <= self._now()

    def report(self):
        """For `reported`: not_after (Unix s), days, state, error."""
        now = self._now()
        days = (self.not_after - now) // _DAY if now and self.not_after else None
        return {"not_after": self.not_after or None, "days": days, "state": self.state(), "error": self.error}

    def state(self):
        if not self.not_after:
            return self.doing or "none"
        level = self._level()
        if level:
            return "expired" if level == 3 else "expiring"
        return self.doing or "valid"

    def tell(self, doing, error=None):
        """How the renewal stands."""
        if error:
            print("kobler: no new certificate:", error)
        changed = (doing, error) != (self.doing, self.error)
        self.doing = doing
        self.error = error
        if changed:
            self.unit.changed()

    async def run(self):
        """For ever. The unit knows the time."""
        left = 0
        while True:
            self._warn()
            if left <= 0:
                left = await self._step()
            pause = min(left, _HOUR)
            try:
                await asyncio.wait_for(self._asked.wait(), pause)
                self._asked.clear()
                left = 0
            except asyncio.TimeoutError:
                left -= pause
                self.look -= pause
                self._told -= pause

    async def _step(self):
        if self.url and (self.due() or self.look <= 0):
            from coupler.trust import renewal

            try:
                return await renewal.step(self)
            finally:
                del renewal
                self.unit.hal.forget("coupler.trust.renewal")
        now = self._now()
        return min(_HOUR, self._due - now) if self.url and self._due > now else _HOUR

    def _now(self):
        # 0 while the time is not known
        return (self.unit.hal.now_ms() or 0) // 1000

    def _level(self):
        # 0: no reason to worry, 1: soon, 2: urgent, 3: over
        now = self._now()
        return len([limit for limit in self._limits if now >= limit]) if self.not_after else 0

    def _warn(self):
        # When it becomes worse, and once a day.
        level = self._level()
        if level and (level > self._alarm or self._told <= 0):
            days = (self.not_after - self._now()) // _DAY
            end = "has expired" if level == 3 else "ends in %d days" % days
            how = self.error or ("it is being renewed" if self.url else "provision the unit again")
            print("kobler: %s: the certificate %s; %s" % ("ALARM" if level > 1 else "warning", end, how))
            self._told = _DAY
            self.unit.changed()
        self._alarm = level
