# The next certificate of a unit, from an EST server (RFC 7030), and the change to it: loaded when it is time.
#
#   a key (candidate.py) -> /cacerts, /csrattrs, /simple(re)enroll -> the certificate lies beside the one in use
#   -> a connection with it works -> it is the one in use; it does not -> back to the old one, and again later
#
# The first certificate comes the same way, with a one-time secret or a certificate that the unit was born with.
import binascii

from coupler.const import const
from coupler.net.errors import NetError
from coupler.trust import candidate, est, switch

_RETRY_S = const(60)  # after a failure, then twice as long each time,
_RETRY_MAX_S = const(3600)  # up to this
_SLOW_S = const(43200)  # after a refusal; no more than an eighth of what is left of the certificate,
_SLOW_MIN_S = const(900)  # and no less than this
_WAITS = const(20)  # answers of "not yet", then no more than one an hour
_TRIES = const(3)  # attempts to connect with a certificate
_TRIAL_S = const(600)
_TRIALS = const(8)  # then the new certificate is given up
_TRIAL_AGAIN_S = const(3600)  # then twice as long each time,
_TRIAL_AGAIN_MAX_S = const(86400)  # up to this
_STOP_S = const(5)
_LOOK_S = const(604800)
_LOOK_AGAIN_S = const(86400)

_NETWORK = ("coupler.trust.est", "coupler.net.http", "coupler.net.retry_after", "coupler.net.tls_faults")
_ANSWERS = {"roots": est.CACERTS, "beyond": est.CSRATTRS, "accept": "the new certificate"}
_ARITHMETIC = (
    "coupler.trust.issuing",
    "coupler.trust.anchors",
    "coupler.trust.csr",
    "coupler.trust.pkcs7",
    "coupler.trust.chains",
    "coupler.trust.x509",
    "coupler.trust.rsa",
    "coupler.trust.p256",
    "coupler.trust.der",
)


async def step(one):
    """What is due for an Expiry; seconds until the next step."""
    hal = one.unit.hal
    try:
        parts = candidate.load(hal)
        if parts and parts[1] and one.forced:
            candidate.drop(hal)  # who asks for a new one does not mean this one
            parts = None
        if not parts or not parts[1]:
            if not one.due():
                return await _look(one)
            pause = candidate.until(parts) - _now(hal) if parts and not one.forced else 0
            if 0 < pause <= est.MOST_S:  # since a restart of the unit, too
                one.tell("pending")
                return pause
            one.forced = False
            parts, pause = await _alone(one, parts)
            if not parts:
                return pause
        else:
            hal.remove(switch.BOOTSTRAP)
        return await _change(one, parts)
    except (NetError, est.EstError, ValueError, OSError, MemoryError) as error:
        return _failed(one, error)
    finally:
        one.forced = False
        hal.forget(*_NETWORK)
        hal.forget("coupler.trust.vault", "coupler.store.snapshot", "coupler.store.layout", "coupler.store.files")


