"""A person at a terminal: lines and log records do not mix, and whoever waits for a server says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx2
import psycopg
import pytest

from command_line import Running, everindex, three_lines, url_of
from everindex.articles.instance import Instance
from terminals import RECORD, OnTerminal

#: Port 1 of loopback: it refuses at once.
REFUSED = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "EVERINDEX_WAIT": ""}


def drop_index(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP INDEX articles_embedding_hnsw_idx")


# --- lines and records ---------------------------------------------------------------------------------------------


def test_on_a_terminal_a_deploy_shows_no_log_record(filled: str) -> None:
    drop_index(filled)
    with OnTerminal("heal", DATABASE_URL=url_of(filled)) as heal:
        assert heal.end() == 0
        assert heal.records == []
        assert any("built index" in line for line in heal.lines)


@pytest.mark.parametrize("option", ["-v", "--verbose", "--debug"])
def test_verbose_shows_the_records_on_a_terminal_too(filled: str, option: str) -> None:
    with OnTerminal("search", "memory leak", option, DATABASE_URL=url_of(filled)) as search:
        assert search.end() == 0
        assert any("[everindex.search" in line for line in search.records), search.lines
    with OnTerminal(option, "search", "memory leak", DATABASE_URL=url_of(filled)) as search:
        assert search.end() == 0
        assert search.records


def test_into_a_pipe_there_are_records_and_no_bar(filled: str) -> None:
    drop_index(filled)
    done = everindex("heal", DATABASE_URL=url_of(filled))
    assert (done.status, "built index" in done.stderr) == (0, True)
    assert any(RECORD.search(line) for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr + done.stdout


def test_a_server_on_a_terminal_tells_its_address_and_not_every_request(filled: str) -> None:
    with OnTerminal("serve", DATABASE_URL=url_of(filled), PORT="0") as serve:
        serve.wait_for("everindex serves at ")
        url = next(line for line in serve.lines if "serves at" in line).split("serves at ")[1].split()[0]
        assert httpx2.get(f"{url}/api/search?q=leak").status_code == 200
        assert serve.interrupt() == 0
        assert serve.records == []
    with OnTerminal("serve", "-v", DATABASE_URL=url_of(filled), PORT="0") as serve:
        serve.wait_for("everindex serves at ")
        url = next(line for line in serve.lines if "serves at" in line).split("serves at ")[1].split()[0]
        assert httpx2.get(f"{url}/api/search?q=leak").status_code == 200
        serve.wait_for("[everindex.access]")


def test_the_keeper_tells_a_person_what_it_does(filled: str) -> None:
    drop_index(filled)
    with OnTerminal("keep", "--interval", "0.5", DATABASE_URL=url_of(filled)) as keep:
        keep.wait_for("keeper: index public.articles_embedding_hnsw_idx built")
        assert keep.interrupt() == 0
        assert keep.records == []


def test_a_warning_reaches_a_person_as_a_line(read_only_instance: Instance) -> None:
    address = url_of(read_only_instance.conninfo)
    with OnTerminal("search", "leak", DATABASE_URL=address, EVERINDEX_SLOW_QUERY_MS="0") as search:
        assert search.end() == 0
        assert search.records == []
        assert any(line.startswith("warning: ") for line in search.lines), search.lines


# --- waiting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["status", "doctor", "verify", "plan", "warm", "embed", "bench", "search x", "article x", "similar x", "import -"],
)
def test_what_does_not_deploy_fails_at_once(command: str) -> None:
    done = everindex(*command.split(), timeout=30, **REFUSED)
    three_lines(done, "server-unreachable")
    assert "--wait SECONDS" in done.stderr


@pytest.mark.parametrize("command", ["migrate", "serve", "up", "deploy", "heal", "keep", "rollback"])
def test_what_deploys_waits_a_minute_and_says_so_within_a_second(command: str) -> None:
    with Running(command, **REFUSED) as running:
        line = running.wait_for("waiting for ", seconds=20)
        assert line.startswith("waiting for PostgreSQL, database none at 127.0.0.1:1 as nobody, at most ")
        assert 55 <= int(line.split("at most ")[1].split()[0]) <= 60
        assert "Connection refused" in line


def test_any_command_waits_when_it_is_told_to() -> None:
    for arguments, variables in (
        (("status", "--wait", "2"), {}),
        (("search", "x", "--wait", "2"), {}),
        (("doctor",), {"EVERINDEX_WAIT": "2"}),
    ):
        done = everindex(*arguments, **(REFUSED | variables))
        first, *error = done.stderr.splitlines()
        assert first.startswith("waiting for PostgreSQL, database none"), done.stderr
        assert error[0].startswith("server-unreachable: ")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Connections are taken, and nothing is ever answered, as behind a wall that drops packets."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_server_that_never_answers_is_told_while_it_is_waited_for(silent_port: int) -> None:
    address = f"postgresql://nobody@127.0.0.1:{silent_port}/none"
    with OnTerminal("migrate", DATABASE_URL=address, EVERINDEX_WAIT="") as migrate:
        migrate.wait_for("no answer so far", seconds=8)
    with Running("status", DATABASE_URL=address) as status:
        line = status.wait_for("no answer so far", seconds=9)
        assert "at most 3 s more" in line
