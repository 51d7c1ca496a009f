"""The base MicroPython image from micropython.org, over verified HTTPS, kept in a cache.

Nobody hands us a checksum to trust, so none is invented: the first download's SHA-256 is written down beside
the file, and whatever comes later must have the same.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import importlib.util
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..errors import KoblerError, UsageError
from .files import write_atomic

FOLDER = "https://micropython.org/resources/firmware"
LIMIT = 16 << 20
_TIMEOUT_S = 30.0
_CHUNK = 1 << 16
_REMEDY = "download it by other means and give it with --image FILE"

Progress = Callable[[str], None]


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """A redirect may lead to another server, but never out of TLS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise KoblerError(f"{req.full_url}: redirected to {newurl}, which is not HTTPS; {_REMEDY}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    name: str,
    cache: Path,
    *,
    check: Callable[[bytes, str], object],
    folder: str = FOLDER,
    context: ssl.SSLContext | None = None,
    progress: Progress | None = None,
) -> bytes:
    """The image called `name`: from the cache if it is there unchanged, else downloaded, checked and kept.

    `check(data, what)` raises KoblerError for content that is no image; such content is not kept.
    """
    kept, record = cache / name, cache / f"{name}.sha256"
    known = _recorded(record)
    if known is not None and kept.is_file():
        data = kept.read_bytes()
        _same(data, known, f"{kept}: the cached image was changed since it was downloaded", record)
        return data
    url = f"{folder}/{name}"
    data = _download(url, context or _trust(), progress)
    if known is not None:
        _same(data, known, f"{url}: not the image that was downloaded before", record)
    check(data, url)
    cache.mkdir(parents=True, exist_ok=True)
    # The record first: an image without one would be trusted blindly, a record alone only means to fetch.
    write_atomic(record, f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode())
    write_atomic(kept, data)
    return data


def check_sha256(data: bytes, wanted: str, what: str) -> None:
    """Refuse an image that is not the one whose SHA-256 the user gave."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", wanted):
        raise UsageError(f"--sha256 {wanted}: a SHA-256 has 64 hexadecimal digits")
    have = hashlib.sha256(data).hexdigest()
    if have != wanted.lower():
        raise KoblerError(f"{what}: its SHA-256 is {have}, but --sha256 says {wanted.lower()}")


def _recorded(record: Path) -> str | None:
    if not record.is_file():
        return None
    text = record.read_text(encoding="ascii", errors="replace").split()
    if not text or not re.fullmatch(r"[0-9a-f]{64}", text[0]):
        raise KoblerError(f"{record}: holds no SHA-256: delete it and the image beside it")
    return text[0]


def _same(data: bytes, known: str, what: str, record: Path) -> None:
    have = hashlib.sha256(data).hexdigest()
    if have != known:
        remedy = f"if the change is meant, delete {record} and {record.with_suffix('').name}"
        raise KoblerError(f"{what}: SHA-256 {have}, recorded {known}; {remedy}")


def _trust() -> ssl.SSLContext:
    """The system's certificates, and certifi's where it is installed (some Pythons bring none)."""
    context = ssl.create_default_context()
    if importlib.util.find_spec("certifi") is not None:
        context.load_verify_locations(importlib.import_module("certifi").where())
    return context


def _download(url: str, context: ssl.SSLContext, progress: Progress | None) -> bytes:
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _OnlyHttps())
    # The only handler left that could leave HTTPS would be that of an http:// or file:// address.
    if urlsplit(url).scheme != "https":
        raise KoblerError(f"{url}: only https:// is downloaded from")
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            return _receive(answer, url, progress)
    except urllib.error.HTTPError as e:
        hint = "there is no such image" if e.code == 404 else e.reason
        raise KoblerError(f"{url}: the server answers {e.code}: {hint}; {_REMEDY}") from None
    except urllib.error.URLError as e:
        raise KoblerError(_unreachable(url, e.reason)) from None
    except (OSError, http.client.HTTPException) as e:
        raise KoblerError(f"{url}: the download broke off ({e or type(e).__name__}); try again, or {_REMEDY}") from None


def _receive(answer: http.client.HTTPResponse, url: str, progress: Progress | None) -> bytes:
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if total is not None and total > LIMIT:
        raise KoblerError(f"{url}: {total:,} bytes are too many for an image (limit {LIMIT:,}); {_REMEDY}")
    data = bytearray()
    shown = -1
    while chunk := answer.read(_CHUNK):
        data += chunk
        if len(data) > LIMIT:
            raise KoblerError(f"{url}: more than {LIMIT:,} bytes, too many for an image; {_REMEDY}")
        percent = 100 * len(data) // total if total else 0
        if progress is not None and percent // 10 != shown:
            shown = percent // 10
            of = f" of {total / 1e6:.1f} MB" if total else " MB"
            progress(f"downloading {url.rpartition('/')[2]}: {len(data) / 1e6:.1f}{of}")
    if total is not None and len(data) < total:
        raise KoblerError(f"{url}: truncated: {len(data):,} of {total:,} bytes came; try again, or {_REMEDY}")
    return bytes(data)


def _unreachable(url: str, reason: object) -> str:
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{url}: the certificate of {host} is not trusted here ({reason.verify_message}); {_REMEDY}"
    return f"{url}: {host} cannot be reached ({reason}); connect to the internet, or {_REMEDY}"
