"""Waiting for PostgreSQL: what time may cure is waited for, everything else is told at once."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.errors import CredentialsRefused, DatabaseMissing, LockNotObtained, ServerHostUnknown, ServerUnreachable
from everindex.migrate import runner
from everindex.pg.connections import connect
from everindex.pg.embedded import running as embedded
from everindex.pg.locks import advisory_lock
from places import open_place

PASSWORD = "never-show-this-4711"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def own_address(number: int) -> str:
    """A loopback address of this process: the embedded server's port is always 5432."""
    return f"127.{os.getpid() >> 8 & 0x7F | 0x80}.{os.getpid() & 0xFF}.{number}"


def allow_tcp(admin: str, method: str) -> None:
    """Lets the server's next start take connections from loopback by `method`."""
    with psycopg.connect(admin) as connection:
        data = connection.execute("SHOW data_directory").fetchone()
    assert data is not None
    hba = Path(str(data[0])) / "pg_hba.conf"
    hba.write_text(f"local all all trust\nhost all all 127.0.0.0/8 {method}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def with_password() -> Iterator[str]:
    """A server on loopback that asks for a password (scram), as a container's does."""
    address = own_address(1)
    with open_place() as place:
        settings = {"listen_addresses": address, "password_encryption": "scram-sha-256"}
        with embedded.running(place / "server") as admin, psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
            allow_tcp(admin, "scram-sha-256")
        with embedded.running(place / "server", settings=settings):
            yield f"host={address} port=5432 dbname=everindex user=app password={PASSWORD}"


def told_at_once(conninfo: str, error: type[Exception]) -> str:
    started = time.monotonic()
    with pytest.raises(error) as raised:
        runner.upgrade(conninfo, wait_seconds=30)
    assert time.monotonic() - started < 10
    text = str(raised.value)
    assert PASSWORD not in text
    assert len(text.splitlines()) == 3
    return text


def test_a_server_that_takes_no_connection_from_here_is_told_at_once() -> None:
    with open_place() as place, embedded.running(place / "server", settings={"listen_addresses": own_address(3)}):
        told_at_once(f"host={own_address(3)} port=5432 dbname=everindex user=everindex", CredentialsRefused)


def test_a_wrong_password_is_told_at_once_and_never_shown(with_password: str) -> None:
    connect(with_password).close()
    text = told_at_once(make_conninfo(with_password, password=PASSWORD + "x"), CredentialsRefused)
    assert text.startswith("credentials-refused:")
    told_at_once(make_conninfo(with_password, user="nobody_here"), CredentialsRefused)


def test_an_unknown_database_is_told_at_once(with_password: str) -> None:
    assert "createdb" in told_at_once(make_conninfo(with_password, dbname="not_there"), DatabaseMissing)


def test_a_host_name_that_does_not_resolve_is_told_at_once() -> None:
    told_at_once(f"host=no-such-host.invalid dbname=x user=x password={PASSWORD}", ServerHostUnknown)


def test_a_refused_connection_is_waited_for_as_long_as_asked() -> None:
    started = time.monotonic()
    reasons: list[str] = []
    with pytest.raises(ServerUnreachable) as raised:
        connect(
            f"host=127.0.0.1 port={free_port()} dbname=x user=x password={PASSWORD}",
            wait_seconds=1.5,
            on_wait=lambda reason, left: reasons.append(reason),
        )
    assert 1.4 <= time.monotonic() - started < 8
    assert len(reasons) >= 3
    assert PASSWORD not in str(raised.value)


def test_a_server_that_comes_up_meanwhile_is_used() -> None:
    address = own_address(2)
    settings = {"listen_addresses": address}
    stop = threading.Event()

    def start_later(place: Path) -> None:
        time.sleep(1.0)
        with embedded.running(place / "server", settings=settings):
            stop.wait(60)

    with open_place() as place:
        with embedded.running(place / "server") as admin:
            allow_tcp(admin, "trust")
        thread = threading.Thread(target=start_later, args=(place,))
        thread.start()
        try:
            waited: list[str] = []
            conninfo = f"host={address} port=5432 dbname=everindex user=everindex"
            with connect(conninfo, wait_seconds=30, on_wait=lambda reason, left: waited.append(reason)) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert waited
        finally:
            stop.set()
            thread.join()


def test_a_lock_that_somebody_holds_is_named_and_given_up_after_the_wait(empty: str) -> None:
    with advisory_lock(empty, "migrate", wait_seconds=5):
        started = time.monotonic()
        with (
            pytest.raises(LockNotObtained, match="another process") as raised,
            advisory_lock(empty, "migrate", wait_seconds=0.5),
        ):
            pass
        assert time.monotonic() - started < 5
    assert "everindex lock migrate" in raised.value.why
    with advisory_lock(empty, "migrate", wait_seconds=0.5):
        pass


def test_a_waiter_holds_no_snapshot_that_a_concurrent_build_would_wait_for(empty: str) -> None:
    def wait() -> None:
        try:
            with advisory_lock(empty, "migrate", wait_seconds=3, poll_seconds=0.05):
                pass
        except LockNotObtained:
            pass

    with advisory_lock(empty, "migrate", wait_seconds=5), psycopg.connect(empty, autocommit=True) as observer:
        waiters = [threading.Thread(target=wait) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        idle = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            row = observer.execute(
                "SELECT count(*) FILTER (WHERE state = 'idle'), "
                "count(*) FILTER (WHERE state = 'idle' AND backend_xmin IS NOT NULL) "
                "FROM pg_stat_activity "
                "WHERE application_name = 'everindex lock migrate' AND datname = current_database()"
            ).fetchone()
            assert row is not None
            idle = max(idle, row[0])
            assert row[1] == 0
            time.sleep(0.05)
        assert idle >= 3
        for waiter in waiters:
            waiter.join()
