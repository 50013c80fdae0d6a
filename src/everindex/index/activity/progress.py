"""The progress of a running build: phase, blocks, rows per second and time left (pg_stat_progress_create_index)."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import psycopg

from everindex.errors import EverindexError
from everindex.pg.connections import Connection, connect
from everindex.pg.pooler import route_of

log = logging.getLogger(__name__)

#: The window of the rate, in seconds: once the graph has outgrown its memory, an older rate is too optimistic.
RATE_WINDOW_SECONDS = 10.0
POLL_SECONDS = 0.25
CANCEL_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One reading of the progress of a build."""

    phase: str
    """PostgreSQL's own words, such as `building index: loading tuples`; `waiting for locks` before the build has begun, and
    `building index` when this role may not see more (after SET ROLE to a role that is not a member of the login role)."""

    blocks_done: int
    blocks_total: int
    """Heap blocks of the phase; 0 in a phase that does not count blocks."""

    rows_done: int
    rows_total: int
    """Estimate from the statistics; 0 when the table was never analyzed."""

    elapsed_seconds: float
    rows_per_second: float | None
    seconds_left: float | None
    """None when there is no reliable estimate: in phases without a count, and before the first rate."""

    waits_for: tuple[int, ...] = ()
    """Backends whose transactions the build waits for."""

    @property
    def share_done(self) -> float | None:
        return self.blocks_done / self.blocks_total if self.blocks_total else None


class Watchdog(Protocol):
    """Something that can end a build."""

    def verdict(self, connection: Connection, progress: Progress) -> str | None:
        """The reason to cancel the build now; None to let it continue."""


class ProgressMeter:
    """Turns successive readings into rates over a moving window."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._readings: deque[tuple[float, int, int]] = deque()
        self._phase = ""

    def read(
        self,
        *,
        phase: str,
        blocks_done: int,
        blocks_total: int,
        rows_done: int,
        rows_total: int,
        waits_for: tuple[int, ...],
    ) -> Progress:
        now = time.monotonic()
        if phase != self._phase:
            self._readings.clear()
            self._phase = phase
        self._readings.append((now, blocks_done, rows_done))
        while now - self._readings[0][0] > RATE_WINDOW_SECONDS:
            self._readings.popleft()
        first_time, first_blocks, first_rows = self._readings[0]
        span = now - first_time
        blocks_rate = (blocks_done - first_blocks) / span if span > 0 else 0.0
        rows_rate = (rows_done - first_rows) / span if span > 0 else 0.0
        if rows_rate <= 0 and blocks_rate > 0 and blocks_total:
            rows_rate = blocks_rate * rows_total / blocks_total
        return Progress(
            phase=phase,
            blocks_done=blocks_done,
            blocks_total=blocks_total,
            rows_done=rows_done,
            rows_total=rows_total,
            elapsed_seconds=now - self._started,
            rows_per_second=rows_rate if rows_rate > 0 else None,
            seconds_left=(blocks_total - blocks_done) / blocks_rate if blocks_rate > 0 and blocks_total else None,
            waits_for=waits_for,
        )


def read_progress(connection: Connection, meter: ProgressMeter, *, pid: int, rows_total: int) -> Progress | None:
    """The progress of the build that backend `pid` runs, or the backends that it waits for before it has begun one; else None.

    Reads only.
    """
    row = connection.execute(
        """
        SELECT p.phase, p.blocks_done, p.blocks_total, p.tuples_done, p.current_locker_pid
        FROM pg_catalog.pg_stat_progress_create_index p WHERE p.pid = %s
        """,
        (pid,),
    ).fetchone()
    if row is None or row[0] is None:
        blockers = connection.execute("SELECT pg_catalog.pg_blocking_pids(%s)", (pid,)).fetchone()
        waits_for = blockers is not None and blockers[0]
        if row is None and not waits_for:
            return None
        return meter.read(
            phase="waiting for locks" if waits_for else "building index",
            blocks_done=0,
            blocks_total=0,
            rows_done=0,
            rows_total=rows_total,
            waits_for=tuple(sorted({each for each in waits_for or () if each})),  # 0: a prepared transaction
        )
    return meter.read(
        phase=row[0],
        blocks_done=row[1] or 0,
        blocks_total=row[2] or 0,
        rows_done=row[3] or 0,
        rows_total=rows_total,
        waits_for=(row[4],) if row[4] else (),
    )


class Watch:
    """A thread with its own connection that watches the backend of `builder` while it builds or drops."""

    def __init__(
        self,
        conninfo: str,
        builder: Connection,
        *,
        rows_total: int,
        on_progress: Callable[[Progress], None] | None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._builder = builder
        self._pid = route_of(builder).server_pid
        self._rows_total = rows_total
        self._on_progress = on_progress
        self._watchdog = watchdog
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="everindex-progress", daemon=True)
        self.gave_up: str | None = None
        """Why the watchdog cancelled the build; None if it has not."""

    def __enter__(self) -> Watch:
        if self._on_progress is not None or self._watchdog is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        meter = ProgressMeter()
        try:
            with connect(self._conninfo, application_name="everindex progress") as connection:
                while not self._stop.wait(POLL_SECONDS):
                    progress = read_progress(connection, meter, pid=self._pid, rows_total=self._rows_total)
                    if progress is None:
                        continue
                    if self._on_progress is not None:
                        self._on_progress(progress)
                    if self._watchdog is not None and self.gave_up is None:
                        self.gave_up = self._watchdog.verdict(connection, progress)
                        if self.gave_up is not None:
                            # pg_cancel_backend would not do: after SET ROLE, the role may not cancel its own login role.
                            self._builder.cancel_safe(timeout=CANCEL_TIMEOUT_SECONDS)
        except (psycopg.Error, EverindexError) as exc:
            # Progress is optional: the build continues without it, and its own connection reports what is wrong.
            log.debug(
                "no more progress of backend %s: %s", self._pid, type(exc).__name__, extra={"event": "progress-ended"}
            )
