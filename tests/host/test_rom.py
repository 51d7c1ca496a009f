"""The boot ROM's loader against a host that sends anything."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kobler.sim import slip
from kobler.sim.flash import Flash
from kobler.sim.rom import Loader
from kobler.sim.rom_chips import chip_named
from kobler.sim.rom_protocol import Op, xor_all


class Wire:
    """A board that only listens."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def set_baud(self, baud: int) -> None:
        assert baud > 0

    def restart(self, cause: str) -> None:
        assert cause in {"software", "rtc-watchdog", "run"}


def command(op: int, data: bytes) -> bytes:
    return slip.encode(struct.pack("<BBHI", 0, op, len(data) & 0xFFFF, xor_all(data[16:])) + data)


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    flash = Flash(tmp_path_factory.mktemp("fuzz") / "flash.bin", 1 << 20)
    yield flash
    flash.close()


words = st.lists(st.sampled_from([0, 1, 64, 4096, 1 << 20, (1 << 20) - 1, 0xFFFFFFFF]), max_size=5)
requests = st.tuples(
    st.one_of(st.sampled_from(list(Op)), st.integers(0, 255)),
    st.one_of(words.map(lambda w: struct.pack(f"<{len(w)}I", *w)), st.binary(max_size=80)),
)


@settings(max_examples=150, deadline=None)
@given(
    chip=st.sampled_from(["esp32", "esp32s3"]),
    stub=st.booleans(),
    script=st.lists(requests, max_size=12),
    noise=st.binary(),
)
def test_no_host_can_break_the_loader(blank, chip, stub, script, noise):
    """Any command with any data, and noise between: it is answered or ignored, and then it still synchronises."""
    wire = Wire()
    loader = Loader(chip_named(chip), bytes(6), blank, wire)
    if stub:
        loader.feed(command(Op.MEM_BEGIN, struct.pack("<4I", 8, 1, 8, 0x40080000)))
        loader.feed(command(Op.MEM_DATA, struct.pack("<4I", 8, 0, 0, 0) + b"OHAI1234"))
        loader.feed(command(Op.MEM_END, struct.pack("<2I", 0, 0x40080004)))
        assert wire.sent.endswith(slip.encode(b"OHAI"))
    for op, data in script:
        loader.feed(command(op, data))
    loader.feed(b"\xc0" + noise.replace(b"\xc0", b"") + b"\xc0")
    loader.reset()
    wire.sent = b""
    loader.feed(command(Op.SYNC, b"\x07\x07\x12\x20" + 32 * b"\x55"))
    assert wire.sent.count(b"\xc0\x01\x08") == 8


def test_a_small_block_that_unpacks_to_gigabytes_is_refused(blank):
    wire = Wire()
    loader = Loader(chip_named("esp32"), bytes(6), blank, wire)
    bomb = zlib.compress(bytes(64 << 20), 9)[:0x8000]
    loader.feed(command(Op.DEFL_BEGIN, struct.pack("<4I", 0x1000, 1, 0x4000, 0)))
    wire.sent = b""
    loader.feed(command(Op.DEFL_DATA, struct.pack("<4I", len(bomb), 0, 0, 0) + bomb))
    (packet,) = slip.Decoder().feed(wire.sent)
    assert packet[8] == 1, "status: failed"
    assert blank.read(0, 0x1000) == b"\xff" * 0x1000
