"""File upload of the emulated IoT Hub: its two HTTPS endpoints, and the storage account with its shared access
signatures. As documented by Microsoft; what the documentation leaves open is marked "assumed".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import time
import urllib.parse
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

CONTAINER = "uploads"


@dataclass
class Request:
    """One HTTP request; fields by name in lower case."""

    method: str
    path: str
    query: dict[str, str]
    fields: dict[str, str]
    body: bytes
    certificate: str | None  # the common name in the client's


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes = b""


def answer(status: int, content: Any = None, **fields: str) -> Answer:
    body = b"" if content is None else json.dumps(content).encode()
    more = {"Content-Type": "application/json; charset=utf-8"} if body else {}
    return Answer(status, more | {name.replace("_", "-"): value for name, value in fields.items()}, body)


async def receive(head: bytes, reader: asyncio.StreamReader, certificate: str | None) -> Request:
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    path, _, query = target.partition("?")
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return Request(method, path, dict(urllib.parse.parse_qsl(query)), fields, body, certificate)


def send(writer: asyncio.StreamWriter, found: Answer) -> None:
    fields = found.fields | {"Connection": "close"}
    if found.status != 204:
        fields["Content-Length"] = str(len(found.body))
    head = f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}\r\n"
    writer.write((head + "".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n").encode() + found.body)


class Storage:
    """A storage account: takes blobs from whoever has a signature for just that one (Put Blob)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blobs: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.refused: list[str] = []
        self.answers: deque[Answer] = deque()  # given to the next requests instead of what is right
        self.lifetime = 3600.0
        self._signed: dict[str, dict[str, str]] = {}
        self._numbers = itertools.count()

    def sign(self, path: str) -> str:
        """A shared access signature to read and write this blob, as query."""
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime))
        signature = base64.b64encode(hashlib.sha256(f"{path}{next(self._numbers)}".encode()).digest()).decode()
        self._signed[path] = {"sv": "2020-02-10", "se": until, "sr": "b", "sp": "rw", "sig": signature}
        return "?" + urllib.parse.urlencode(self._signed[path])

    def handle(self, request: Request) -> Answer:
        found = self.answers.popleft() if self.answers else self._handle(request)
        if found.status >= 400:
            self.refused.append(f"{found.status} {found.fields.get('x-ms-error-code')}")
        return found

    def _handle(self, request: Request) -> Answer:
        path = urllib.parse.unquote(request.path)
        right = self._signed.get(path)
        given = {name: request.query.get(name) for name in right or ()}
        if not right or given != right or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > right["se"]:
            return self._refuse(403, "AuthenticationFailed")
        if request.method != "PUT":
            return self._refuse(405, "UnsupportedHttpVerb")
        if request.query.keys() - right.keys():
            return self._refuse(400, "InvalidQueryParameterValue")  # blocks, leases: not emulated
        if "content-length" not in request.fields:
            return self._refuse(411, "MissingContentLengthHeader")
        if request.fields.get("x-ms-blob-type") != "BlockBlob":
            return self._refuse(400, "MissingRequiredHeader")
        self.blobs[path] = request.body
        self.types[path] = request.fields.get("content-type", "application/octet-stream")
        md5 = base64.b64encode(hashlib.md5(request.body).digest()).decode()
        now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        more = {"x-ms-request-id": "1", "x-ms-version": "2020-02-10", "x-ms-request-server-encrypted": "true"}
        return Answer(201, {"ETag": '"0x8D"', "Last-Modified": now, "Content-MD5": md5, "Date": now} | more)

    def _refuse(self, status: int, code: str) -> Answer:
        text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>No.</Message></Error>'
        return Answer(status, {"x-ms-error-code": code, "Content-Type": "application/xml"}, text.encode())


class Files:
    """A hub's endpoints for it. The hub knows the device by its certificate."""

    def __init__(self, devices: Any, storage: Storage, versions: set[str]) -> None:
        self.devices, self.storage, self.versions = devices, storage, versions
        self.host = storage.name  # what devices are told; with a port, since on loopback it is not 443
        self.open: dict[str, tuple[str, str]] = {}  # by correlation id: device, path
        self.notices: list[dict[str, Any]] = []
        self.answers: deque[Answer] = deque()  # given to the next requests instead of what is right
        self.complaints: list[str] = []
        self._numbers = itertools.count(1)

    def handle(self, request: Request) -> Answer:
        found = self.answers.popleft() if self.answers else self._handle(request)
        if found.status >= 400:
            self.complaints.append(f"{request.method} {request.path}: {found.status} {found.body.decode()}")
        return found

    def _handle(self, request: Request) -> Answer:
        parts = request.path.split("/")
        if request.method != "POST" or len(parts) < 4 or parts[1] != "devices" or parts[3] != "files":
            return answer(404, {"Message": "not here"})
        device = urllib.parse.unquote(parts[2])
        if device not in self.devices or request.certificate != device:
            return answer(401, {"Message": "ErrorCode:IotHubUnauthorizedAccess;Unauthorized"})
        if request.query.get("api-version") not in self.versions:
            return answer(400, {"Message": "ErrorCode:InvalidProtocolVersion"})
        try:
            content = json.loads(request.body)
        except ValueError:
            content = None
        if not isinstance(content, dict) or not request.fields.get("content-type", "").startswith("application/json"):
            return answer(400, {"Message": "ErrorCode:ArgumentInvalid"})
        if parts[4:] == []:
            return self._begin(device, content.get("blobName"))
        if parts[4:] == ["notifications"]:
            return self._end(device, content)
        return answer(404, {"Message": "not here"})

    def _begin(self, device: str, name: Any) -> Answer:
        if not isinstance(name, str) or not 0 < len(name) <= 1024:
            return answer(400, {"Message": "ErrorCode:ArgumentInvalid;blobName"})
        if sum(owner == device for owner, _ in self.open.values()) >= 10:
            return answer(403, {"Message": "ErrorCode:DeviceMaximumActiveFileUploadLimitExceeded"})
        correlation = f"{next(self._numbers)}-{device}"
        path = f"/{CONTAINER}/{device}/{name}"
        self.open[correlation] = device, path
        found = {"correlationId": correlation, "hostName": self.host, "containerName": CONTAINER}
        return answer(200, found | {"blobName": f"{device}/{name}", "sasToken": self.storage.sign(path)})

    def _end(self, device: str, content: dict[str, Any]) -> Answer:
        kinds = {"correlationId": str, "isSuccess": bool, "statusCode": int, "statusDescription": str}
        if content.keys() != kinds.keys() or any(not isinstance(content[n], kind) for n, kind in kinds.items()):
            return answer(400, {"Message": "ErrorCode:ArgumentInvalid"})
        owner, path = self.open.get(content["correlationId"], (None, ""))
        if owner != device or (content["isSuccess"] and path not in self.storage.blobs):  # the second is assumed
            return answer(400, {"Message": "ErrorCode:InvalidBlobState"})
        del self.open[content["correlationId"]]
        self.notices.append(content | {"path": path})
        return answer(204)
