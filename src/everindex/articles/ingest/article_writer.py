"""The writing of articles: rows of importers and of programs, whole texts cut into passages, synchronisation and expiry."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np

from everindex.articles.expiry import record_expiry, require_expiry
from everindex.articles.ingest import import_rows as ingest
from everindex.articles.ingest import stored_vectors
from everindex.articles.ingest.bulk_load import LARGE_LOAD_ROWS
from everindex.articles.ingest.coerce import as_articles
from everindex.articles.ingest.delete import delete_orphans
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.ingest.rows import article_rows
from everindex.articles.ingest.sync import MOST_REMOVED, Synced, remove_missing
from everindex.articles.ingest.writer import CollectionWriter
from everindex.articles.model import Article, RowProblem
from everindex.articles.table import read_table
from everindex.errors import EverindexError
from everindex.index.reporter import Reporter


class ArticleWriter(CollectionWriter):
    """Writes articles; whole texts among them are handed to `cut_texts`, which makes them findable."""

    def upsert(
        self,
        articles: Iterable[Article | Mapping[str, Any] | object],
        *,
        vectors: np.ndarray | None = None,
        model: str | None = None,
    ) -> ImportReport:
        """As `Instance.upsert`."""
        rows = as_articles(articles)
        with self._writer() as connection:
            if any(row.expires_at for row in rows):
                require_expiry(connection, conninfo=self._direct_conninfo)
            embedder = self._embedder_to_write(connection) if vectors is None else None
            coming = 0 if isinstance(embedder, EverindexError) else len(rows)
            with self._large_load(coming, None):
                if embedder is None:
                    table = read_table(connection)
                    report = ingest.store_vectors(
                        connection, table, article_rows(table, rows), np.asarray(vectors), model=model
                    )
                else:
                    report = ingest.import_rows(connection, rows, embedder)
        self._forget_after_write(are_recorded=vectors is None or model is not None)
        self._cut(report, {row.uri for row in rows if row.raw_text}, None)
        return report

    def import_rows(
        self,
        rows: Iterable[Article | RowProblem],
        *,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
        stored_uris: set[str] | None = None,
    ) -> ImportReport:
        """As `Instance.import_rows`; the uris of what was stored are added to `stored_uris`."""
        has_texts = False

        def noted() -> Iterator[Article | RowProblem]:
            nonlocal has_texts
            for row in rows:
                has_texts = has_texts or (isinstance(row, Article) and bool(row.raw_text))
                yield row

        stored = set[str]() if stored_uris is None else stored_uris
        iterator = noted()
        first = list(islice(iterator, LARGE_LOAD_ROWS))
        with self._writer() as connection:
            embedder = self._embedder_to_write(connection)
            coming = 0 if isinstance(embedder, EverindexError) else len(first)
            with self._large_load(coming, reporter):
                report = ingest.import_rows(
                    connection, chain(first, iterator), embedder, on_rows=on_rows, stored_uris=stored,
                    require_expiry=partial(require_expiry, connection, conninfo=self._direct_conninfo),
                )  # fmt: skip
        self._forget_after_write(are_recorded=True)
        self._cut(report, stored if has_texts else (), reporter)
        return report

    def sync(
        self,
        rows: Iterable[Article | RowProblem],
        *,
        source: str,
        most_removed: float = MOST_REMOVED,
        is_dry_run: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> tuple[ImportReport, Synced]:
        """As `Instance.sync`."""
        present: set[str] = set()
        unreadable = 0

        def noted() -> Iterator[Article | RowProblem]:
            nonlocal unreadable
            for row in rows:
                if isinstance(row, Article):
                    present.add(row.uri)
                elif not row.is_note:
                    unreadable += row.uri is None
                    present.update(() if row.uri is None else (row.uri,))
                yield row

        if is_dry_run:
            report = ImportReport()
            for _ in noted():
                pass
        else:
            report = self.import_rows(noted(), on_rows=on_rows, reporter=reporter, stored_uris=present)
        with self._writer() as connection:
            done = remove_missing(
                connection,
                read_table(connection),
                source=source,
                present=present,
                unreadable=unreadable,
                most_removed=most_removed,
                is_dry_run=is_dry_run,
            )
        self._forget_after_write(are_recorded=True)
        return report, done

    def set_expiry(self, uris: Sequence[str], *, expires_at: dt.datetime | None) -> int:
        """As `Instance.set_expiry`."""
        with self._writer() as connection:
            count = record_expiry(
                connection, read_table(connection), uris, expires_at=expires_at, conninfo=self._direct_conninfo
            )
        self._forget_after_write(are_recorded=True)
        return count

    def delete_orphans(self, *, is_dry_run: bool = False) -> dict[str, int]:
        """As `Instance.delete_orphans`."""
        with self._writer() as connection:
            return delete_orphans(connection, read_table(connection), is_dry_run=is_dry_run)

    def check_vectors(
        self, *, repair: bool = True, on_rows: Callable[[int], None] | None = None
    ) -> stored_vectors.Compared:
        """As `Instance.check_vectors`."""
        with self._writer() as connection:
            done = stored_vectors.check_all(connection, self._query_embedder.embedder, repair=repair, on_rows=on_rows)
        self._forget_after_write(are_recorded=True)
        return done
