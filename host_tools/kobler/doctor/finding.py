"""What a check came to, on the host or on the unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `ok` None when it was not tried."""

    check: str
    ok: bool | None
    detail: str
    remedy: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"event": "check", **asdict(self), "seconds": round(self.seconds, 4)}
