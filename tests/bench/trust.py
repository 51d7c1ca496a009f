"""P-256 on the real MicroPython of this computer: what its operations take, in which heap, and what their times tell.

Times are the interpreter's own processor time, so that other programs on the computer hardly count. The peer is the
plain ladder, which any description of the curve leads to: double and add.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kobler.build.modules import compile_all
from kobler.resources import firmware_dir
from kobler.sim.interpreter import micropython
from main import Row, row

_HEAP = "128k"
_REPEATS = 5
_COUNT = 100
_SMALLEST = range(8, 64, 2)  # KB
_T = 4.5  # the bound of Welch's t that is usual for tests of leakage
_SAMPLES = 1500  # of each class

_START = """
import sys, json, time, gc, os
sys.path.insert(0, sys.argv[1])
from coupler.trust import p256
x, y = p256.point(p256.public_key(4711))
def plain(k):
    total = (0, 1, 0)
    for i in range(255, -1, -1):
        total = p256._double(total)
        if k >> i & 1:
            total = p256._add(total, x, y)
    return pow(total[2], p256.P - 2, p256.P)
def took(function, *arguments):
    began = time.time_ns()
    function(*arguments)
    return (time.time_ns() - began) / 1000
"""

# The operation of this name, so many times.
_TIMES = (
    _START
    + """
name, count = sys.argv[2], int(sys.argv[3])
d = p256.generate()
public = p256.public_key(d)
digest = bytes(range(32))
r, s = p256.sign(d, digest)
calls = {
    "key": lambda: p256.public_key(d),
    "sign": lambda: p256.sign(d, digest),
    "verify": lambda: p256.verify(public, digest, r, s),
    "plain": lambda: plain(p256.generate()),
}
for _ in range(count):
    calls[name]()
"""
)

# Two classes of scalars, taken in random order: few bits set, and most bits set.
_LEAK = (
    _START
    + """
n = int(sys.argv[2])
few = [1 << i | 1 for i in range(1, 255, 5)]
many = [p256.N - one for one in few]
def run(function, n):
    times = ([], [])
    for i in range(2 * n):
        kind = os.urandom(1)[0] & 1
        one = (few, many)[kind][i % len(few)]
        if not i & 7:
            gc.collect()
        times[kind].append(function(one))
    return times
digest = bytes(range(32))
print(json.dumps([
    run(lambda k: took(p256.public_key, k), n),
    run(lambda k: took(p256.sign, k, digest), n),
    run(lambda k: took(plain, k), n // 10),
]))
"""
)

_FITS = """
import sys
sys.path.insert(0, sys.argv[1])
from coupler.trust import p256
d = p256.generate()
r, s = p256.sign(d, bytes(32))
print(p256.verify(p256.public_key(d), bytes(32), r, s))
"""


def _run(script: str, heap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(micropython()), "-X", f"heapsize={heap}", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _milliseconds(folder: str, name: str) -> float:
    """Of processor time for one operation: the median of some processes."""

    def seconds(count: int) -> float:
        before = os.times().children_user
        done = _run(_TIMES, _HEAP, folder, name, str(count))
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return os.times().children_user - before

    return statistics.median((seconds(_COUNT) - seconds(0)) / _COUNT * 1000 for _ in range(_REPEATS))


def _json(script: str, heap: str, *arguments: str) -> Any:
    done = _run(script, heap, *arguments)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout)


def _welch(one: Sequence[float], other: Sequence[float]) -> float:
    """|t| of Welch's test, after the tenth that the scheduler disturbed most was left out of both."""
    limit = sorted([*one, *other])[int(0.9 * (len(one) + len(other)))]
    one, other = [x for x in one if x < limit], [x for x in other if x < limit]
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    return float(abs(statistics.fmean(one) - statistics.fmean(other)) / spread**0.5)


def p256() -> Iterator[Row]:
    """Speed, heap and leakage in time."""
    with tempfile.TemporaryDirectory() as scratch:
        for module in compile_all(firmware_dir()):
            path = Path(scratch) / module.target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(module.data)
            if module.target == "coupler/trust/p256.mpy":
                yield row("trust.p256.bytes", len(module.data), "bytes", None)
        times = {name: _milliseconds(scratch, name) for name in ("key", "sign", "verify")}
        for name, goal in (("sign", 5.0), ("verify", 8.0), ("key", None)):
            yield row(f"trust.p256.{name}", round(times[name], 2), "ms", goal)
        smallest = next(size for size in _SMALLEST if _run(_FITS, f"{size}k", scratch).stdout == "True\n")
        yield row("trust.p256.heap", smallest, "KB", 32)
        # From its sources: the plain ladder is made of its private parts.
        sources = str(firmware_dir())
        key, plain = round(times["key"], 2), round(_milliseconds(sources, "plain"), 2)
        yield Row("trust.p256.key_plain", key, "ms", plain, round(key / plain, 3), "", None)
        multiply, sign, bare = _json(_LEAK, "8m", sources, str(_SAMPLES))
        yield row("trust.p256.leak_multiply", round(_welch(*multiply), 2), "t", _T)
        yield row("trust.p256.leak_sign", round(_welch(*sign), 2), "t", _T)
        # The same test on arithmetic that is not blinded: it must see what there is to be seen.
        yield row("trust.p256.leak_plain", round(_welch(*bare), 2), "t", _T, at_least=True)
