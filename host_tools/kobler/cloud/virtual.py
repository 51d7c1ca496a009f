"""The virtual board as a child process, so that neither broker nor terminal ever delays its bus."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..errors import KoblerError

_READY_S = 30.0
_STOP_S = 8.0


class VirtualBoard:
    """A board on STATE's flash image; powered on entering, off and gone on leaving."""

    def __init__(self, state: Path, board: str, rs485: Path | None, runtime: str) -> None:
        folder = state / "board"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KoblerError(f"cannot make {folder}: {error.strerror}; remove it or name another: --state") from None
        self._log = folder / "log"
        self._command = [sys.executable, "-P", "-m", "kobler.cloud.board_process", "--board", board]
        self._command += ["--flash", str(folder / f"{Path(board).stem}.bin"), "--runtime", runtime]
        if rs485 is not None:
            self._command += ["--rs485", str(rs485.absolute())]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> VirtualBoard:
        with self._log.open("w") as log:
            # A session of its own: Ctrl-C reaches this process alone, which then ends the board in order. The
            # pipe at its standard input is what tells the board that we are gone, however we went.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self

    def ready(self) -> str:
        """Wait for power; returns the URL of the board's USB port."""
        process = self._process
        assert process is not None and process.stdout is not None
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        stream = process.stdout

        def pump() -> None:
            for line in stream:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=pump, daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=_READY_S)
            except queue.Empty:
                raise KoblerError(f"the virtual board did not start within {_READY_S:.0f} s: see {self._log}") from None
            if line is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_S)
                raise KoblerError(self._obituary())
            with suppress(ValueError, TypeError, KeyError):
                return str(json.loads(line)["usb"])

    def check(self) -> None:
        """Raises KoblerError when the board's process has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise KoblerError(self._obituary())

    def _obituary(self) -> str:
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = said[-1].removeprefix("kobler: ") if said else "no word"
        status = self._process.returncode if self._process else None
        if status in (1, 2) and said:
            return last
        return f"the virtual board ended (status {status}): {last}; see {self._log}"

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Take its power away and end its process."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
