# One TCP connection to the first of several addresses that answers (RFC 8305, section 5, in the small): the attempts
# begin a quarter of a second apart, or at once when one has failed, and the slower ones are given up.
import asyncio

from coupler.const import const

_APART_S = 0.25
_AT_ONCE = const(3)


async def dial(hal, addresses, port, timeout_ms, failed):
    """(Stream, its address, the addresses that are left to try); (None, None, []) when none answers in timeout_ms.

    failed(error) is called for each address that cannot be reached."""
    waiting = list(addresses)
    left = list(addresses)
    tasks = {}  # by address
    won = []
    news = asyncio.Event()

    async def attempt(ip):
        try:
            won.append((await hal.net.tcp(ip, port, timeout_ms), ip))
        except Exception as e:  # noqa: BLE001 - whatever it is, it ends this attempt only, and it is named
            left.remove(ip)
            failed(e)
        finally:
            del tasks[ip]
            news.set()

    keep = 0
    try:
        while not won and (waiting or tasks):
            news.clear()
            if waiting and len(tasks) < _AT_ONCE:
                ip = waiting.pop(0)
                tasks[ip] = asyncio.create_task(attempt(ip))
            try:
                await asyncio.wait_for(news.wait(), _APART_S if waiting and len(tasks) < _AT_ONCE else None)
            except asyncio.TimeoutError:
                pass
        keep = 1
    finally:
        slower = list(tasks.values())
        for task in slower:
            task.cancel()
        for task in slower:
            try:
                await task
            except asyncio.CancelledError:
                pass
        for stream, _ in won[keep:]:  # cancel() came too late for it
            stream.close()
    if not won:
        return None, None, left
    stream, ip = won[0]
    left.remove(ip)
    return stream, ip, left
