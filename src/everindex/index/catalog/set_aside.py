"""The note that an index was dropped for a load and is to come back: who finds it after a crash knows what is missing.

It is the last line of the comment on the table's unique index (what others have written there stays above it), and so
needs no schema of ours, no object of its own and no pass over the table, is carried along by a dump, and is gone with the
table (docs/decisions/0017). It is written before the index is dropped, and removed by whoever has brought it back.
Readers take no lock; writers take SHARE UPDATE EXCLUSIVE on that unique index alone.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from everindex.index.build.operation import run_briefly
from everindex.index.catalog.generations import with_note
from everindex.index.catalog.observe import ObservedIndex
from everindex.index.deploy.deployment import Deployment
from everindex.index.journal import dropped_comment
from everindex.index.plan.ddl import comment_statement
from everindex.index.spec import IndexSpec, NamedIndex
from everindex.pg.connections import Connection
from everindex.pg.locks import holder_of, try_lock, unlock

BEGINNING = "everindex: set aside "
#: Whoever may not change the comment leaves the note to somebody who may.
_LEFT_TO_OTHERS = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """An index that was dropped, or was about to be, for a load."""

    noted_on: tuple[str, str]
    """(schema, name) of the unique index whose comment says so."""

    words: str | None
    """What else that comment says."""

    comment: str | None
    """The comment that was on the index itself."""


def may_note(connection: Connection, spec: IndexSpec) -> bool:
    """True when the table has an index to write the note on. Reads only."""
    return _unique_index(connection, spec) is not None


def note(deployment: Deployment, connection: Connection, index: ObservedIndex) -> None:
    """Says that `index` is about to be dropped and is to come back. The caller holds the lock `aside`."""
    found = _unique_index(connection, deployment.spec)
    assert found is not None  # may_note was asked
    schema, name, comment = found
    words, _ = _parted(comment)
    before = find_note(
        connection, deployment.spec
    )  # of a load that was killed when the index was back, without its comment
    kept = index.comment or (before and before.comment)
    line = BEGINNING + json.dumps({"index": deployment.spec.name, "comment": kept}, ensure_ascii=False)
    run_briefly(
        deployment,
        connection,
        f"noting that index {deployment.spec.qualified_name} is set aside",
        comment_statement(schema, name, with_note(words, line)),
    )


def find_note(connection: Connection, spec: IndexSpec) -> SetAside | None:
    """What was set aside of this declaration and not brought back yet. Reads only."""
    rows = connection.execute(
        """
        SELECT n.nspname, c.relname, pg_catalog.obj_description(c.oid, 'pg_class')
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE i.indrelid = pg_catalog.to_regclass(%s)
          AND pg_catalog.strpos(pg_catalog.obj_description(c.oid, 'pg_class'), %s) > 0
        """,
        (sql.Identifier(spec.schema, spec.table).as_string(None), BEGINNING),
    ).fetchall()
    for schema, name, comment in rows:
        words, kept = _parted(comment)
        if kept is not None and kept.get("index") == spec.name:
            own = kept.get("comment")
            return SetAside(noted_on=(schema, name), words=words, comment=own if isinstance(own, str) else None)
    return None


def aside_words(connection: Connection, spec: IndexSpec) -> tuple[str, str] | None:
    """Why a declared index that is not there is away, and what to do about it; None where no load has set it aside. Reads
    only."""
    if find_note(connection, spec) is None:
        return None
    holder = holder_of(connection, "aside")
    if holder is None:
        return (
            f"index {spec.name} was set aside for a load, which ended before it was brought back",
            "run  everindex heal : it builds the index, as would the next import, migration or round of the keeper.",
        )
    return (
        f"index {spec.name} is set aside for a load by {holder}, and is built when all rows are there",
        "wait for the load: searches read every row meanwhile.",
    )


def settle(connection: Connection, spec: IndexSpec, found: ObservedIndex | None = None) -> None:
    """The note goes, unless a load is at work that has set the index aside; `found`, which is back, gets its comment again.

    One query where there is no note. A role that may not change comments leaves both to the next one.
    """
    kept = find_note(connection, spec)
    if kept is None or not try_lock(connection, "aside"):
        return
    try:
        with connection.transaction():
            connection.execute("SELECT pg_catalog.set_config('lock_timeout', '2s', true)")
            connection.execute(comment_statement(*kept.noted_on, kept.words))
            if found is not None and found.comment is None and kept.comment is not None:
                connection.execute(comment_statement(spec.schema, found.name, kept.comment))
    except _LEFT_TO_OTHERS:
        return
    finally:
        unlock(connection, "aside")


def restore_words(
    connection: Connection, spec: NamedIndex, *, words: str | None = None, looks_back: bool = True
) -> None:
    """Gives an index that was built anew the comment that others had written on the one that was dropped before it: by a
    downgrade, or because it was INVALID. `words` is that comment where the caller knows it; else the journal does
    (`looks_back`), and without one the index has no comment."""
    if words is None and looks_back:
        words = dropped_comment(connection, spec)
    if words is None:
        return
    with suppress(*_LEFT_TO_OTHERS), connection.transaction():
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', '2s', true)")
        row = connection.execute(
            "SELECT pg_catalog.obj_description(pg_catalog.to_regclass(%s), 'pg_class')",
            (sql.Identifier(spec.schema, spec.name).as_string(None),),
        ).fetchone()
        if row is not None and row[0] is None:
            connection.execute(comment_statement(spec.schema, spec.name, words))


def _unique_index(connection: Connection, spec: IndexSpec) -> tuple[str, str, str | None] | None:
    """(schema, name, comment) of the index to write the note on: the primary key's, or another unique one."""
    row = connection.execute(
        """
        SELECT n.nspname, c.relname, pg_catalog.obj_description(c.oid, 'pg_class')
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE i.indrelid = pg_catalog.to_regclass(%s) AND i.indisunique AND i.indisvalid
        ORDER BY i.indisprimary DESC, c.relname LIMIT 1
        """,
        (sql.Identifier(spec.schema, spec.table).as_string(None),),
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def _parted(comment: str | None) -> tuple[str | None, dict[str, object] | None]:
    """What others have written, and what the note says; None for either that is not there."""
    words, _, last = (comment or "").rpartition("\n")
    if last.startswith(BEGINNING):
        try:
            known = json.loads(last.removeprefix(BEGINNING))
        except ValueError:
            known = None
        return words or None, known if isinstance(known, dict) else None
    return comment or None, None
