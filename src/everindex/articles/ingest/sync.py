"""Synchronisation with a source: the articles that the source no longer has are removed, unless they are too many.

An import that was cut off, or a feed that is empty for a day, looks like a source that has lost most of its articles; so a
share of them is the most that is removed, and a source with rows that could not be read removes nothing.
"""

from __future__ import annotations

from collections.abc import Collection as AbstractCollection
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.ingest.delete import delete_rows
from everindex.articles.table import CollectionTable
from everindex.errors import SyncRefused
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import count_text

#: The largest share of a source's articles that one synchronisation removes, unless another is given.
MOST_REMOVED = 0.2
#: URIs of the report.
SHOWN_URIS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a synchronisation removed, or would remove."""

    source: str
    stored: int
    """Articles of the source in the table, after the import."""

    removed: int
    uris: tuple[str, ...]
    """Some of them."""

    is_dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source, "stored": self.stored, "removed": self.removed, "uris": list(self.uris),
            "dry_run": self.is_dry_run,
        }  # fmt: skip


def remove_missing(
    connection: Connection,
    table: CollectionTable,
    *,
    source: str,
    present: AbstractCollection[str],
    unreadable: int = 0,
    most_removed: float = MOST_REMOVED,
    is_dry_run: bool = False,
) -> Synced:
    """Removes the articles whose news_source is `source` and whose uri is not in `present`, in one transaction.

    `unreadable` rows of the source had no uri, so what they were is unknown. Raises SyncRefused, with nothing removed, where
    there are such, or where more than the share `most_removed` (0 to 1) of the source's articles would go.
    """
    with translate_errors(f"comparing the articles with source {source}"):
        rows = connection.execute(
            sql.SQL("SELECT a.uri FROM {} a WHERE a.news_source = %s").format(table.identifier), (source,)
        ).fetchall()
    stored = [str(row[0]) for row in rows]
    missing = sorted(set(stored) - set(present))
    done = Synced(
        source=source, stored=len(stored), removed=len(missing), uris=tuple(missing[:SHOWN_URIS]), is_dry_run=is_dry_run
    )
    if not missing:
        return done
    if unreadable:
        raise SyncRefused(
            f"nothing was removed: {count_text(unreadable, 'row')} of the source could not be read.",
            why=f"these rows may be some of the {count_text(len(missing), 'article')} that the source seems to have lost.",
            next_step="correct the rows that the import has named, then run it again; what was read is stored.",
        )
    share = len(missing) / len(stored)
    if share > most_removed:
        raise SyncRefused(
            f"nothing was removed: {len(missing):,} of {count_text(len(stored), 'article')} of {source!r} would go "
            f"({share:.0%}).",
            why=f"that is more than {most_removed:.0%}, and a source that was cut off looks like this.",
            next_step="look at the source; if it is right, run it again with a larger  --most-removed  (1 removes any number).",
        )
    if not is_dry_run:
        delete_rows(connection, table, missing)
    return done
