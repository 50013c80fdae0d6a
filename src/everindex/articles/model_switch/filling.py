"""The filling of a new generation: every article gets a vector of the new model, beside the one that serves.

Can be interrupted at any point: each batch is one transaction, and the next run begins with what is lacking. The next batch is
embedded while the last one is stored.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from psycopg import sql

from everindex.articles.embedding import Embedder
from everindex.articles.embedding.provider import EmbeddingBatch
from everindex.articles.ingest.generation_vectors import Due, read_due, remove_orphans
from everindex.articles.ingest.other_generations import BATCH, Batch, store_batch
from everindex.articles.model_switch.state import note_progress, read_progress
from everindex.articles.table import CollectionTable
from everindex.errors import EmbeddingFailed
from everindex.pg.connections import Connection

#: Characters that make a token, where the model does not count its own. OpenAI: "about 4 characters in English".
CHARACTERS_PER_TOKEN = 4
#: Batches that are read at once: finding what lacks a vector reads the articles and what is stored in the order of their keys.
READ_BATCHES = 10
#: So many texts in a row without a vector, all of a batch, end the run: the model, not the texts, is at fault.
MOST_FAILED_IN_A_ROW = 2 * BATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may spend. None: as much as it takes."""

    texts_per_second: float | None = None
    most_tokens: int | None = None
    """Over all runs of the switch, estimated."""

    window: tuple[dt.time, dt.time] | None = None
    """The hours of the day, UTC, in which the model is called; from the later to the earlier one means over midnight."""


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The result of one run."""

    texts: int
    stored: int
    failed: int
    seconds: float
    reason: str | None = None
    """Why it ended before every article was tried; None where all were."""


class _Interrupted(Exception):
    """The run ends before every article was tried."""


def fill(
    connection: Connection,
    table: CollectionTable,
    embedder: Embedder,
    *,
    limits: Limits,
    on_rows: Callable[[int], None] = lambda rows: None,
    say: Callable[[str], None] = lambda text: None,
    stop: threading.Event | None = None,
) -> Filled:
    """Makes what is lacking in the generation that `table` describes, until nothing is. Articles that the model refuses keep the
    reason in everindex_meta.model_failure and are tried again by the next run. Takes ROW EXCLUSIVE on that generation's table
    alone. Raises EmbeddingFailed where the model gives no vector at all; what was made is kept."""
    run = _Run(connection, table, embedder, limits, on_rows, say, stop or threading.Event())
    connection.execute("DELETE FROM everindex_meta.model_failure WHERE generation = %s", (table.number,))
    remove_orphans(connection, table)
    reason = None
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="everindex-embedding") as pool:
            # A pass ends with the last key; what was written meanwhile is found by the next one.
            while run.one_pass(pool):
                pass
    except _Interrupted as exc:
        reason = str(exc)
    return Filled(
        texts=run.total.texts, stored=run.total.stored, failed=run.total.failed, seconds=run.seconds, reason=reason
    )


class _Run:
    """One run of `fill`."""

    def __init__(
        self,
        connection: Connection,
        table: CollectionTable,
        embedder: Embedder,
        limits: Limits,
        on_rows: Callable[[int], None],
        say: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        self._connection = connection
        self._table = table
        self._embedder = embedder
        self._limits = limits
        self._on_rows = on_rows
        self._say = say
        self._stop = stop
        self._failed_in_a_row = 0
        self._read: list[Due] = []
        self._is_first_pass = True
        self._tokens = read_progress(connection, table.number).tokens
        self.total = Batch()
        self.seconds = 0.0

    def one_pass(self, pool: ThreadPoolExecutor) -> bool:
        """Goes through the articles once; whether any lacked a vector."""
        after: str | None = None
        found = False
        waiting: tuple[list[Due], Future[EmbeddingBatch], float] | None = None
        while True:
            try:
                due = self._next(after)
                if due:
                    self._wait(len(due))
            except _Interrupted:
                if waiting is not None:
                    self._finish(*waiting)  # it is paid for
                raise
            coming = None
            if due:
                found, after = True, due[-1].key
                coming = (due, pool.submit(self._embedder.embed, [each.text for each in due]), time.monotonic())
            if waiting is not None:
                self._finish(*waiting)
            waiting = coming
            if waiting is None:
                self._is_first_pass = False
                return found

    def _next(self, after: str | None) -> list[Due]:
        if self._stop.is_set():
            raise _Interrupted("it was stopped")
        most = self._limits.most_tokens
        if most is not None and self._tokens >= most:
            raise _Interrupted(f"{self._tokens:,} tokens are spent, of {most:,}")
        # Of a slow model little is lost by a kill, and a limited rate is kept over short times.
        size = 64 if self._embedder.is_remote else BATCH
        if self._limits.texts_per_second is not None:
            size = max(1, min(size, int(self._limits.texts_per_second)))
        if not self._read:
            # What failed has been forgotten before the first pass, so only further ones have to leave it out.
            self._read = read_due(
                self._connection, self._table, after=after, limit=READ_BATCHES * size, with_failed=self._is_first_pass
            )
        due, self._read = self._read[:size], self._read[size:]
        self._tokens += tokens_of(due)
        return due

    def _finish(self, due: list[Due], coming: Future[EmbeddingBatch], began: float) -> None:
        embedded = coming.result()
        with self._connection.transaction():
            done = store_batch(self._connection, self._table, due, self._embedder, embedded=embedded)
            seconds = time.monotonic() - began
            note_progress(self._connection, self._table.number, texts=len(due), tokens=tokens_of(due), seconds=seconds)
        self.total += done
        self.seconds += seconds
        self._on_rows(len(due))
        self._failed_in_a_row = self._failed_in_a_row + len(due) if done.failed == len(due) else 0
        if self._failed_in_a_row >= MOST_FAILED_IN_A_ROW:
            raise EmbeddingFailed(
                f"{self._embedder.model} gave no vector for {self._failed_in_a_row} texts in a row.",
                why=f"{next(iter(embedded.failures.values()))}.",
                next_step="what was made is kept; run  everindex model switch  again once the model answers.",
            )

    def _wait(self, texts: int) -> None:
        """Waits until the window is open and the rate allows the next texts."""
        pause = seconds_until(self._limits.window, dt.datetime.now(dt.UTC))
        if pause > 0:
            self._say(f"waiting {pause / 3600:.1f} hours for the time window")
        rate = self._limits.texts_per_second
        if rate is not None and self.total.texts:
            pause = max(pause, texts / rate)
        if pause > 0 and self._stop.wait(pause):
            raise _Interrupted("it was stopped")


def tokens_of(due: list[Due]) -> int:
    """How many tokens these texts have, estimated from their characters."""
    return sum(-(-len(each.text) // CHARACTERS_PER_TOKEN) for each in due)


def seconds_until(window: tuple[dt.time, dt.time] | None, now: dt.datetime) -> float:
    """Seconds from `now` (UTC) until the window is open; 0 where it is."""
    if window is None:
        return 0.0
    begins, ends = window
    time_now = now.time()
    is_open = begins <= time_now < ends if begins <= ends else time_now >= begins or time_now < ends
    if is_open:
        return 0.0
    opens = dt.datetime.combine(now.date(), begins, now.tzinfo)
    return ((opens if opens > now else opens + dt.timedelta(days=1)) - now).total_seconds()


def analyze(connection: Connection, table: CollectionTable) -> None:
    """Statistics for the planner, which none has gathered of a table just filled. SHARE UPDATE EXCLUSIVE on it."""
    if table.generation is not None:
        connection.execute(sql.SQL("ANALYZE {}").format(table.generation.identifier))
