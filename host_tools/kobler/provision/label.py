"""A label for a unit: a PNG with a QR code, and beside it in words what a person needs.

The code says `kobler:ID?sn=SERIAL&fp=FINGERPRINT`, the SHA-256 of the certificate in hex. Nothing of it is secret.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ..pki import files

_PER_METRE = 11811  # 300 dots to the inch
_SCALE = 6  # dots of a module: half a millimetre
_QUIET = 4  # modules of white around the code, ISO/IEC 18004
_DOT = 4  # dots of a point in a letter

# Letters of 3 by 5 points: a digit for each row, from the top, its three bits from left to right.
_LETTERS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644",
    "G": "34553", "H": "55755", "I": "72227", "J": "11153", "K": "55655", "L": "44447", "M": "57755", "N": "65555",
    "O": "25552", "P": "65644", "Q": "25573", "R": "65655", "S": "34216", "T": "72222", "U": "55557", "V": "55552",
    "W": "55775", "X": "55255", "Y": "55222", "Z": "71247", "-": "00700", "_": "00007", ".": "00002", ":": "02020",
    " ": "00000",
}  # fmt: skip


def content(unit_id: str, serial: str, fingerprint: str) -> str:
    """What the QR code says."""
    return f"kobler:{unit_id}?sn={quote(serial, safe='')}&fp={fingerprint}"


def write(path: Path, unit_id: str, serial: str, fingerprint: str) -> None:
    """Write the label; the same input gives the same file."""
    import segno

    code = segno.make(content(unit_id, serial, fingerprint), error="m", micro=False, boost_error=False)
    picture = _scaled([list(row) for row in code.matrix], _SCALE, _QUIET)
    lines = ["KOBLER", f"SN {serial}", f"ID {unit_id}", "SHA-256", *_wrapped(fingerprint[:32], 16)]
    words = _scaled(_words(lines), _DOT, 1)
    width, height = max(map(len, words)), max(len(picture), len(words))
    rows = [
        _padded(picture, i, len(picture[0])) + _padded(words, i - (height - len(words)) // 2, width)
        for i in range(height)
    ]
    files.write_public(path, _png(rows))


def _wrapped(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def _words(lines: Sequence[str]) -> list[list[int]]:
    width = max(map(len, lines)) * 4
    rows = []
    for line in lines:
        letters = [_LETTERS.get(letter, _LETTERS[" "]) for letter in line.upper()]
        for i in range(5):
            bits = [bit for letter in letters for bit in (*(int(letter[i]) >> n & 1 for n in (2, 1, 0)), 0)]
            rows.append(bits + [0] * (width - len(bits)))
        rows += [[0] * width] * 2
    return rows


def _scaled(rows: Sequence[Sequence[int]], scale: int, margin: int) -> list[list[int]]:
    width = len(rows[0]) + 2 * margin
    blank = [[0] * width] * margin
    framed = [*blank, *([0] * margin + list(row) + [0] * margin for row in rows), *blank]
    return [[bit for bit in row for _ in range(scale)] for row in framed for _ in range(scale)]


def _padded(rows: Sequence[list[int]], i: int, width: int) -> list[int]:
    return rows[i] if 0 <= i < len(rows) else [0] * width


def _png(rows: Sequence[Sequence[int]]) -> bytes:
    # One bit a dot, 1 is white (ISO/IEC 15948).
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width = len(rows[0])
    lines = bytearray()
    for row in rows:
        bits = "".join("0" if bit else "1" for bit in row).ljust(-(-width // 8) * 8, "1")
        lines += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", width, len(rows), 1, 0, 0, 0, 0)
    size = struct.pack(">IIB", _PER_METRE, _PER_METRE, 1)
    body = zlib.compress(bytes(lines), 9)
    parts = ((b"IHDR", header), (b"pHYs", size), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)
