"""The benches: what was measured, against which limit or peer in the same run, the goal, and whether it was met."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


@dataclass
class Row:
    """One figure. `ratio` is figure / against; `goal` speaks of the figure in `unit`, as text a person reads."""

    name: str
    figure: float
    unit: str
    against: float | None
    ratio: float | None
    goal: str
    met: bool | None


def row(name: str, figure: float, unit: str, limit: float | None, *, at_least: bool = False) -> Row:
    """A figure with a limit it must not exceed (or must reach); None: published without a goal."""
    if limit is None:
        return Row(name, figure, unit, None, None, "", None)
    met = figure >= limit if at_least else figure <= limit
    goal = f"{'>=' if at_least else '<='} {limit:g} {unit}"
    return Row(name, figure, unit, limit, round(figure / limit, 4) if limit else None, goal, met)


def benches() -> dict[str, Callable[[], Iterator[Row]]]:
    import bus
    import faults
    import heap
    import start
    import store
    import trust
    import uplink
    import uplink_backlog

    return {
        "bus": bus.rtu,
        "faults": faults.link,
        "flash": start.flash_use,
        "heap": heap.modules_on_32_bit,
        "start": start.first_value,
        "store": store.journal,
        "trust": trust.p256,
        "uplink": uplink.codecs,
        "uplink_backlog": uplink_backlog.link,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a prefix of the benches to run")
    parser.add_argument("--json", action="store_true", help="JSON Lines on standard output")
    options = parser.parse_args()
    chosen = {
        name: bench
        for name, bench in benches().items()
        if not options.names or any(name.startswith(n) or n.startswith(name) for n in options.names)
    }
    if not chosen:
        parser.error(f"no bench of that name; there are {', '.join(benches())}")
    failed = False
    for bench in chosen.values():
        for result in bench():
            failed |= result.met is False
            if options.json:
                print(json.dumps(asdict(result)), flush=True)
            else:
                verdict = {True: "met", False: "NOT MET", None: ""}[result.met]
                figure = f"{result.figure:12,.{1 if result.figure >= 10 else 3}f}"
                print(f"{result.name:42} {figure} {result.unit:8} {result.goal:20} {verdict}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    # The bench modules import `main` for Row: they must find this very module, not a second copy of it.
    sys.modules["main"] = sys.modules["__main__"]
    main()
