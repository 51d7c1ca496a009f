# What the RTU client does beyond polling: any request, broadcasts. Loaded when first needed.

from coupler.bus import request as requests
from coupler.bus import rtu
from coupler.bus.errors import BusError
from coupler.const import const

_LONGEST = const(256)
_IDENTIFY = const(43)


async def transact(client, unit, request, timeout_ms):
    requests.check_request(request)
    fc = request[0]
    if not 0 <= unit <= 247 or not unit and fc not in requests.WRITES:
        raise ValueError("unit %s: 1 to 247, or 0 to write to all" % unit)
    request = bytes(request)
    frame = rtu.seal(bytes((unit,)) + request)
    if not unit:
        return await _broadcast(client, frame, timeout_ms)
    head, size = requests.answer(request)
    if client.port.echo is None and head == request:
        # Its echo and its answer look the same, so a read has to tell first whether there are echoes.
        try:
            await transact(client, unit, requests.probe(request), timeout_ms)
        except BusError:
            pass
    if size:
        size += 3
    else:
        timeout_ms += 1 + client.port.char_us * _LONGEST // 1000
    answer = await client.ask(frame, frame[:1] + head, size, timeout_ms, 1, fc <= 4 or fc == _IDENTIFY)
    if not size and requests.answer_size(request, answer, 0, len(answer)) < 0:
        raise client.failed("frame", frame)
    return answer


async def _broadcast(client, frame, timeout_ms):
    await client.turn()
    try:
        client.stats["requests"] += 1
        client.stats["sent"] += len(frame)
        await client.port.send(frame)
        await client.hal.sleep_ms(timeout_ms)
    finally:
        client.done()
