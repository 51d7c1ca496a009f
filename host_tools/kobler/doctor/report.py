"""The findings and the firewall's table: lines for people, JSON Lines for programs, Markdown for a ticket."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from enum import Enum
from typing import Any

from ..config.firewall import Rule, as_markdown, as_table, markdown
from .finding import Finding

_MARKS = {True: "ok", False: "FAILED", None: "-"}
_COLUMNS = ("check", "", "ms", "what was found", "what to do")


class Form(Enum):
    """How it is shown."""

    LINES = "lines"
    JSON = "json"
    MARKDOWN = "markdown"


class Report:
    """Shows what it is handed; Markdown at the end, as a whole."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.findings: list[Finding] = []

    @property
    def healthy(self) -> bool:
        """Whether nothing has failed, of what was tried."""
        return bool(self.findings) and all(finding.ok is not False for finding in self.findings)

    def unit(self, who: Mapping[str, Any]) -> None:
        """Which unit answers."""
        if self.form is Form.JSON:
            _line("unit", who)
        else:
            text = f"unit {who.get('id')}, firmware {who.get('firmware')} on {who.get('board')}"
            print(text + ("\n" if self.form is Form.MARKDOWN else ""), flush=True)

    def finding(self, finding: Finding) -> None:
        """One more."""
        self.findings.append(finding)
        if self.form is Form.JSON:
            print(json.dumps(finding.as_json()), flush=True)
        elif self.form is Form.LINES:
            mark, ms = _MARKS[finding.ok], finding.seconds * 1000
            print(f"{finding.check:13} {mark:7} {ms:6.0f} ms  {finding.detail}", flush=True)
            if finding.remedy:
                print(f"{'':32}-> {finding.remedy}", flush=True)

    def end(self, rules: Iterable[Rule]) -> None:
        """The firewall's table, and what was kept back."""
        found = list(rules)
        if self.form is Form.JSON:
            for rule in found:
                _line("rule", asdict(rule))
            return
        if self.form is Form.MARKDOWN:
            rows = ((one.check, _MARKS[one.ok], f"{one.seconds * 1000:.0f}", one.detail, one.remedy)
                    for one in self.findings)  # fmt: skip
            print(markdown(_COLUMNS, rows))
            if found:
                print(f"\nThe firewall has to let through:\n\n{as_markdown(found)}")
        elif found:
            from rich.console import Console

            print("\nThe firewall has to let through:")
            Console(highlight=False).print(as_table(found))


def _line(event: str, fields: Mapping[str, Any]) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
