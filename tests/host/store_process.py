"""sqlite_store.py as a process of its own, that a test starts, kills and looks into."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kobler.pki import Issued


class StoreProcess:
    """The database and the program's words are in `folder`; used as a context it is started and killed."""

    def __init__(self, folder: Path, issued: Issued, port: int, scheme: str = "wss", **settings: Any) -> None:
        self.database = folder / "store.db"
        self._log = folder / "store.log"
        given: dict[str, Any] = {"database": str(self.database), "port": port, "scheme": scheme, "client": "store"}
        given.update({"hosts": ["localhost"], "ca": str(issued.ca_pem)})
        given.update({"cert": str(issued.cert_pem), "key": str(issued.key_pem), **settings})
        self._settings = folder / "store.json"
        self._settings.write_text(json.dumps(given))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> StoreProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("sqlite_store.py")), str(self._settings)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    def check(self) -> None:
        assert self._process and self._process.poll() is None, self.log()

    def log(self) -> str:
        return self._log.read_text()[-3000:]

    def connected(self, times: int = 1, seconds: float = 15) -> None:
        """Until it has connected so often, since the first start."""
        until = time.monotonic() + seconds
        while self._log.read_text().count('"connected"') < times:
            self.check()
            assert time.monotonic() < until, self.log()
            time.sleep(0.02)

    def _rows(self, query: str, *given: object) -> list[Any]:
        db = sqlite3.connect(self.database, timeout=10)
        try:
            return db.execute(query, given).fetchall()
        finally:
            db.close()

    def history(self, device: str) -> dict[int, Any]:
        """seq -> value of what is kept; the database itself holds that a seq is there once."""
        return dict(self._rows("SELECT seq, value FROM history WHERE device = ? ORDER BY seq", device))

    def figures(self, device: str) -> tuple[int, int, int]:
        """Acknowledged number, records that were counted only, gaps that are waited for."""
        ((acked,),) = self._rows("SELECT acked FROM device WHERE id = ?", device) or [(0,)]
        ((shown,),) = self._rows("SELECT count(*) FROM shown WHERE device = ?", device)
        return acked, shown, len(self._rows("SELECT 1 FROM span WHERE device = ?", device))
