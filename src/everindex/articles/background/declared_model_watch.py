"""The keeper's watch over a declared model: vectors without a record are compared with it regularly.

A declaration is based on a comparison, but also covers rows that another program adds later. So the comparison is
repeated on a random sample: disagreeing vectors are reported, and where so many disagree that the declaration would be
refused today, it is withdrawn (docs/decisions/0016). Only for models that always give a text the same vector.
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
#: Minimum interval between samples; longer where sampling would otherwise take more than a hundredth of the time.
WATCH_SECONDS = 600.0
WATCH_TIMES = 100
#: Fewer disagreeing vectors than this do not withdraw a declaration: in a small table one edited text already exceeds
#: the tolerated share.
WITHDRAWING_ROWS = 10


class DeclaredModelTask:
    """A task of the keeper. EVERINDEX_KEEP_RECALL_SECONDS limits each of its statements; 0 disables it."""

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
        # A withdrawal is reported once: after it the table's model is unrecorded, which other checks report.
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
        finding = (
            f"{found.declared_other} of {found.declared} sampled vectors without a record in "
            f"{table.identifier.as_string(None)} differ from those that the declared model {declared} makes from their "
            f"texts"
        )
        if is_refuted(found):
            return self._withdraw(connection, table, declared, finding)
        text = f"{finding}; everindex embed --check  replaces them"
        return KeptIndex(index=self.index, outcome="left", finding=_finding(text))

    def _withdraw(self, connection: Connection, table: CollectionTable, model: str, finding: str) -> KeptIndex:
        withdraw_declaration(connection, table, model)
        spec = effective_spec(connection, EMBEDDING_INDEX)
        record(connection, spec, "keeper: declaration withdrawn", model=model, sentence=finding)
        text = (
            f"{finding}: the declaration is withdrawn, and search texts are matched by keyword only. Stop the program "
            f"that writes other vectors, and replace these with  everindex embed --overwrite-unrecorded"
        )
        return KeptIndex(
            index=self.index, outcome="left", did=(f"withdrew the declaration of {model}",), finding=_finding(text)
        )


def is_refuted(found: Compared) -> bool:
    """Whether so many vectors disagree that the declaration would be refused today."""
    agreed = found.declared - found.declared_other
    return found.declared_other >= WITHDRAWING_ROWS and agreed < AGREEING_SHARE * found.declared


def _finding(text: str) -> Finding:
    return Finding(index=EMBEDDING_INDEX.name, slug=SLUG, text=text, is_failure=False)
