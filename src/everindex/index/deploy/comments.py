"""Comments on indexes beyond generation notes: the set-aside note of a load, and others' own text after a rebuild.

Writing takes SHARE UPDATE EXCLUSIVE on the index alone, and never waits long for it. A role that may not change comments
leaves them to the next one that may. The content of the note and its readers are in `catalog/set_aside.py`.
"""

from __future__ import annotations

import json
from contextlib import suppress

import psycopg
from psycopg import sql

from everindex.index.build.operation import run_briefly
from everindex.index.catalog.generations import with_note
from everindex.index.catalog.observed import ObservedIndex
from everindex.index.catalog.set_aside import BEGINNING, find_note, index_to_note_on, split_note
from everindex.index.deploy.deployment import Deployment
from everindex.index.journal import COMMENT_RESTORED, record
from everindex.index.plan.ddl import comment_statement
from everindex.index.spec import IndexSpec, NamedIndex
from everindex.pg.connections import Connection
from everindex.pg.locks import try_lock, unlock

#: A role that may not change the comment leaves the note to one that may.
_LEFT_TO_OTHERS = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
)


def note(deployment: Deployment, connection: Connection, index: ObservedIndex) -> None:
    """Writes that `index` is about to be dropped and is to be restored. The caller holds the lock `aside`."""
    found = index_to_note_on(connection, deployment.spec)
    assert found is not None  # the caller has checked may_note
    words, _ = split_note(found.comment)
    before = find_note(
        connection, deployment.spec
    )  # left by a load that was killed after the index was restored, but before its comment was
    kept = index.comment or (before and before.comment)
    line = BEGINNING + json.dumps({"index": deployment.spec.name, "comment": kept}, ensure_ascii=False)
    run_briefly(
        deployment,
        connection,
        f"recording that index {deployment.spec.qualified_name} is set aside",
        comment_statement(found.schema, found.name, with_note(words, line)),
    )


def settle(connection: Connection, spec: IndexSpec, found: ObservedIndex | None = None) -> None:
    """Removes the note, unless a running load has set the index aside; the restored index `found` gets its comment back.

    Takes one query if there is no note. A role that may not change comments leaves both to the next one.
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


def restore_words(connection: Connection, spec: NamedIndex, words: str | None) -> None:
    """Gives a rebuilt index the comment `words` that others had written on its dropped predecessor, unless it has a comment.
    The journal records this, so that the comment is not restored again if somebody removes it later."""
    if words is None:
        return
    with suppress(*_LEFT_TO_OTHERS):
        with connection.transaction():
            connection.execute("SELECT pg_catalog.set_config('lock_timeout', '2s', true)")
            row = connection.execute(
                "SELECT pg_catalog.obj_description(pg_catalog.to_regclass(%s), 'pg_class')",
                (sql.Identifier(spec.schema, spec.name).as_string(None),),
            ).fetchone()
            if row is None or row[0] is not None:
                return
            connection.execute(comment_statement(spec.schema, spec.name, words))
        record(connection, spec, COMMENT_RESTORED)
