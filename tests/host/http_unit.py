"""The unit's HTTP client and nothing else, on whatever interpreter runs it; test_http_client starts it.

usage: http_unit.py FIRMWARE_DIR JOBS_JSON_FILE
Does one request after the other and prints a JSON line for each: the answer, or what went wrong.
"""
# ruff: noqa: PTH123 - MicroPython has no pathlib

import asyncio
import gc
import json
import sys

sys.path.insert(0, sys.argv[1])

from net_hal import Hal


def read(path):
    with open(path, "rb") as f:
        return f.read()


def pieces(sizes):
    left = list(sizes)

    async def piece():
        await asyncio.sleep(0)
        return b"0123456789"[:1] * left.pop(0) if left else b""

    return piece


async def run(hal, job):
    from coupler.net import http
    from coupler.net.errors import NetError

    trust = {"ca": b"".join([read(path) for path in job["ca"]])}
    for part in ("cert", "key"):
        if part in job:
            trust[part] = read(job[part])
    options = {name: job[name] for name in ("limit", "length", "idle_ms", "total_ms") if name in job}
    options["fields"] = [tuple(pair) for pair in job.get("fields", ())]
    if "sizes" in job:
        options["body"] = pieces(job["sizes"])
    elif "body" in job:
        options["body"] = job["body"].encode()
    streamed = []

    async def sink(view):
        streamed.append(len(view))
        await asyncio.sleep(0)

    if job.get("sink"):
        options["sink"] = sink
    gc.collect()
    try:
        answer = await http.request(hal, job["method"], job["url"], trust, **options)
    except NetError as error:
        return {"error": error.kind, "text": error.text}
    return {
        "status": answer.status,
        "fields": answer.fields,
        "body": answer.body.decode(),
        "streamed": sum(streamed),
        "largest": max(streamed or [0]),
    }


async def main():
    hal = Hal()
    for job in json.loads(read(sys.argv[2])):
        print(json.dumps(await run(hal, job)))


asyncio.run(main())
