"""The unit's Modbus TCP client and nothing else, on whatever interpreter runs it; test_modbus_tcp.py starts it.

usage: modbus_unit.py FIRMWARE_DIR PORT FLIGHT REQUESTS_JSON_FILE
REQUESTS: [[unit, PDU in hex, timeout in ms], ...]; prints the answers' PDUs, or the errors, as one JSON list.
"""
# ruff: noqa: PTH123 - MicroPython has no pathlib

import asyncio
import binascii
import json
import sys

sys.path.insert(0, sys.argv[1])

from coupler import hal
from coupler.bus.errors import BusError
from coupler.bus.tcp import TcpClient
from coupler.net.resolve import resolve


async def ask(client, unit, request, timeout_ms):
    try:
        return binascii.hexlify(await client.transact(unit, binascii.unhexlify(request), timeout_ms)).decode()
    except BusError as error:
        return error.quality


async def main():
    with open(sys.argv[4]) as f:
        requests = json.load(f)
    client = TcpClient(hal.get(), "localhost", int(sys.argv[2]), resolve, int(sys.argv[3]))
    tasks = [asyncio.create_task(ask(client, *request)) for request in requests]
    answers = []
    for task in tasks:
        answers.append(await task)
    print(json.dumps(answers))
    await client.close()


asyncio.run(main())
