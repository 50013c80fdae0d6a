"""A statement with settings of its own in one round trip: right, leaving nothing, and safe when something breaks."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from everindex.pg import roundtrip
from everindex.pg.connections import Connection, connect


@pytest.fixture
def connection(empty: str) -> Iterator[Connection]:
    with connect(empty) as opened:
        yield opened


def test_named_placeholders_become_numbers_in_the_order_of_their_first_use() -> None:
    text, names = roundtrip.positional("SELECT %(b)s::int, %(a)b, %(b)s::int, '100 %%'")
    assert text == "SELECT $1::int, $2, $1::int, '100 %'"
    assert names == ("b", "a")


def test_settings_hold_for_the_statement_and_end_with_it(connection: Connection) -> None:
    settings = (("work_mem", "7MB"), ("enable_seqscan", "off"))
    for _ in range(3):
        rows = roundtrip.run(
            connection, settings, "SELECT current_setting('work_mem'), current_setting('enable_seqscan')", []
        )
        assert rows == [("7MB", "off")]
    assert connection.execute("SELECT current_setting('enable_seqscan')").fetchone() == ("on",)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_settings_of_any_number_hold_and_a_session_keeps_a_bounded_number_of_statements(connection: Connection) -> None:
    shown = "SELECT current_setting('work_mem')"
    for number in range(1, roundtrip.MOST_PREPARED + 50):
        assert roundtrip.run(connection, [("work_mem", f"{64 + number}kB")], shown, []) == [(f"{64 + number}kB",)]
    (kept,) = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() or (0,)
    assert kept <= roundtrip.MOST_PREPARED + 5


def test_a_setting_may_hold_any_character(connection: Connection) -> None:
    strange = r"o'clock \' $1 %s \\"
    found = roundtrip.run(connection, [("application_name", strange)], "SELECT current_setting('application_name')", [])
    assert found == [(strange,)]


def test_values_of_every_kind_arrive_as_they_were_sent(connection: Connection) -> None:
    text = "SELECT $1::text, $2::int, $3::bytea, $4::text"
    assert roundtrip.run(connection, (), text, ["ü'\"%s", "42", b"\x00\xff", None]) == [
        ("ü'\"%s", 42, b"\x00\xff", None)
    ]


def test_an_error_is_psycopgs_own_and_the_connection_goes_on(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        roundtrip.run(connection, (("work_mem", "7MB"),), "SELECT 1 / $1::int", ["0"])
    with pytest.raises(psycopg.errors.UndefinedTable):
        roundtrip.run(connection, (), "SELECT * FROM no_such_table", [])
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        roundtrip.run(connection, (("work_mem", "nonsense"),), "SELECT 1", [])
    assert roundtrip.run(connection, (), "SELECT 1", []) == [(1,)]
    assert connection.execute("SHOW work_mem").fetchone() != ("7MB",)


def test_a_time_limit_ends_the_statement_and_not_the_connection(connection: Connection) -> None:
    connection.execute("SET statement_timeout = 200")
    with pytest.raises(psycopg.errors.QueryCanceled):
        roundtrip.run(connection, (), "SELECT pg_sleep(30)", [])
    assert roundtrip.run(connection, (), "SELECT 1", []) == [(1,)]


def test_a_changed_table_is_noticed_and_the_statement_prepared_anew(connection: Connection) -> None:
    connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    for _ in range(7):
        assert roundtrip.run(connection, (), "SELECT a FROM t", []) == [(1,)]
    connection.execute("ALTER TABLE t ALTER COLUMN a TYPE text")
    assert roundtrip.run(connection, (), "SELECT a FROM t", []) == [("1",)]


def test_a_rollback_by_psycopg_takes_no_statement_away(connection: Connection) -> None:
    settings = (("work_mem", "7MB"),)
    assert roundtrip.run(connection, settings, "SELECT 1", []) == [(1,)]
    for _ in range(7):  # psycopg prepares what it has seen five times, and drops everything prepared at a rollback
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT 2", prepare=True)
    assert roundtrip.run(connection, settings, "SELECT 1", []) == [(1,)]


def test_a_killed_backend_closes_the_connection_so_that_no_pool_keeps_it(empty: str) -> None:
    with connect(empty) as connection, connect(empty) as other:
        pid = connection.info.backend_pid

        def kill() -> None:
            while not other.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'", (pid,)
            ).fetchone():
                time.sleep(0.02)
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(psycopg.OperationalError):
            roundtrip.run(connection, (("work_mem", "7MB"),), "SELECT pg_sleep(30)", [])
        thread.join()
        assert connection.closed


def test_a_large_statement_and_a_large_answer_do_not_block_each_other(connection: Connection) -> None:
    blob = bytes(8 * 1024 * 1024)
    rows = roundtrip.run(connection, (("work_mem", "7MB"),), "SELECT $1::bytea || $1::bytea", [blob])
    assert len(rows[0][0]) == 16 * 1024 * 1024


def test_many_values_run_in_one_transaction_and_answer_in_their_order(connection: Connection) -> None:
    before = connection.execute("SHOW work_mem").fetchone()
    statement = "SELECT $1::int * 2, pg_current_xact_id()::text, current_setting('work_mem')"
    found = roundtrip.run_many(connection, [("work_mem", "5MB")], statement, [[str(n)] for n in range(50)])
    assert [rows[0][0] for rows in found] == [2 * n for n in range(50)]
    assert len({rows[0][1] for rows in found}) == 1
    assert {rows[0][2] for rows in found} == {"5MB"}
    assert roundtrip.run_many(connection, (), statement, []) == []
    assert connection.execute("SHOW work_mem").fetchone() == before != ("5MB",)


def test_one_that_fails_fails_all_and_the_connection_goes_on(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        roundtrip.run_many(connection, [("work_mem", "5MB")], "SELECT 1 / $1::int", [["1"], ["0"], ["2"]])
    assert roundtrip.run_many(connection, (), "SELECT 1 / $1::int", [["1"]]) == [[(1,)]]


def test_the_time_limit_holds_for_each_of_many_by_itself(connection: Connection) -> None:
    limit = [("statement_timeout", "400")]
    sleeping = "SELECT pg_sleep($1::float8)::text"
    assert len(roundtrip.run_many(connection, limit, sleeping, [["0.15"]] * 4)) == 4
    with pytest.raises(psycopg.errors.QueryCanceled):
        roundtrip.run_many(connection, limit, sleeping, [["0.1"], ["5"]])


def test_a_session_keeps_a_bounded_number_of_statements_and_those_that_are_used(connection: Connection) -> None:
    often = "SELECT 'asked again and again'"
    for number in range(roundtrip.MOST_PREPARED + 50):
        assert roundtrip.run(connection, [("work_mem", "7MB")], f"SELECT {number}", []) == [(number,)]
        assert roundtrip.run(connection, (), often, []) == [("asked again and again",)]
    kept = [row[0] for row in connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()]
    assert len(kept) <= roundtrip.MOST_PREPARED
    assert kept.count(often) == 1
    assert "SELECT 0" not in kept
    assert roundtrip.run(connection, (), "SELECT 0", []) == [(0,)]


MANY_DESCRIPTORS = """
import resource, sys
from everindex.pg import roundtrip
from everindex.pg.connections import connect
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = 1100 if most == resource.RLIM_INFINITY else min(1100, most)
resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
taken = [open("/dev/null") for _ in range(1030)]
with connect(sys.argv[1]) as connection:
    blob = bytes(8 * 1024 * 1024)
    rows = roundtrip.run(connection, [("work_mem", "7MB")], "SELECT length($1::bytea)", [blob])
    print(connection.fileno(), rows[0][0])
