"""The bus end to end on the virtual board: holes, writes from the broker, the gateway on the LAN, a server by TCP."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from running_coupler import Caller, Coupler

SITE = """
[device]
name = "bus"
[cloud]
enabled = true
url = "wss://localhost:8443/mqtt"
[[bus]]
name = "field"
kind = "rtu"
[bus.gateway]
port = {gateway}
allow = ["127.0.0.0/8"]
write = true
[[bus.unit]]
id = 17
name = "meter"
point = [
  {{ name = "voltage", table = "input", address = 0, type = "float32", unit = "V" }},
  {{ name = "current", table = "input", address = 6, type = "float32", unit = "A" }},
  {{ name = "nothing", table = "input", address = 10, type = "u16" }},
]
[[bus.unit]]
id = 1
name = "ahu"
[[bus.unit.point]]
name = "setpoint"
table = "holding"
address = 0
type = "i16"
scale = 0.1
unit = "Cel"
write = {{ min = 12, max = 28, verify = true }}
[[bus.unit.point]]
name = "running"
table = "coil"
address = 0
type = "bool"
write = {{ }}
[[bus.unit]]
id = 99
name = "absent"
timeout = "100ms"
point = [{{ name = "x", table = "holding", address = 0, type = "u16" }}]
[[bus]]
name = "lan"
kind = "tcp"
host = "127.0.0.1"
port = {server}
in_flight = 2
[[bus.unit]]
id = 3
name = "plc"
point = [
  {{ name = "counter", table = "holding", address = 4, type = "u32", order = "CDAB" }},
  {{ name = "mode", table = "holding", address = 40, type = "u16", enum = {{ 7 = "heat" }} }},
  {{ name = "sensor", table = "holding", address = 41, type = "i16", missing = -32768 }},
]
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """pymodbus as a Modbus TCP server, in a thread of its own."""

    def __init__(self, port: int) -> None:
        registers = [SimData(4, values=[2, 1], datatype=DataType.REGISTERS)]
        registers.append(SimData(40, values=[7, 0x8000], datatype=DataType.REGISTERS))
        device = SimDevice(3, registers)
        self.loop = asyncio.new_event_loop()

        async def serve() -> None:
            self.server = ModbusTcpServer(device, address=("127.0.0.1", port))
            await self.server.serve_forever(background=True)

        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(serve(), self.loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.shutdown(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


class World:
    """A running coupler with this site, its TCP server, and whoever calls its methods."""

    def __init__(self, folder: Path) -> None:
        self.gateway, port = free_port(), free_port()
        self.server = Server(port)
        site = folder / "site.toml"
        site.write_text(SITE.format(gateway=self.gateway, server=port))
        try:
            self.coupler = Coupler(folder / "state", ["--config", str(site)])
        except BaseException:
            self.server.close()
            raise
        self.caller = Caller(self.coupler)
        self.call = self.caller.call

    def value(self, point: str, wanted: Any = None, quality: str = "good") -> None:
        """Wait until the unit has this value of a point, None: any, in this quality."""
        deadline = time.monotonic() + 30
        while True:
            status, answer = self.call("read", point=point)
            assert status == 200, answer
            if answer["quality"] == quality and wanted in (None, answer["value"]):
                return
            assert time.monotonic() < deadline, answer
            time.sleep(0.2)

    def sample(self, point: str, wanted: Any) -> None:
        """Wait for a sample of the point with this value."""

        def found(kind: str, payload: Any) -> bool:
            return kind == "telemetry" and any(
                record.get("n") == point and wanted in [record.get(key) for key in ("v", "vs", "vb")]
                for record in payload
            )

        self.coupler.wait(found)

    def close(self) -> None:
        self.caller.close()
        self.coupler.close()
        self.server.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    if request.config.getoption("--board"):
        pytest.skip("needs the virtual bus and its devices")
    world = World(tmp_path_factory.mktemp("bus"))
    try:
        yield world
    finally:
        world.close()


def test_a_hole_costs_only_the_point_that_is_not_there(world: World) -> None:
    world.value("field/meter/voltage")
    world.value("field/meter/current")
    status, answer = world.call("read", point="field/meter/nothing")
    assert status == 200 and answer["quality"] == "exception:2" and answer["value"] is None
    reported = world.coupler.wait(lambda kind, _: kind == "reported")
    while not reported["bus"]["field"].get("holes") or not reported["bus"]["field"]["silent"]:
        reported = world.coupler.wait(lambda kind, _: kind == "reported", 60)
    assert any(text.startswith("meter: function 4, address ") for text in reported["bus"]["field"]["holes"])
    assert reported["bus"]["field"]["units"]["meter"][0] > 3
    assert reported["bus"]["field"]["silent"] == 1  # the absent unit
    assert reported["bus"]["field"]["units"]["absent"][0] == reported["bus"]["field"]["units"]["absent"][1]
    assert 0 < reported["bus"]["field"]["utilisation"] <= 100


def test_values_from_a_server_by_tcp(world: World) -> None:
    world.value("lan/plc/counter", 0x00010002)
    world.value("lan/plc/mode", "heat")
    world.value("lan/plc/sensor", None, "not-available")


def test_a_write_from_the_broker_is_limited_verified_and_seen(world: World) -> None:
    status, answer = world.call("write", point="field/ahu/setpoint", value=21.5)
    assert (status, answer) == (200, {"point": "field/ahu/setpoint", "value": 21.5, "verified": True})
    world.sample("field/ahu/setpoint", 21.5)
    status, answer = world.call("write", point="field/ahu/setpoint", value=29)
    assert status == 400 and "field/ahu/setpoint" in answer["error"] and "28" in answer["error"]
    assert world.call("write", point="field/meter/voltage", value=1)[0] == 403
    assert world.call("write", point="field/ahu/running", value=False)[0] == 200
    world.sample("field/ahu/running", False)
    assert world.call("nonsense")[0] == 404


def test_the_gateway_bridges_to_the_bus_and_keeps_its_rules(world: World) -> None:
    client = ModbusTcpClient("127.0.0.1", port=world.gateway, timeout=5)
    assert client.connect()
    try:
        assert client.read_holding_registers(0, count=4, device_id=1).registers[3] < 400
        assert client.read_input_registers(2, count=1, device_id=17).exception_code == 2
        assert client.write_register(0, 180, device_id=1).registers == [180]
        world.value("field/ahu/setpoint", 18)
        assert client.write_register(0, 290, device_id=1).exception_code == 3  # beyond what the configuration allows
        assert client.write_register(4, 50, device_id=1).exception_code == 2  # no writable point
        assert client.read_holding_registers(0, count=1, device_id=99).exception_code == 11
    finally:
        client.close()


def test_requests_and_scans_through_the_coupler(world: World) -> None:
    status, answer = world.call("request", bus="field", unit=1, pdu="0300000001")
    assert status == 200 and answer["pdu"].startswith("0302")
    assert world.call("request", bus="field", unit=1, pdu="0600040032")[0] == 403
    assert world.call("request", bus="field", unit=98, pdu="0300000001")[0] == 504
    status, answer = world.call("scan", bus="field", **{"from": 1, "to": 20, "timeout": 50})
    assert (status, answer) == (200, {"found": [1, 5, 17]})
    status, answer = world.call("scan", bus="field", baud=9600, **{"from": 1, "to": 5, "timeout": 50})
    assert (status, answer) == (200, {"found": []})
    world.value("field/meter/voltage")  # and the polling goes on
