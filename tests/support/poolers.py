"""A real PgBouncer in front of a server of these tests, in a private directory; nothing listens on a port."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.pg.embedded.account import account_for_server, as_account
from places import open_place

#: Debian installs it where only root has its PATH.
CANDIDATES = ("/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/usr/bin/pgbouncer")


def pgbouncer_program() -> str:
    """Debian's PgBouncer; skips where it is not installed, fails so under CI."""
    found = shutil.which("pgbouncer") or next((path for path in CANDIDATES if os.access(path, os.X_OK)), None)
    if found is None:
        reason = "PgBouncer is not installed (apt install pgbouncer)"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def pgbouncer(server: str, *, mode: str, **settings: object) -> Iterator[str]:
    """PgBouncer before the server of `server`; the connection string through it, without a database name of its own."""
    program = pgbouncer_program()
    account = account_for_server()
    parts = conninfo_to_dict(server)
    with open_place() as place:
        if account is not None:
            os.chown(place, account.uid, account.gid)
        config = place / "pgbouncer.ini"
        wanted = {
            "pool_mode": mode,
            "unix_socket_dir": place,
            "listen_port": 6432,
            "auth_type": "any",
            "logfile": place / "pgbouncer.log",
            "server_login_retry": 1,
            "admin_users": "everindex",
        } | settings
        lines = [f"{name} = {value}" for name, value in wanted.items()]
        target = f"host={parts['host']} port={parts.get('port', 5432)} user={parts['user']}"
        config.write_text("[databases]\n* = " + target + "\n[pgbouncer]\n" + "\n".join(lines) + "\n", encoding="utf-8")
        config.chmod(0o644)
        with subprocess.Popen([program, "-q", str(config)], **as_account(account), stderr=subprocess.PIPE) as process:
            try:
                address = make_conninfo(server, host=str(place), port=6432)
                wait_for(address, process, place / "pgbouncer.log")
                yield address
            finally:
                process.terminate()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(address, dbname="pgbouncer", autocommit=True).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8") if log.exists() else ""
                raise AssertionError(f"PgBouncer did not start: {said}") from None
            time.sleep(0.02)


def through(address: str, conninfo: str) -> str:
    """The database of `conninfo` through the pooler at `address`."""
    return make_conninfo(address, dbname=conninfo_to_dict(conninfo)["dbname"])


def of_every_session(address: str, names: tuple[str, ...]) -> dict[int, dict[str, str]]:
    """The settings `names` of every session that the pooler holds at the server, by its process number.

    A transaction keeps its session: so many at once, until the pooler gives out no more within half a second.
    """
    found: dict[int, dict[str, str]] = {}
    with ExitStack() as stack:
        for _ in range(idle_sessions(address)):
            connection = stack.enter_context(psycopg.connect(address, prepare_threshold=None))
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert row is not None
            rows = connection.execute(
                "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) name", (list(names),)
            )
            found[row[0]] = dict(rows.fetchall())
    assert found
    return found


def idle_sessions(address: str) -> int:
    """How many sessions of the database of `address` the pooler holds at the server without using them."""
    database = conninfo_to_dict(address)["dbname"]
    with psycopg.connect(address, dbname="pgbouncer", autocommit=True, cursor_factory=psycopg.ClientCursor) as admin:
        cursor = admin.execute("SHOW POOLS")
        names = [column.name for column in cursor.description or ()]
        pools = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return sum(int(pool["sv_idle"]) + int(pool["sv_used"]) for pool in pools if pool["database"] == database)
