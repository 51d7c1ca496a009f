# A file to where the cloud keeps files: to a URL that the IoT Hub hands out, or to one that somebody gave. The URL
# itself is the permission, so it is never shown, and the storage gets to see no certificate of the unit.
import json

from coupler.const import const
from coupler.net import http
from coupler.net.errors import NetError

_HTTPS = const(443)
_SEND_MS = const(300000)
_ANSWER = const(8192)  # of the storage, in XML when it refuses
_FIELDS = (("x-ms-blob-type", "BlockBlob"), ("Content-Type", "application/x-ndjson"))
_JSON = (("Content-Type", "application/json"),)


async def to_url(hal, identity, url, length, piece, bus=None):
    """PUT `length` bytes, which `await piece()` gives. The status; NetError, also where the storage refuses."""
    trust = {"ca": identity["ca"]}
    answer = await http.request(
        hal, "PUT", url, trust, _FIELDS, piece, length, limit=_ANSWER, bus=bus, total_ms=_SEND_MS
    )
    if answer.status not in (200, 201, 204):
        raise http.HttpError("the storage refused: %d %s" % (answer.status, answer.fields.get("x-ms-error-code", "")))
    return answer.status


async def to_hub(hal, cloud, identity, name, length, piece, bus=None):
    """The same by way of the hub: it hands out the URL, and is told what became of it, good or bad. NetError.

    cloud: where the hub is. Its HTTPS endpoints are on 443, whichever way MQTT goes (file upload of IoT Hub,
    api-version 2021-04-12)."""
    port = cloud["port"] if cloud["scheme"] == "wss" else _HTTPS
    files = "https://%s:%d/devices/%s/files%%s?api-version=2021-04-12" % (cloud["host"], port, identity["id"])

    async def ask(where, content):
        content = json.dumps(content).encode()
        answer = await http.request(hal, "POST", files % where, identity, _JSON, content, bus=bus)
        if answer.status not in (200, 204):
            said = "".join([chr(c) if 32 <= c < 127 else "?" for c in answer.body[:200]])
            raise http.HttpError("the hub refused: %d %s" % (answer.status, said))
        return answer.body

    try:
        given = json.loads(await ask("", {"blobName": name}))
        correlation = given["correlationId"]
        url = "https://" + given["hostName"] + "/" + given["containerName"] + "/" + given["blobName"]
        url += given["sasToken"]
    except (ValueError, KeyError, TypeError):
        raise http.HttpError("the hub's answer makes no sense")
    failed = None
    try:
        status = await to_url(hal, identity, url, length, piece, bus)
        text = "OK"
    except NetError as error:
        failed = error
        status = 0
        text = error.text
    notice = {"correlationId": correlation, "isSuccess": not failed, "statusCode": status, "statusDescription": text}
    try:
        await ask("/notifications", notice)
    except NetError as error:
        raise failed or error
    if failed:
        raise failed
