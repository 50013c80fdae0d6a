"""A primary and a streaming standby of it, made with pg_basebackup: real servers that tests stop, start and hold back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from everindex.pg.embedded import running as embedded
from everindex.pg.embedded.account import Account, account_for_server, as_account
from everindex.pg.embedded.programs import run_program, server_environment, usable_binaries
from everindex.pg.embedded.running import Binaries, embedded_binaries
from places import open_place

DATABASE = "everindex"
SETTINGS = {
    "fsync": "off",
    "shared_buffers": "32MB",
    "wal_retrieve_retry_interval": "100ms",
    # What a query on the standby still needs is taken away from it at once.
    "max_standby_streaming_delay": "0",
}


def until(claim: Callable[[], bool], *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Server:
    """A server over a data directory; it is started and stopped by a test and listens on a socket of its own."""

    data: Path
    socket_dir: Path
    binaries: Binaries
    account: Account | None
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def conninfo(self) -> str:
        return make_conninfo(host=str(self.socket_dir), port=5432, user="everindex", dbname=DATABASE)

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    def start(self) -> None:
        settings = SETTINGS | {"unix_socket_directories": str(self.socket_dir)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries.program("postgres"), "-D", str(self.data), *options],
                cwd="/",
                env=server_environment(),
                stdout=log,
                stderr=log,
                **as_account(self.account),
            )
        deadline = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        """PostgreSQL's fast shutdown: open connections are told, and ended."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def answers(self) -> bool:
        try:
            psycopg.connect(self.conninfo).close()
        except psycopg.OperationalError:
            return False
        return True

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def value(self, statement: str) -> object:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
            return None if row is None else row[0]


@dataclass(frozen=True)
class Pair:
    """A primary and its standby, both running."""

    primary: Server
    standby: Server

    def wait_until_replayed(self) -> None:
        position = self.primary.value("SELECT pg_current_wal_insert_lsn()::text")
        deadline = time.monotonic() + 30
        while not self.standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def bring_up(self) -> None:
        """Both run, and the standby replays what comes."""
        for server in (self.primary, self.standby):
            if server.process is None:
                server.start()
        self.standby.run("SELECT pg_wal_replay_resume()")
        self.wait_until_replayed()


@contextmanager
def pair() -> Iterator[Pair]:
    """An empty database with its standby."""
    account = account_for_server()
    binaries, _ = usable_binaries(embedded_binaries(), account)
    with open_place() as place:
        with embedded.running(place / "home", database=DATABASE, settings=SETTINGS):
            pass
        if account is not None:
            os.chown(place, account.uid, account.gid)
        made = []
        for name in ("p", "s"):
            folder = place / name
            folder.mkdir()
            if account is not None:
                os.chown(folder, account.uid, account.gid)
            made.append(folder)
        primary = Server((place / "home" / "data").resolve(), made[0], binaries, account)
        standby = Server(place / "standby", made[1], binaries, account)
        try:
            primary.start()
            # --write-recovery-conf makes it a standby of where it was copied from.
            copied = run_program(
                [binaries.program("pg_basebackup"), "-d", primary.conninfo, "-D", str(standby.data),
                 "--write-recovery-conf", "--checkpoint=fast", "--no-sync"],
                account,
            )  # fmt: skip
            assert copied.returncode == 0, copied.stderr
            standby.start()
            yield Pair(primary, standby)
        finally:
            standby.stop()
            primary.stop()
