"""The kinds of orders that make the index of the words, as data for the same attacks as those on the vector index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from by_hand import rows, run
from everindex.articles.search.keyword.document import INDEX_NAME, NEXT_NAME, PREVIOUS_NAME
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from plan_kinds import Kind, both, interrupted, made

TABLE = "articles"
THEIRS = "a comment of theirs"
#: A client that is killed leaves its backend, which the next one waits for.
WAIT_SECONDS = 60.0


def ensure(conninfo: str, _: IndexSpec, *, reporter: Reporter | None = None) -> Any:
    return ensure_words(conninfo, text_search="english", reporter=reporter, wait_seconds=WAIT_SECONDS)


def articles(conninfo: str) -> None:
    """A table of articles, as many as `items` has rows, which keeps its other columns."""
    run(
        conninfo,
        f"CREATE TABLE {TABLE} (uri text PRIMARY KEY, title text, summary text)",
        f"INSERT INTO {TABLE} SELECT id::text, 'walnut ' || id, 'a tiger runs' FROM items",
        f"ANALYZE {TABLE}",
    )


def german(name: str = INDEX_NAME, *, how: str = "") -> str:
    """CREATE INDEX of one in another language."""
    parts = " || ".join(
        f"setweight(to_tsvector('german'::regconfig, {column}), '{weight}')"
        for column, weight in (("title", "A"), ("summary", "B"))
    )
    return f"CREATE INDEX {how} {name} ON {TABLE} USING gin (({parts}))"


def in_english(*then: str) -> Callable[[str], None]:
    """The index as declared, and what was done to it afterwards."""

    def prepare(conninfo: str) -> None:
        ensure_words(conninfo, text_search="english")
        run(conninfo, *then)

    return prepare


def assert_made(conninfo: str, kind: Kind) -> None:
    """One valid index of the words as declared under its name, with the comment of others, and nothing beside it."""
    found = rows(
        conninfo,
        "SELECT c.relname, i.indisvalid AND i.indisready AND i.indislive, "
        "       strpos(pg_get_indexdef(c.oid), '''english''::regconfig') > 0, a.attstattarget = 0, "
        "       obj_description(c.oid, 'pg_class') "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1 "
        "WHERE i.indrelid = %s::regclass AND NOT i.indisunique ORDER BY 1",
        TABLE,
    )
    assert found == [(INDEX_NAME, True, True, True, THEIRS if kind.name in COMMENTED else None)], found
    assert ensure(conninfo, kind.spec).did == ()
    assert rows(conninfo, f"SELECT count(*) FROM {TABLE}") == rows(
        conninfo, "SELECT count(*) FROM items WHERE id < 50000"
    )


def _kind(name: str, *prepares: Callable[[str], None]) -> Kind:
    return Kind(
        name=f"words-{name}",
        prepare=both(articles, *prepares),
        act=ensure,
        heal=ensure,
        table=TABLE,
        check=assert_made,
    )


COMMENT = f"COMMENT ON INDEX {INDEX_NAME} IS '{THEIRS}'"
WORD_KINDS = (
    _kind("absent"),
    _kind("invalid", interrupted(german(how="CONCURRENTLY"))),
    _kind("of-another-language", made(german(), COMMENT)),
    _kind("with-unfinished-next", made(german(), COMMENT), interrupted(german(NEXT_NAME, how="CONCURRENTLY"))),
    _kind("with-finished-next", in_english(f"ALTER INDEX {INDEX_NAME} RENAME TO {NEXT_NAME}", german(), COMMENT)),
    _kind("with-previous", in_english(german(PREVIOUS_NAME))),
)
COMMENTED = {"words-of-another-language", "words-with-unfinished-next", "words-with-finished-next"}