def _failed(one, error):
    # -> seconds
    one.failures += 1
    one.tell("failed", str(error) or repr(error))
    hal = one.unit.hal
    if isinstance(error, ValueError) or getattr(error, "refused", False):
        candidate.drop(hal)  # it is not for the same request again
        one.waits = 0
        pause = _SLOW_S
        if one.not_after:
            pause = max(_SLOW_MIN_S, min(pause, (one.not_after - _now(hal)) // 8))
        else:
            pause = _RETRY_MAX_S
    else:
        pause = min(_RETRY_MAX_S, _RETRY_S << min(one.failures - 1, 6))
    # Anything from the half of it on.
    pause -= int.from_bytes(hal.urandom(2), "big") * pause >> 17
    return max(pause, getattr(error, "pause", None) or 0)


async def _alone(one, parts):
    # _enrol(), without the cloud's connection where the memory has not sufficed for both.
    hold = one.starved and one.unit.session
    if hold:
        one.unit.hold(True)
        for _ in range(_STOP_S):
            if hold.status["state"] == "stopped":
                break
            await one.unit.hal.sleep_ms(1000)
    try:
        return await _enrol(one, parts)
    except MemoryError:
        one.starved = True
        raise
    finally:
        if hold:
            one.unit.hold(False)


async def _enrol(one, parts):
    # -> (key, certificate and authorities, durable beside the ones in use; 0), or (None, seconds) when the server
    # wants to be asked again. parts: with the key of a request that was made before, if there was one.
    unit = one.unit
    hal = unit.hal
    unit_id = _unit_id(hal)
    present = hal.read_file(switch.CERT)
    authorities = hal.read_file(switch.CA)
    secret = None
    operation = est.REENROLL
    trust = {"cert": present, "key": hal.read_file(switch.KEY)}
    given = hal.read_file(switch.BOOTSTRAP)
    if given:
        operation = est.ENROLL
        secret, _, authorities = given.partition(b"\n")
        secret = secret.decode()
        if secret:
            trust = {}
    elif not present:
        raise est.EstError("the unit has neither a certificate nor a secret: provision it again")
    trust["ca"] = authorities
    names = None if given else present

    async def ask(what, csr=None):
        # The secret goes where a certificate is asked for, and nowhere else.
        try:
            return await est.ask(hal, one.url, what, trust, csr, csr and secret, unit.serial)
        finally:
            hal.forget("coupler.net.http")

    async def learn():
        message, _ = await ask(est.CACERTS)
        found = await _compute(unit, "roots", authorities, message, _now(hal), _room(names))
        trust["ca"] = found[0]
        return found

    learned = None
    lacking = ""
    if not parts:
        learned = await learn()
        wanted = await _wanted(unit, ask)
        if wanted:
            lacking = "; it wants what this unit cannot give: " + wanted
    key, csr = await _compute(unit, "request", parts and parts[0], names, unit_id)
    if not parts:
        candidate.save(hal, key)  # the same request again, whatever comes between
    try:
        message, pause = await ask(operation, csr)
    except est.EstError as error:
        if error.status == 401 and "challenge" not in lacking:
            lacking = ""  # that is no matter of keys
        raise est.EstError(str(error) + lacking, error.refused, error.pause)
    if message is None:
        one.waits += 1
        one.failures = 0
        one.tell("pending")
        if one.waits >= _WAITS:
            pause = max(pause, _RETRY_MAX_S)
        candidate.wait(hal, key, _now(hal) + pause)
        return None, pause
    one.waits = 0
    authorities, new, others, out = learned or await learn()
    issued = await _compute(unit, "accept", message, key, authorities, others, _now(hal), unit_id, names)
    certificate, lost, begin = issued
    candidate.save(hal, key, certificate, authorities)
    hal.remove(switch.BOOTSTRAP)
    _welcome(new, out)
    if lost:
        print("kobler: %d of its authorities do not go into a message of TLS: a broker has to know them" % lost)
    one.failures = one.trials = 0
    pause = begin - _now(hal)
    if pause > 0:  # it was issued a moment ago, by a clock that is ahead
        one.tell("trial")
        return None, pause
    return (key, certificate, authorities), 0


async def _wanted(unit, ask):
    # Whether the server insists on what the unit cannot give is not known before the request. It need not answer
    # this at all, and there are servers that cannot.
    try:
        attributes, _ = await ask(est.CSRATTRS)
        return ", ".join(await _compute(unit, "beyond", attributes)) if attributes else ""
    except (NetError, est.EstError, ValueError) as error:
        print("kobler: the EST server's wishes are not known:", error)
        return ""


async def _change(one, parts):
    # To the certificate that lies beside the present one, once it has proved itself; -> seconds
    unit = one.unit
    hal = unit.hal
    session = unit.session
    new = {"id": _unit_id(hal), "key": parts[0], "cert": parts[1], "ca": parts[2]}
    if hal.read_file(switch.KEY) and hal.read_file(switch.CERT):
        one.tell("trial")
        if session and unit.journal.cloud:
            pause = await _trial(one, session, new)
            if pause:
                return pause
        else:
            try:
                await est.ask(hal, one.url, est.CACERTS, new, None, None, unit.serial)
            except (NetError, est.EstError) as error:
                if getattr(error, "refused", False) or getattr(error, "kind", None) == "tls-refused":
                    return _unproved(one, "the EST server does not accept the new certificate: %s" % error)
                one.tell("trial", "no connection to the EST server: %s" % error)
                return _TRIAL_S
    await _in_turn(unit, candidate.adopt, hal, parts)
    one.read()
    one.trials = one.failures = 0
    print("kobler: the unit has a new certificate")
    if session and session.identity is not new:
        session.use(new)
    if one.due():
        return _failed(
            one, ValueError("the new certificate is to be renewed already: how long is its authority valid?")
        )
    one.tell(None)
    return _RETRY_S


async def _trial(one, session, new):
    # -> 0 when the broker has accepted it, else seconds until the next trial: the old one is in use again
    old = session.identity
    if await _connects(one.unit.hal, session, new):
        return 0
    text = session.status["text"] or session.status["state"]
    tried = session.count["attempts"]
    if await _connects(one.unit.hal, session, old):
        return _unproved(one, "the broker does not accept the new certificate: %s" % text)
    if session.count["attempts"] == tried:
        text = "the session does not run"
    one.tell("trial", "no connection, with the new certificate or the present one: %s" % text)
    return _TRIAL_S


def _unproved(one, text):
    # -> seconds until the next trial
    one.trials += 1
    if one.trials >= _TRIALS:
        one.trials = 0
        one.tell("failed", text)
        candidate.drop(one.unit.hal)
        return _SLOW_S
    one.tell("trial", text)
    return min(_TRIAL_AGAIN_MAX_S, _TRIAL_AGAIN_S << one.trials - 1)


async def _connects(hal, session, identity):
    # Whether the broker accepts a connection with this one, within a few attempts
    session.use(identity)
    first = session.count["attempts"]
    for _ in range(_TRIAL_S):
        await hal.sleep_ms(1000)
        if session.proved is identity:
            return True
        if session.count["attempts"] - first > _TRIES:
            break
        if session.status["state"] == "online":
            session.use(identity)  # it was connecting with the other one
    return False


async def _look(one):
    # New roots, long before the next certificate needs them; -> seconds
    unit = one.unit
    hal = unit.hal
    one.look = _LOOK_AGAIN_S
    identity = {}
    for name, path in (("key", switch.KEY), ("cert", switch.CERT), ("ca", switch.CA)):
        identity[name] = hal.read_file(path)
    try:
        message, _ = await est.ask(hal, one.url, est.CACERTS, identity, None, None, unit.serial)
        hal.forget("coupler.net.http")
        found = await _compute(unit, "roots", identity["ca"], message, _now(hal), _room(identity["cert"]))
        authorities, new, _, out = found
        if new:
            await _in_turn(unit, _trust, hal, authorities)
            if unit.session:
                unit.session.identity["ca"] = authorities  # from the next connection on
        _welcome(new, out)
        one.look = _LOOK_S
    except (NetError, est.EstError, ValueError, OSError, MemoryError) as error:
        print("kobler: the EST server's roots:", error)
    return 1


def _trust(hal, authorities):
    hal.write_file(switch.STAGED[switch.CA], authorities)
    switch.begin(hal, (switch.CA,))
    lost = switch.finish(hal)
    if lost:
        raise OSError("the flash lost %s" % ", ".join(lost))


def _welcome(new, out):
    for name in new:
        print("kobler: trusts the new authority %s too, the old one vouches for it" % name)
    for name in out:
        print("kobler: no room for the new authority %s before an old one has expired" % name)


def _now(hal):
    return hal.now_ms() // 1000


def _room(certificate):
    from coupler.trust.vault import room

    return room(certificate)


def _unit_id(hal):
    return binascii.hexlify(hal.unique_id()).decode()


async def _compute(unit, name, *arguments):
    from coupler.trust import issuing

    try:
        return await _in_turn(unit, getattr(issuing, name), *arguments)
    except ValueError as error:
        raise ValueError("%s: %s" % (_ANSWERS.get(name, name), error))
    finally:
        del issuing
        unit.hal.forget(*_ARITHMETIC)


async def _in_turn(unit, work, *arguments):
    # It stops everything for a while, so not while a frame is on a serial bus.
    serial = unit.serial
    if serial:
        await serial.turn()
    try:
        return work(*arguments)
    finally:
        if serial:
            serial.done()
