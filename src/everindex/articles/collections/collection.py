"""A collection beside the articles: stored, searched, verified and deployed like them, over a table of any shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from everindex.articles.connections.reading import Reading
from everindex.articles.embedding import Embedder
from everindex.articles.embedding.declaration import SAMPLE_ROWS, Declared
from everindex.articles.embedding.model_counts import ModelCounts, count_models
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.ingest.passage_report import PassageReport
from everindex.articles.ingest.writer import CollectionWriter
from everindex.articles.lookup import read_row, read_rows
from everindex.articles.model import RowProblem
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.search.request.search_request import as_filters
from everindex.articles.searchable import Searchable
from everindex.articles.shape.cut import PassageCounts, TextCut
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import read_table
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.plan.policy import DEPLOY
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.address import Addresses
from everindex.pg.connections import connect
from everindex.settings import Settings


class CutsPassages(Protocol):
    """The cutting of whole texts of a collection into passages."""

    def due(self, embedder: Embedder, keys: Sequence[str] | None = None) -> list[str]: ...

    def cut(
        self, embedder: Embedder, keys: Sequence[str] | None = None, *, reporter: Reporter | None = None
    ) -> PassageReport: ...

    def complete(self, *, reporter: Reporter | None = None) -> PassageReport: ...
    def of(self, key: str) -> TextCut | None: ...
    def counts(self) -> PassageCounts | None: ...


class Collection(Searchable):
    """An open collection; safe to use from many threads. Made by `Instance.collection` and `Instance.collection_of`; its
    connections are the instance's and end with it."""

    def __init__(
        self,
        spec: CollectionSpec,
        addresses: Addresses,
        settings: Settings,
        *,
        reading: Reading,
        passages: CutsPassages | None = None,
    ) -> None:
        super().__init__(spec, addresses, settings, reading=reading)
        self.passages = passages
        """The cutting of its whole texts; None of a collection that declares none."""

        self.writer = CollectionWriter(
            addresses, settings, spec, reading=reading, engine=self.engine, words=self.words,
            query_embedder=self.query_embedder, invalidate=self.invalidate,
            cut_texts=None if passages is None else passages.cut,
        )  # fmt: skip

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def dimensions(self) -> int | None:
        """The width of its vectors."""
        return self.engine.known()[0].dimensions

    # --- writing ---------------------------------------------------------------------------------------------------

    def upsert(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        vectors: np.ndarray | None = None,
        model: str | None = None,
    ) -> ImportReport:
        """Stores rows (mappings with the key and any of the collection's columns) and embeds new or changed texts.

        A column that is absent, or None, keeps the stored value. Where everindex made the table, other names go into its JSON
        column `metadata`. `vectors` ((n, dim) float32, finite) are stored unchanged; `model` names the model that made them.
        Raises CollectionInvalid or QueryInvalid for a row or vector that cannot be stored; nothing is stored then.
        """
        return self.writer.store(rows, vectors=vectors, model=model)

    def import_objects(
        self,
        items: Iterable[tuple[int, Mapping[str, Any]] | RowProblem],
        *,
        source: str,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Stores the rows of a source, (line, row) as `importers.objects.read_objects` gives them; one that cannot be stored is
        left out and reported. A large load into a tiny table goes in before the index."""
        return self.writer.import_objects(items, source=source, on_rows=on_rows, reporter=reporter)

    def delete(
        self, keys: Sequence[Any] | None = None, *, filters: Mapping[str, Any] | None = None, dry_run: bool = False
    ) -> int:
        """Deletes the rows with these keys, or those that pass the filters, with all that is recorded of them, in one
        transaction; returns how many, or with `dry_run` how many it would. Raises QueryInvalid where neither is given."""
        return self.writer.delete(
            keys, filters=None if filters is None else as_filters(filters, self.spec), is_dry_run=dry_run
        )

    def delete_expired(self, *, dry_run: bool = False) -> int:
        """Deletes the rows that have expired, as `Instance.delete_expired`; 0 where the collection has no expiry column."""
        return self.writer.delete_expired(is_dry_run=dry_run)

    def embed_missing(
        self,
        *,
        queue: Sequence[str] | None = None,
        overwrite_unrecorded: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Makes vectors for rows that have none, a zero one, or one of another model; see `Instance.embed_missing`. `queue` is a
        recent result of `rows_to_embed`."""
        report = self.writer.embed_missing(
            queue=queue, overwrite_unrecorded=overwrite_unrecorded, on_rows=on_rows, reporter=reporter
        )
        if self.passages is not None:
            report.passages += self.passages.cut(self.embedder, reporter=reporter)
            report.passages += self.passages.complete(reporter=reporter)
        return report

    def rows_to_embed(self, *, overwrite_unrecorded: bool = False) -> list[str]:
        """The keys, as text, of the rows that `embed_missing` would give a vector. Reads every vector."""
        return self.writer.keys_to_embed(overwrite_unrecorded=overwrite_unrecorded)

    def declare_model(self, name: str, *, sample: int = SAMPLE_ROWS) -> Declared:
        """Records which model made the vectors that have no record; see `Instance.declare_model`."""
        return self.writer.declare_model(name, sample=sample)

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, keys: Sequence[Any]) -> list[dict[str, Any]]:
        """The rows with these keys, in their order, each with the collection's columns; a key that no row has is left out."""
        table, _ = self.engine.known()
        return read_rows(self.reading, table, keys)

    def row(self, key: Any) -> dict[str, Any]:
        """The row with that key. Raises RowNotFound."""
        table, _ = self.engine.known()
        return read_row(self.reading, table, str(key))

    def models(self) -> ModelCounts:
        """Which models made how many vectors; see `Instance.models`. Reads every vector."""

        return self.reading.read(lambda connection: count_models(connection, read_table(connection, self.spec)))

    # --- the index -------------------------------------------------------------------------------------------------

    def index(self) -> IndexSpec:
        """The declared vector index as it holds in this database: where it lies, and as it was tuned."""
        with connect(self.direct_conninfo, application_name="everindex") as connection:
            return effective_spec(connection, read_table(connection, self.spec).index)

    def deploy(self, *, reporter: Reporter | None = None) -> Deployed:
        """Brings the vector index, and that of the words, to their declarations, online; see `index.deploy.executor.deploy` and
        `ensure_words`."""
        done = deploy(self.direct_conninfo, self.index(), reporter=reporter, policy=DEPLOY)
        if self.spec.text:
            ensure_words(self.direct_conninfo, self.spec, text_search=self.settings.text_search, reporter=reporter)
        self.invalidate()
        return done