"""


def test_a_search_is_answered_where_a_thousand_descriptors_are_open(empty: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", MANY_DESCRIPTORS, empty], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stderr
    descriptor, length = map(int, found.stdout.split())
    assert descriptor >= 1024
    assert length == 8 * 1024 * 1024


def test_scans_are_counted_in_the_same_round_trip_and_each_by_itself(connection: Connection) -> None:
    connection.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n")
    connection.execute("CREATE INDEX t_idx ON t (n)")
    connection.execute("CREATE TABLE other AS SELECT 1 AS n")
    table, index, other = (
        connection.execute("SELECT %s::regclass::oid::int8", (name,)).fetchone()[0]  # type: ignore[index]
        for name in ("t", "t_idx", "other")
    )
    for seqscan, way in (("off", (1, 0, 1)), ("on", (0, 1, 1))) * 3:
        settings = [("enable_seqscan", seqscan), ("enable_bitmapscan", "off"), ("enable_indexscan", "on")]
        text = "SELECT n FROM t WHERE n = $1::int" if seqscan == "off" else "SELECT n FROM t WHERE n + 0 = $1::int"
        relations = ((index,), (table,), (table, index, other))
        assert roundtrip.run_counted(connection, settings, text, [["7"]], relations) == ([[(7,)]], way, ())
    two = roundtrip.run_counted(connection, settings, text, [["7"], ["8"]], ((table,),))
    assert two == ([[(7,)], [(8,)]], (2,), ())
    with pytest.raises(psycopg.errors.DivisionByZero):
        roundtrip.run_counted(connection, settings, "SELECT 1 / $1::int", [["0"]], ((table,),))
    assert roundtrip.run_counted(connection, settings, "SELECT 1", [], ((table,),)) == ([], (0,), ())
    assert roundtrip.run_counted(connection, settings, "SELECT 1", [[]], ((4_000_000_000,),)) == ([[(1,)]], (0,), ())


def test_the_entries_that_an_index_gives_are_counted_for_each_statement(connection: Connection) -> None:
    connection.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n")
    connection.execute("CREATE INDEX t_idx ON t (n)")
    row = connection.execute("SELECT 't'::regclass::oid::int8, 't_idx'::regclass::oid::int8").fetchone()
    assert row is not None
    table, index = row
    settings = [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("enable_indexonlyscan", "off")]
    text = "SELECT n FROM t WHERE n > 100 AND n % $1::int = 0 ORDER BY n LIMIT 2"
    for _ in range(3):
        counted = roundtrip.run_counted(
            connection, settings, text, [["7"], ["50"], ["1"]], ((index,), (table,)), index=index
        )
        assert counted.rows == [[(105,), (112,)], [(150,), (200,)], [(101,), (102,)]]
        assert counted.scans == (3, 0)
        assert counted.entries == (12, 100, 2)
