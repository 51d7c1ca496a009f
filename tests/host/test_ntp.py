"""The small time server: right for who asks properly, silent for everyone else."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kobler.cloud.background import Background
from kobler.cloud.ntp import NtpServer, answer
from kobler.doctor.checks import clock_offset

REQUEST = bytes([0x23]) + bytes(39) + b"\x01\x02\x03\x04\x05\x06\x07\x08"


@pytest.fixture(scope="module")
def server() -> Iterator[NtpServer]:
    found = NtpServer()
    with Background(found):
        yield found


def test_it_agrees_with_this_computers_clock(server: NtpServer) -> None:
    host, port = server.address.split(":")
    assert abs(clock_offset(host, int(port))) < 0.05


def test_the_answer_is_rfc_4330s() -> None:
    found = answer(REQUEST, 1_795_233_501.25)
    assert found is not None and len(found) == 48
    assert found[0] == 0x24  # leap 0, version 4, mode 4 (server)
    assert found[1] == 1  # synchronised
    assert found[24:32] == REQUEST[40:48]  # originate: what the client sent as its transmit time
    seconds, fraction = struct.unpack(">II", found[40:48])
    assert (seconds, fraction) == (1_795_233_501 + 2_208_988_800, 1 << 30)


def test_time_goes_on_after_the_era_ends_in_2036() -> None:
    found = answer(REQUEST, 2_200_000_000.0)
    assert found is not None
    assert struct.unpack(">I", found[40:44])[0] == (2_200_000_000 + 2_208_988_800) % (1 << 32)


@pytest.mark.parametrize(
    "request_",
    [b"", REQUEST[:47], bytes([0x24]) + REQUEST[1:], bytes([0x03]) + REQUEST[1:], bytes([0x2B]) + REQUEST[1:]],
    ids=["empty", "short", "an answer", "version 0", "version 5"],
)
def test_what_is_no_request_gets_no_answer(request_: bytes) -> None:
    assert answer(request_, time.time()) is None


def test_rubbish_does_not_stop_the_server(server: NtpServer) -> None:
    host, port = server.address.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect((host, int(port)))
        link.settimeout(3)
        for rubbish in (b"", b"x", bytes(48), b"\xff" * 2000):
            link.send(rubbish)
        link.send(REQUEST)
        assert link.recv(512)[24:32] == REQUEST[40:48]


@given(st.binary(max_size=200), st.floats(0, 4e9))
def test_any_datagram_gets_48_bytes_or_none(data: bytes, now: float) -> None:
    found = answer(data, now)
    assert found is None or len(found) == 48
