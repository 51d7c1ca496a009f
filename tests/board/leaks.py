"""Finds a secret in what a unit said, in whatever form a program prints bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from kobler.boards import load
from littlefs import LittleFS

_SHORTEST = 8  # bytes: of a shorter piece nobody could say where it comes from


def private_number(key: bytes) -> bytes:
    """The 32 bytes in a unit's /etc/key.der (SEC 1: SEQUENCE, INTEGER 1, OCTET STRING of 32 bytes)."""
    assert key[2:7] == b"\x02\x01\x01\x04\x20", "no such key"
    return key[7:39]


def key_in(image: Path, board: str = "virtual") -> bytes | None:
    """/etc/key.der in a flash image; None if there is none."""
    part = load(board).part("vfs")
    fs = LittleFS(block_size=4096, block_count=part.size // 4096, mount=False)
    with image.open("rb") as file:
        file.seek(part.offset)
        fs.context.buffer = bytearray(file.read(part.size))
    fs.mount()
    if "key.der" not in fs.listdir("/etc"):
        return None
    with fs.open("/etc/key.der", "rb") as file:
        return bytes(file.read())


def forms(secret: bytes) -> dict[str, bytes]:
    """What to look for, by its name: the secret and each half of it, in every form."""
    found: dict[str, bytes] = {}
    half = len(secret) // 2
    pieces = {"": secret, "first half ": secret[:half], "second half ": secret[half:]}
    for name, piece in pieces.items():
        if len(piece) < _SHORTEST:
            continue
        found[name + "raw"] = piece
        found[name + "reversed"] = piece[::-1]
        found[name + "hex"] = piece.hex().encode()
        found[name + "hex in pairs"] = piece.hex(" ").encode()
        found[name + "repr"] = repr(piece)[2:-1].encode()
        found[name + "list"] = ", ".join(map(str, piece)).encode()
        found[name + "compact list"] = ",".join(map(str, piece)).encode()
        found[name + "JSON"] = json.dumps(piece.decode("latin-1"))[1:-1].encode()
        for order in ("big", "little"):
            found[f"{name}decimal, {order}"] = str(int.from_bytes(piece, order)).encode()  # type: ignore[arg-type]
            found[f"{name}number in hex, {order}"] = b"%x" % int.from_bytes(piece, order)  # type: ignore[arg-type]
        for before in range(3):  # wherever in a longer text it stands
            text = base64.b64encode(bytes(before) + piece)
            text = text[-(-8 * before // 6) : (8 * (before + len(piece))) // 6]
            found[f"{name}base64, {before}"] = text
            found[f"{name}base64url, {before}"] = text.replace(b"+", b"-").replace(b"/", b"_")
    return found


def leaks(secret: bytes, said: Iterable[bytes]) -> list[str]:
    """The forms in which the secret stands in it; case does not matter, nor do line ends."""
    wanted = {name: text.lower() for name, text in forms(secret).items()}
    found = set()
    for text in said:
        low = text.lower()
        joined = low.replace(b"\r", b"").replace(b"\n", b"")
        found |= {name for name, form in wanted.items() if form in low or form in joined}
    return sorted(found)
