"""Runs the `everindex` command in processes of its own (warm.py says what they save)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

import warm

#: The console script of the interpreter that runs the tests.
COMMAND = Path(sys.executable).with_name("everindex")
#: In every address that the tests give; no output may ever hold it.
PASSWORD = "s3cret-Pa55word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON document of stdout."""
        return json.loads(self.stdout)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """What the command sees: no setting of whoever runs the tests, but those given."""
    foreign = ("DATABASE_URL", "DB_", "EVERINDEX_", "OPENAI_", "EMBEDDING_", "PG", "COLUMNS", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign) and name != "PORT"}
    return kept | {"EVERINDEX_WAIT": "0", "COLUMNS": "200"} | dict(variables)


def everindex(
    *arguments: str, stdin: str | bytes | None = None, cwd: Path | None = None, timeout: float = 120, **variables: str
) -> Done:
    """Runs `everindex ARGUMENTS` with settings from `variables` alone, and checks what holds for every run: no traceback
    and no password on either stream."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    seen = environment(variables)
    if any(name.startswith(("PYTHON", "LC_")) for name in variables):  # they say how an interpreter starts
        done = subprocess.run(
            [str(COMMAND), *arguments],
            input=given,
            capture_output=True,
            cwd=cwd,
            env=seen,
            timeout=timeout,
            check=False,
        )
        done = subprocess.CompletedProcess(
            done.args, done.returncode, *(text.decode(errors="replace") for text in (done.stdout, done.stderr))
        )
    else:
        done = warm.run(["everindex", *arguments], input=given, cwd=cwd, env=seen, timeout=timeout)
    result = Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)
    for stream in (result.stdout, result.stderr):
        assert PASSWORD not in stream
        assert "Traceback" not in stream, stream
    return result


def url_of(conninfo: str, *, scheme: str = "postgresql", password: str = PASSWORD) -> str:
    """The address of a database as DATABASE_URL has it, its socket directory as an escaped host, with a password."""
    parts = conninfo_to_dict(conninfo)
    return (
        f"{scheme}://{parts['user']}:{password}@{quote(str(parts['host']), safe='')}:{parts['port']}/{parts['dbname']}"
    )


def three_lines(done: Done, slug: str, *, status: int = 1) -> None:
    """The command ended with one error told as what, why and next."""
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith(f"{slug}: ")
    assert lines[1].startswith("  why:  ")
    assert lines[2].startswith("  next: ")
    assert all(len(line) > 15 for line in lines)
    assert done.status == status


class Running:
    """A command that goes on, its lines as they come; killed with all of its group at the end of the block."""

    def __init__(self, *arguments: str, cwd: Path | None = None, **variables: str) -> None:
        self.started = time.monotonic()
        self.process = warm.Process(
            ["everindex", *arguments], cwd=cwd, env=environment(variables), stderr=subprocess.STDOUT
        )
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        self.process.stdout.close()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, *, seconds: float = 60) -> str:
        """The first line with `text`. Fails when the command ends, or the time is over, before."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self._grown:
            while True:
                for line in self.lines[seen:]:
                    if text in line:
                        return line
                seen = len(self.lines)
                left = deadline - time.monotonic()
                assert left > 0, f"no {text!r} within {seconds} s:\n{self.output}"
                assert self.process.poll() is None or self._reader.is_alive(), f"ended:\n{self.output}"
                self._grown.wait(min(left, 0.2))

    def url(self, *, seconds: float = 60) -> str:
        """The address that the command says it serves at."""
        line = self.wait_for("everindex serves at ", seconds=seconds)
        return line.split("everindex serves at ")[1].split()[0]

    def end(self, number: signal.Signals, *, seconds: float = 30) -> int:
        """Sends a signal and waits for the end; the exit status."""
        self.process.send_signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise
        self._reader.join(10)
        return status

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()
