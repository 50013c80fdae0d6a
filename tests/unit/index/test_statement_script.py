"""Files of statements with SETs and transactions: which of them are in force for each SELECT."""

from __future__ import annotations

import pytest

from everindex.errors import StatementNotCheckable
from everindex.statement_check.script import checkable, one_checkable


def in_force(text: str, *, in_transaction: bool = False) -> list[tuple[str, ...]]:
    found = checkable(text, in_transaction=in_transaction)
    return [tuple(made.text for made in statement.session) for statement in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SET a = 1; SELECT 1", [("SET a = 1",)]),
        ("BEGIN; SET LOCAL a = 1; SELECT 1; COMMIT; SELECT 2", [("SET LOCAL a = 1",), ()]),
        ("START TRANSACTION READ ONLY; SET a = 1; SELECT 1; END; SELECT 2", [("SET a = 1",), ("SET a = 1",)]),
        ("BEGIN; SET a = 1; ROLLBACK; SELECT 1", [()]),
        ("SET a = 1; BEGIN; SET a = 2; ABORT; SELECT 1", [("SET a = 1",)]),
        ("begin; set local a = 1; commit and chain; set local b = 2; select 1", [("set local b = 2",)]),
        ("BEGIN; SAVEPOINT s; SET a = 1; ROLLBACK TO SAVEPOINT s; SELECT 1; COMMIT", [()]),
        ("BEGIN; SET a = 0; SAVEPOINT s; SET LOCAL a = 1; RELEASE s; SELECT 1", [("SET a = 0", "SET LOCAL a = 1")]),
        ("SET a = 1; RESET a; SELECT 1", [("SET a = 1", "RESET a")]),
        ("SET a = 1; DISCARD ALL; SELECT 1", [()]),
        ("SET LOCAL a = 1; SELECT 1", [()]),
        ("SELECT set_config('a.b', '1', false); SELECT 1", [("SELECT set_config('a.b', '1', false)",)]),
        ("SELECT set_config('a.b', '1', true); SELECT 1", [()]),
        (
            "BEGIN; SELECT pg_catalog.set_config('a.b', :v::text, true) AS x, set_config('c', '2', true); SELECT 1",
            [("SELECT pg_catalog.set_config('a.b', :v::text, true) AS x, set_config('c', '2', true)",)],
        ),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED; SELECT 1", [()]),
        ("SHOW a; SET ROLE app; SELECT 1", [("SET ROLE app",)]),
    ],
)  # fmt: skip
def test_sets_are_in_force_as_long_as_postgresql_keeps_them(text: str, expected: list[tuple[str, ...]]) -> None:
    assert in_force(text) == expected


def test_a_set_config_that_does_more_than_setting_is_not_taken_for_one() -> None:
    for text in ("SELECT set_config('a', (SELECT f()), true)", "SELECT set_config('a', f(), true), g()"):
        assert [statement.text for statement in checkable(text, in_transaction=True)] == [text]


def test_set_local_outside_of_a_transaction_is_noted_as_lost() -> None:
    (statement,) = checkable("SET LOCAL a = 1; SELECT 1", in_transaction=False)
    assert [lost.text for lost in statement.without_effect] == ["SET LOCAL a = 1"]
    (statement,) = checkable("SET LOCAL a = 1; SELECT 1", in_transaction=True)
    assert (in_force("SET LOCAL a = 1; SELECT 1", in_transaction=True), statement.without_effect) == (
        [("SET LOCAL a = 1",)],
        (),
    )


@pytest.mark.parametrize(
    ("text", "checked", "line"),
    [
        ("EXPLAIN SELECT 1", "SELECT 1", 1),
        ("EXPLAIN (ANALYZE, BUFFERS)\nSELECT 1", "SELECT 1", 2),
        ("explain analyze verbose with a as (select 1) select * from a", "with a as (select 1) select * from a", 1),
        ("PREPARE q(vector, int) AS SELECT $1, $2", "SELECT $1, $2", 1),
        ("EXPLAIN ANALYZE DELETE FROM a", "EXPLAIN ANALYZE DELETE FROM a", 1),
    ],
)
def test_the_query_of_explain_and_prepare_is_what_is_checked(text: str, checked: str, line: int) -> None:
    found = one_checkable(text)
    assert (found.text, found.line) == (checked, line)


def test_a_text_of_sets_alone_holds_nothing_to_check() -> None:
    with pytest.raises(StatementNotCheckable, match="nothing to check"):
        one_checkable("BEGIN; SET LOCAL hnsw.ef_search = 100; COMMIT;")


@pytest.mark.parametrize("text", ["SELECT 1\0; DROP TABLE a", "SELECT '\udcff'"])
def test_letters_that_postgresql_cannot_take_are_refused_and_not_cut_off(text: str) -> None:
    with pytest.raises(StatementNotCheckable, match="not SQL"):
        one_checkable(text)
