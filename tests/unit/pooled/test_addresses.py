"""The addresses of one database belong together, are refused where they cannot be meant, and are never shown whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from everindex.errors import SettingInvalid
from everindex.pg import address
from everindex.pg.replica import noticing_silence
from everindex.settings import Settings, read_settings

MAIN = "postgresql://app:s3cret@pooler:6432/news"
DIRECT = "postgresql://app:s3cret@db:5432/news"
READ = "postgresql://app:s3cret@r1:5432,r2:5433/news"


def test_commands_take_the_direct_address_and_instances_the_first() -> None:
    settings = Settings(DATABASE_URL=MAIN, DATABASE_URL_DIRECT=DIRECT, DATABASE_URL_READ=READ)
    with address.server(settings) as found:
        assert found == DIRECT
    with address.servers(settings) as together:
        assert (together.main, together.direct, together.read) == (MAIN, DIRECT, READ)
    assert "s3cret" not in repr(together) + repr(settings)


@pytest.mark.parametrize("conninfo", [MAIN, DIRECT])
def test_either_address_of_the_configured_database_brings_the_others(conninfo: str) -> None:
    settings = Settings(DATABASE_URL=MAIN, DATABASE_URL_DIRECT=DIRECT, DATABASE_URL_READ=READ)
    assert address.belonging_to(conninfo, settings).read == READ


def test_another_database_stands_alone() -> None:
    settings = Settings(DATABASE_URL=MAIN, DATABASE_URL_DIRECT=DIRECT, DATABASE_URL_READ=READ)
    other = "postgresql://app@elsewhere/other"
    found = address.belonging_to(other, settings)
    assert (found.main, found.direct, found.read) == (other, other, None)


@pytest.mark.parametrize("name", ["DATABASE_URL_DIRECT", "DATABASE_URL_READ"])
def test_another_way_to_a_server_that_is_not_named_is_refused(name: str) -> None:
    with pytest.raises(SettingInvalid, match=name), address.servers(Settings(**{name: READ})):
        pass


@pytest.mark.parametrize("name", ["DATABASE_URL_DIRECT", "DATABASE_URL_READ"])
def test_an_address_that_is_none_is_named_and_not_shown(name: str) -> None:
    settings = Settings(**{"DATABASE_URL": MAIN, name: "s3cret nonsense"})
    with pytest.raises(SettingInvalid, match=name) as told, address.servers(settings):
        pass
    assert "s3cret" not in str(told.value)


def test_an_address_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "read").write_text(READ + "\n", encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL", MAIN)
    monkeypatch.setenv("DATABASE_URL_READ_FILE", str(tmp_path / "read"))
    assert address.configured(read_settings()).read == READ


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        (READ, "database news at r1:5432, r2:5433 as app"),
        ("host=a,b port=7 dbname=x", "database x at a:7, b:7"),
        ("postgresql://a,b/x", "database x at a, b"),
        ("host=/s,/t port=1,2 user=u password=s3cret", "database u at /s, /t as u"),
    ],
)
def test_several_hosts_are_shown_with_their_ports(conninfo: str, shown: str) -> None:
    assert address.describe(conninfo) == shown


def test_a_silent_replica_is_given_up_soon_unless_the_address_says_otherwise() -> None:
    assert "tcp_user_timeout=5000" in noticing_silence(READ)
    assert "tcp_user_timeout=60000" in noticing_silence(READ + "?tcp_user_timeout=60000")
