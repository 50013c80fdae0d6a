"""The keeper's watch over a declared model: vectors that nobody recorded are compared with it again and again.

A declaration rests on a comparison, and covers rows that another program adds later. So the comparison is repeated on a random
sample: what disagrees is told, and where so much disagrees that the declaration would be refused today, it is withdrawn
(docs/decisions/0016). Only for a model that gives a text the same vector every time.
"""

from __future__ import annotations

import threading
import time

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.embedding import choose_embedder
from everindex.articles.embedding.declaration import AGREEING_SHARE, withdraw_declaration
from everindex.articles.ingest.stored_vectors import Compared, check_sample
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import read_table_models
from everindex.errors import ColumnMismatch, EmbeddingModelUnusable, NotMigrated
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.journal import record
from everindex.index.keeper.round import Finding, KeptIndex
from everindex.pg.connections import Connection, connect
from everindex.settings import Settings

SLUG = "declared-model-disagrees"
#: A sample is drawn so often at most; and so seldom that it takes no more than a hundredth of the time.
WATCH_SECONDS = 600.0
WATCH_TIMES = 100
#: Fewer vectors than this withdraw nothing: in a small table one edited text is more than the share that may disagree.
WITHDRAWING_ROWS = 10


class DeclaredModelTask:
    """A task of the keeper. EVERINDEX_KEEP_RECALL_SECONDS bounds a statement of it; 0 is never."""

    index = EMBEDDING_INDEX.name

    def __init__(self, conninfo: str, settings: Settings) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._due = 0.0
        self._last: KeptIndex | None = None

    def __call__(self, stop: threading.Event) -> KeptIndex | None:
        """Raises EverindexError."""
        started = time.monotonic()
        if self._settings.keep_recall_seconds <= 0 or started < self._due:
            return self._last
        self._last = None
        try:
            with connect(self._conninfo, application_name="everindex keeper") as connection:
                done = self._look(connection)
        finally:
            now = time.monotonic()
            self._due = now + max(WATCH_SECONDS, WATCH_TIMES * (now - started))
        # What was withdrawn is told once: from then on the table's model is unrecorded, which others tell.
        self._last = None if done is None or done.did else done
        return done

    def _look(self, connection: Connection) -> KeptIndex | None:
        try:
            table = read_table(connection)
            embedder = choose_embedder(self._settings, width=table.dimensions or self._settings.dimensions)
        except (NotMigrated, ColumnMismatch, EmbeddingModelUnusable):
            return None
        declared = read_table_models(connection, table, has_unrecorded=True).declared
        if declared != embedder.model or embedder.is_remote:
            return None
        found = check_sample(
            connection, table, embedder, max_seconds=self._settings.keep_recall_seconds, also_recorded=False
        )
        if not found.declared_other:
            return None
        told = (
            f"{found.declared_other} of {found.declared} sampled vectors of {table.identifier.as_string(None)} without a "
            f"record are not those that the declared model {declared} gives their texts"
        )
        if is_refuted(found):
            return self._withdraw(connection, table, declared, told)
        text = f"{told}; everindex embed --check  makes them anew"
        return KeptIndex(index=self.index, outcome="left", finding=_finding(text))

    def _withdraw(self, connection: Connection, table: CollectionTable, model: str, told: str) -> KeptIndex:
        withdraw_declaration(connection, table, model)
        spec = effective_spec(connection, EMBEDDING_INDEX)
        record(connection, spec, "keeper: declaration withdrawn", model=model, sentence=told)
        text = (
            f"{told}: the declaration is withdrawn, and texts are searched by words. Stop what writes other vectors, and make "
            "these anew with  everindex embed --overwrite-unrecorded"
        )
        return KeptIndex(
            index=self.index, outcome="left", did=(f"withdrew the declaration of {model}",), finding=_finding(text)
        )


def is_refuted(found: Compared) -> bool:
    """Whether what was compared speaks so much against a declaration that it would be refused today."""
    agreed = found.declared - found.declared_other
    return found.declared_other >= WITHDRAWING_ROWS and agreed < AGREEING_SHARE * found.declared


def _finding(text: str) -> Finding:
    return Finding(index=EMBEDDING_INDEX.name, slug=SLUG, text=text, is_failure=False)
