"""Python processes that need not import everything anew: each is forked from one that has loaded the application.

A start of the command is a second of imports, and the suite starts hundreds. What is forked here is a process of its own
in every other respect: its arguments, environment, directory, streams, signals and exit status. The true start, of the
console script and of the wheel, is tested in tests/acceptance/ship and in a few tests that say so.
"""

from __future__ import annotations

import atexit
import gc
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from everindex.cli.commands import COMMANDS
from everindex.settings import current_settings

#: What tests start, and what the application itself imports late.
LOADED = (
    "everindex.cli.run",
    *sorted({f"everindex.cli.{command.home.partition(':')[0]}" for command in COMMANDS}),
    "everindex.cli.logs",
    "everindex.pg.embedded.running",
    "numpy",
    "pgvector.psycopg",
    "rich.progress",
    "structlog",
    "everindex.web.app",
    "everindex.articles.embedding.static",
    "alembic.config",
    "alembic.autogenerate.api",
    "everindex.migrate.runner",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "attack",
)
#: Processes from a clean one: a fork of the tests' own would copy their connections.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([*LOADED])


def _run(words: Sequence[str], environment: Mapping[str, str], place: str, streams: Sequence[Connection]) -> None:
    """The life of a forked process, as if it had just been started."""
    os.setsid()
    gc.freeze()  # what all such processes share: looked through for garbage, its pages would be copied
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.environ.clear()
    os.environ.update(environment)
    current_settings.cache_clear()  # what was imported for all of them has read those of the parent
    time.tzset()
    os.chdir(place)
    for name in ("SIGTERM", "SIGHUP", "SIGCHLD", "SIGPIPE"):
        signal.signal(getattr(signal, name), signal.SIG_IGN if name == "SIGPIPE" else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding="utf-8")  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False),  # noqa: SIM115
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    try:
        _main(list(words))
    finally:
        atexit._run_exitfuncs()


def _main(words: list[str]) -> None:
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        assert words[0] == "everindex"
        sys.argv = words
        from everindex.cli import main

        main()


class Process:
    """A running process; what tests use of subprocess.Popen."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | int | None = None,
    ) -> None:
        """`words`: `everindex …`, `-m MODULE …` or `-c PROGRAM …`. Without `stdout` or `stderr` each is a pipe to be read as
        text; `stderr=subprocess.STDOUT` goes to the same."""
        ends: list[int] = []

        def pipe() -> tuple[IO[str], int]:
            read, write = os.pipe()
            ends.append(write)
            return open(read, encoding="utf-8", errors="replace"), write

        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        if stdout is None:
            self.stdout, out = pipe()
        else:
            out = stdout.fileno()
        if stderr is None:
            self.stderr, err = pipe()
        else:
            err = out if isinstance(stderr, int) else stderr.fileno()
        with open(os.devnull, "rb") as nothing:
            source = (stdin or nothing).fileno()
            streams = [Connection(os.dup(number), **kind) for number, kind in (
                (source, {"writable": False}), (out, {"readable": False}), (err, {"readable": False})
            )]  # fmt: skip
        environment = dict(os.environ if env is None else env)
        self._process = PROCESSES.Process(
            target=_run, args=(tuple(map(str, words)), environment, str(cwd or Path.cwd()), streams)
        )
        self._process.start()
        for end in ends:
            os.close(end)
        for stream in streams:
            stream.close()
        self.args = list(words)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is still to be read of both pipes, once the process has ended; closes them."""
        pipes = [stream for stream in (self.stdout, self.stderr) if stream is not None and not stream.closed]
        if not pipes:
            self.wait(timeout)
            return "", ""
        with ThreadPoolExecutor(2) as readers:
            reading = [readers.submit(stream.read) for stream in pipes]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            texts = [each.result() for each in reading]
        for stream in pipes:
            stream.close()
        return texts[0], (texts[1:] or [""])[0]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: bytes | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Runs a process to its end; its streams go through files, so that nothing has to be read meanwhile."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write(input or b"")
        given.seek(0)
        with Process(words, env=env, cwd=cwd, stdin=given, stdout=out, stderr=err) as process:
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        texts: list[Any] = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return subprocess.CompletedProcess(list(words), status, *texts)
