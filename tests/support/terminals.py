"""Runs the command on a pseudo-terminal, as a person sees it."""

from __future__ import annotations

import os
import pty
import re
import signal
import threading
import time
from types import TracebackType

import warm
from command_line import environment

#: What makes a line a log record: it begins with the time.
RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d|^\{\"")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OnTerminal:
    """A command whose input, output and errors are one terminal; killed at the end of the block."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        self._text = ""
        self._grown = threading.Condition()
        self.started = time.monotonic()
        with open(theirs, "rb", buffering=0) as source, open(os.dup(theirs), "wb", buffering=0) as target:
            self.process = warm.Process(
                ["everindex", *arguments],
                env=environment({"TERM": "xterm"} | variables),
                stdin=source,
                stdout=target,
                stderr=target,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                found = os.read(self._ours, 65536)
            except OSError:  # Linux's word for the end of a terminal
                found = b""
            with self._grown:
                self._text += found.decode(errors="replace")
                self._grown.notify_all()
            if not found:
                return

    @property
    def lines(self) -> list[str]:
        """What was written so far, without colours; of a line that was drawn over, every version."""
        return [line for line in re.split(r"[\r\n]+", _CONTROL.sub("", self._text)) if line.strip()]

    @property
    def records(self) -> list[str]:
        return [line for line in self.lines if RECORD.search(line)]

    def wait_for(self, text: str, *, seconds: float = 60) -> float:
        """Waits until a line has `text`; the seconds since the start."""
        deadline = time.monotonic() + seconds
        with self._grown:
            while not any(text in line for line in self.lines):
                left = deadline - time.monotonic()
                assert left > 0, f"no {text!r}:\n{self._text}"
                assert self._reader.is_alive(), f"ended without {text!r}:\n{self._text}"
                self._grown.wait(min(left, 0.2))
        return time.monotonic() - self.started

    def end(self, *, seconds: float = 60) -> int:
        """The exit status, when the command has ended by itself."""
        status = self.process.wait(seconds)
        self._reader.join(10)
        return status

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()
