"""The note that an index was dropped for a bulk load and is to be restored; it survives a crash.

It is the last line of the comment on the table's unique index (text of others precedes it). So it needs no schema of ours,
no object of its own and no pass over the table, is included in a dump, and disappears with the table (docs/decisions/0017).
It is written before the index is dropped, and removed by the process that has restored the index (`deploy/comments.py`).
Reads only, and takes no lock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from psycopg import sql

from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.index_catalog import CatalogIndex, catalog_indexes, indexes_query
from everindex.pg.locks import holder_of

BEGINNING = "everindex: set aside "


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """An index that was dropped, or was about to be dropped, for a load."""

    noted_on: tuple[str, str]
    """(schema, name) of the unique index whose comment has the note."""

    words: str | None
    """The rest of that comment."""

    comment: str | None
    """The comment that was on the dropped index itself."""


def may_note(connection: Connection, spec: IndexSpec) -> bool:
    """True when the table has an index whose comment can hold the note. Reads only."""
    return index_to_note_on(connection, spec) is not None


def find_note(connection: Connection, spec: IndexSpec) -> SetAside | None:
    """The index of this declaration that was set aside and not restored yet. Reads only."""
    rows = connection.execute(_WITH_NOTE, (sql.Identifier(spec.schema, spec.table).as_string(None), BEGINNING))
    for index in catalog_indexes(rows):
        words, kept = split_note(index.comment)
        if kept is not None and kept.get("index") == spec.name:
            own = kept.get("comment")
            return SetAside(
                noted_on=(index.schema, index.name), words=words, comment=own if isinstance(own, str) else None
            )
    return None


_WITH_NOTE = indexes_query(
    """i.indrelid = pg_catalog.to_regclass(%s)
    AND pg_catalog.strpos(pg_catalog.obj_description(c.oid, 'pg_class'), %s) > 0"""
)


def aside_words(connection: Connection, spec: IndexSpec) -> tuple[str, str] | None:
    """Why a declared index is missing, and what to do about it; None if no load has set it aside. Reads only."""
    if find_note(connection, spec) is None:
        return None
    holder = holder_of(connection, "aside")
    if holder is None:
        return (
            f"index {spec.name} was set aside for a load, which ended before it was restored",
            "run  everindex heal : it builds the index. The next import, migration or round of the keeper would do the same.",
        )
    return (
        f"index {spec.name} is set aside for a load by {holder}, and will be built when all rows are loaded",
        "wait for the load; until then searches read every row.",
    )


def index_to_note_on(connection: Connection, spec: IndexSpec) -> CatalogIndex | None:
    """The index to write the note on: the primary key's, or another unique one."""
    rows = connection.execute(_UNIQUE, (sql.Identifier(spec.schema, spec.table).as_string(None),))
    return min(catalog_indexes(rows), key=lambda index: (not index.is_primary, index.name), default=None)


_UNIQUE = indexes_query("i.indrelid = pg_catalog.to_regclass(%s) AND i.indisunique AND i.indisvalid")


def split_note(comment: str | None) -> tuple[str | None, dict[str, object] | None]:
    """The text of others and the content of the note; None for either that is missing."""
    words, _, last = (comment or "").rpartition("\n")
    if last.startswith(BEGINNING):
        try:
            known = json.loads(last.removeprefix(BEGINNING))
        except ValueError:
            known = None
        return words or None, known if isinstance(known, dict) else None
    return comment or None, None
