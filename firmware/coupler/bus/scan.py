# Finds the units of a bus by asking each for its first register: any answer, an exception too, shows that it is there.

from coupler.bus.client import Client
from coupler.bus.errors import BusError


async def scan(client, hal, line, first, last, timeout_ms, stop):
    """Unit numbers from `first` to `last` that answer, and the number to go on with: it stops once stop() is true.

    line: (baud, parity, stop bits) for this while only. The bus is taken from everyone else for as long."""
    port = client.port
    probe = Client(port, hal)
    found = []
    await client.turn()
    own = port.line
    try:
        port.set_line(*line)
        while first <= last and not stop():
            try:
                await probe.read(first, 3, 0, 1, timeout_ms)
                found.append(first)
            except BusError as error:
                if error.kind == "exception":
                    found.append(first)
            first += 1
    finally:
        port.set_line(*own)
        client._late += probe._late  # they may still come, and look like answers to the poller's next requests
        client.done()
    return found, first
