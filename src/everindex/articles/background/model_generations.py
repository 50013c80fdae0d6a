"""The keeper's task for generations of vectors: those that do not serve lack nothing, and go when their time has come."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from everindex.articles.embedding.choose import embedder_named
from everindex.articles.ingest.generation_vectors import remove_orphans
from everindex.articles.ingest.other_generations import catch_up
from everindex.articles.model_generations import ModelGeneration
from everindex.articles.model_switch.cutting import drop_generation
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import ColumnMismatch, EverindexError, NotMigrated
from everindex.index.keeper.round import KeptIndex
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection, connect
from everindex.pg.vector_type import register_all_types
from everindex.settings import Settings
from everindex.units import count_text

log = logging.getLogger(__name__)


class ModelGenerationsTask:
    """Gives articles that others wrote their vectors in a kept generation, so that a rollback loses none; drops a generation that
    has been kept long enough. The articles' own column is cleared only where everindex owns the table."""

    index = "generations of vectors"

    def __init__(self, conninfo: str, settings: Settings) -> None:
        self._conninfo = conninfo
        self._settings = settings

    def __call__(self, stop: threading.Event) -> KeptIndex | None:
        """Raises what statements raise; a model that is not available here is left to other processes."""
        did: list[str] = []
        with connect(self._conninfo, application_name="everindex keeper") as connection:
            register_all_types(connection)
            try:
                table = read_table(connection)
            except (NotMigrated, ColumnMismatch):  # another part of the keeper says so
                return None
            for generation in table.generations:
                if generation.state == "kept" and not stop.is_set():
                    did += self._keep(connection, table, generation)
        return KeptIndex(index=self.index, outcome="mended", did=tuple(did)) if did else None

    def _keep(self, connection: Connection, table: CollectionTable, generation: ModelGeneration) -> list[str]:
        if is_over(generation, datetime.now(UTC)) and not (generation.is_column and read_attachment(connection)):
            return [drop_generation(connection, generation.number)]
        other = table.of_generation(generation.number)
        remove_orphans(connection, other)
        if generation.model is None:
            return []
        try:
            embedder = embedder_named(generation.name or generation.model, self._settings, width=generation.dimensions)
        except EverindexError as exc:
            log.debug(
                "generation %d is not kept up to date here: %s", generation.number, exc.slug,
                extra={"event": "generation-not-kept"},
            )  # fmt: skip
            return []
        if embedder.model != generation.model:
            return []
        done = catch_up(connection, other, embedder)
        if not done.stored:
            return []
        return [f"made {count_text(done.stored, 'vector')} of the kept generation {generation.number}"]


def is_over(generation: ModelGeneration, now: datetime) -> bool:
    """Whether a kept generation may be dropped."""
    return generation.kept_until is not None and generation.kept_until <= now
