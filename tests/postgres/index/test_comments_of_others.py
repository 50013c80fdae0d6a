"""What others have written in a COMMENT on an index, its table or its column outlives whatever is done to the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from by_hand import rows, run
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.index.catalog.generations import words_of_others
from everindex.index.catalog.observe import observe
from everindex.index.deploy.drop import drop, drop_previous, rollback
from everindex.index.deploy.executor import deploy
from everindex.index.plan.ddl import create_statement
from everindex.index.plan.policy import HEAL, KEEP
from everindex.index.reporter import Reporter
from everindex.pg import own_schema
from everindex.pg.connections import connect
from plan_kinds import partitioned
from scene import SPEC

THEIRS = "it's Ada's\n-- ask her, 100 %"
OTHER_M = replace(SPEC, m=8)


def words_on(conninfo: str, name: str = SPEC.name) -> str | None:
    (row,) = rows(conninfo, "SELECT obj_description(to_regclass(%s), 'pg_class')", name)
    return words_of_others(row[0])


def write(conninfo: str, name: str = SPEC.name) -> None:
    quoted = THEIRS.replace("'", "''")
    run(conninfo, f"COMMENT ON INDEX {name} IS '{quoted}'")


def swap(conninfo: str) -> None:
    deploy(conninfo, OTHER_M, policy=HEAL)


def become_invalid(conninfo: str) -> None:
    run(conninfo, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{SPEC.name}'::regclass")
    assert deploy(conninfo, SPEC, policy=HEAL).outcome == "rebuilt"


def swap_and_back(conninfo: str) -> None:
    swap(conninfo)
    rollback(conninfo, OTHER_M)
    drop_previous(conninfo, OTHER_M)


def die_before_building(text: str) -> None:
    if text.startswith("building index"):
        raise RuntimeError(text)


def die_after_building(text: str) -> None:
    if text.startswith("built index"):
        raise RuntimeError(text)


def take_another_name(conninfo: str) -> None:
    run(conninfo, f"ALTER INDEX {SPEC.name} RENAME TO by_hand")
    deploy(conninfo, SPEC, policy=KEEP)


#: What is done to an index that is there, valid and as declared.
DONE: dict[str, Callable[[str], None]] = {
    "a new generation": swap,
    "a rollback": swap_and_back,
    "a rebuild of an INVALID one": become_invalid,
    "REINDEX": lambda conninfo: run(conninfo, f"REINDEX INDEX CONCURRENTLY {SPEC.name}"),
    "another name": take_another_name,
}


@pytest.mark.parametrize("done", DONE)
def test_a_comment_outlives_whatever_is_done_without_our_schema(items: str, done: str) -> None:
    deploy(items, SPEC)
    write(items)
    run(items, "COMMENT ON TABLE items IS 'theirs'", "COMMENT ON COLUMN items.embedding IS 'theirs'")
    DONE[done](items)
    assert words_on(items) == THEIRS
    assert rows(
        items, "SELECT obj_description('items'::regclass, 'pg_class'), col_description('items'::regclass, 3)"
    ) == [("theirs", "theirs")]


def test_a_comment_comes_back_after_a_drop_and_after_a_death_in_between(items: str) -> None:
    own_schema.ensure(items)
    deploy(items, SPEC)
    write(items)
    drop(items, SPEC)
    deploy(items, SPEC)
    assert words_on(items) == THEIRS
    # Who dies between dropping and building has said before what the comment was.
    run(items, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{SPEC.name}'::regclass")
    with pytest.raises(RuntimeError):
        deploy(items, SPEC, policy=KEEP, reporter=Reporter(say=die_before_building))
    deploy(items, SPEC)
    assert words_on(items) == THEIRS


def test_a_comment_comes_back_where_the_process_died_between_build_and_comment(items: str) -> None:
    own_schema.ensure(items)
    deploy(items, SPEC)
    write(items)
    run(items, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{SPEC.name}'::regclass")
    with pytest.raises(RuntimeError):
        deploy(items, SPEC, policy=KEEP, reporter=Reporter(say=die_after_building))
    assert words_on(items) is None
    assert deploy(items, SPEC).outcome == "already-there"
    assert words_on(items) == THEIRS
    # Once only: who removes it afterwards has said that it shall not be there.
    run(items, f"COMMENT ON INDEX {SPEC.name} IS NULL")
    deploy(items, SPEC)
    assert words_on(items) is None


def test_an_index_that_others_built_does_not_get_the_comment_of_one_that_was_dropped(items: str) -> None:
    own_schema.ensure(items)
    deploy(items, SPEC)
    write(items)
    drop(items, SPEC)
    with connect(items) as connection:
        connection.execute(create_statement(SPEC, observe(connection, SPEC)))
    assert deploy(items, SPEC).outcome == "already-there"
    assert words_on(items) is None


def test_comments_on_the_indexes_of_partitions_go_on_to_the_next_generation(items: str) -> None:
    partitioned(items)
    deploy(items, SPEC)
    (child,) = [
        name
        for (name,) in rows(
            items, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'part_a'::regclass"
        )
    ]
    write(items, child)
    write(items)
    swap(items)
    found = rows(
        items,
        "SELECT obj_description(c.oid, 'pg_class') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = 'part_a'::regclass AND c.relname <> %s",
        child,
    )
    assert found == [(THEIRS,)]
    assert words_on(items) == THEIRS


def test_the_index_of_the_words_keeps_its_comment_when_it_is_built_anew(migrated: str) -> None:
    write(migrated, INDEX_NAME)
    done = ensure_words(migrated, text_search="german")
    assert done.outcome == "replaced"
    assert words_on(migrated, INDEX_NAME) == THEIRS
