"""The latest observation of a database for metrics, renewed by one background thread while somebody scrapes.

A scrape never queries and never waits for one, except for the first observation, and then not longer than FIRST_WAIT_SECONDS.
At most one observation runs at a time, whatever the number of scrapes. What is older than its part's limit is void and not
returned: a state that the database may no longer have is not shown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import psycopg

from everindex.errors import EverindexError
from everindex.index.spec import IndexSpec
from everindex.metrics.observation import (
    CollectionCounts,
    DatabaseMetrics,
    DoctorCounts,
    count_collections,
    count_findings,
    observe_database,
)
from everindex.pg.connections import Connection, connect

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often each part is read while somebody scrapes; a part that is expensive is read less often, see MOST_SHARE.
STATE_SECONDS, COUNTS_SECONDS, DOCTOR_SECONDS = 15.0, 60.0, 300.0
#: The share of the time that reading counts, or running the doctor's rules, may take.
MOST_SHARE = 0.01
#: A part is void after so many of its intervals.
VOID_AFTER = 3.0
#: The thread ends when nobody has scraped for this long.
UNUSED_SECONDS = 600.0
#: The first scrape after a start finds nothing observed yet.
FIRST_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Generic[T]):
    """The last result of one part of the observation."""

    value: T | None
    """None where the last attempt failed, and where the result is void."""

    age_seconds: float | None
    """Of the last result, void or not; None before the first."""

    read_at: float | None
    """When that was, in seconds since 1970."""

    duration_seconds: float
    problem: str | None
    """The slug of the problem that ended the last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """What is known now."""

    state: Part[DatabaseMetrics]
    counts: Part[tuple[CollectionCounts, ...]]
    doctor: Part[DoctorCounts]


class _Reading(Generic[T]):
    """One part: when it is due, and its last result."""

    def __init__(self, read: Callable[[Connection], T], *, seconds: float, is_limited: bool) -> None:
        self._read = read
        self._seconds = seconds
        self._is_limited = is_limited
        self._value: T | None = None
        self._read_at: float | None = None
        self._duration = 0.0
        self._problem: str | None = None
        self.due_at = 0.0

    def run(self, connection: Connection) -> None:
        started = time.monotonic()
        self._value = self._read(connection)
        self._read_at, self._problem = time.monotonic(), None
        self._duration = self._read_at - started
        self.due_at = self._read_at + self._interval

    def fail(self, problem: str) -> None:
        self._problem = problem
        self.due_at = time.monotonic() + min(self._seconds, STATE_SECONDS)

    @property
    def _interval(self) -> float:
        return max(self._seconds, self._duration / MOST_SHARE if self._is_limited else 0.0)

    def part(self) -> Part[T]:
        """What is known; without a value where it is void."""
        result = self.result()
        is_void = result.age_seconds is None or result.age_seconds > VOID_AFTER * self._interval
        return replace(result, value=None) if is_void else result

    def result(self) -> Part[T]:
        """What the last attempt found, however old."""
        age = None if self._read_at is None else time.monotonic() - self._read_at
        return Part(
            value=self._value if self._problem is None else None, age_seconds=age,
            read_at=None if age is None else time.time() - age,
            duration_seconds=self._duration, problem=self._problem,
        )  # fmt: skip


def observe_once(
    connection: Connection | None,
    *,
    recall_floor: float,
    declared: Sequence[IndexSpec] | None = None,
    problem: str | None = None,
) -> Latest:
    """All parts, read now over one connection; without one none of them, because of `problem`. With `declared`, these indexes
    alone and no counts of collections. Raises what reading raises."""
    state = _Reading(
        partial(observe_database, recall_floor=recall_floor, declared=declared), seconds=0, is_limited=False
    )
    counts = _Reading(count_collections, seconds=0, is_limited=False)
    doctor = _Reading(
        partial(count_findings, recall_floor=recall_floor, declared=declared), seconds=0, is_limited=False
    )
    for reading in (state, counts, doctor):
        if connection is None:
            reading.fail(problem or "internal")
        elif reading is not counts or declared is None:
            reading.run(connection)
    return Latest(state=state.result(), counts=counts.result(), doctor=doctor.result())


class LatestObservation:
    """The observation of the database at one address; safe to use from many threads."""

    def __init__(
        self,
        conninfo: str,
        *,
        recall_floor: float,
        seconds: tuple[float, float, float] = (STATE_SECONDS, COUNTS_SECONDS, DOCTOR_SECONDS),
    ) -> None:
        """`seconds`: how often the state, the counts and the doctor's findings are read."""
        self._conninfo = conninfo
        self._state = _Reading(
            partial(observe_database, recall_floor=recall_floor), seconds=seconds[0], is_limited=False
        )  # fmt: skip
        self._counts = _Reading(count_collections, seconds=seconds[1], is_limited=True)
        self._doctor = _Reading(
            partial(count_findings, recall_floor=recall_floor), seconds=seconds[2], is_limited=True
        )  # fmt: skip
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._has_looked = threading.Event()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._wanted_at = 0.0

    def latest(self) -> Latest:
        """What is known now; starts the thread where none runs. Does not query. Raises nothing."""
        self._want()
        self._has_looked.wait(FIRST_WAIT_SECONDS)
        return Latest(state=self._state.part(), counts=self._counts.part(), doctor=self._doctor.part())

    @property
    def is_first(self) -> bool:
        """Whether the next call of `latest` may wait."""
        return not self._has_looked.is_set()

    def renew(self) -> None:
        """Reads everything again at once if somebody scrapes: for use after an index was changed."""
        for reading in self._readings:
            reading.due_at = 0.0
        self._wake.set()

    def close(self) -> None:
        """Ends the thread; does not wait for a statement that is running."""
        self._is_closed = True
        self._wake.set()

    @property
    def _readings(self) -> tuple[_Reading[Any], ...]:
        return self._state, self._counts, self._doctor

    def _want(self) -> None:
        self._wanted_at = time.monotonic()
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="everindex-metrics", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self._look()
            self._has_looked.set()
            self._wake.wait(max(0.05, min(reading.due_at for reading in self._readings) - time.monotonic()))
            with self._lock:
                if self._is_closed or time.monotonic() - self._wanted_at > UNUSED_SECONDS:
                    self._thread = None
                    self._has_looked.clear()
                    return

    def _look(self) -> None:
        """Reads what is due over one connection; what cannot be read has no value afterwards."""
        due = [reading for reading in self._readings if time.monotonic() >= reading.due_at]
        try:
            with connect(self._conninfo, application_name="everindex metrics") as connection:
                while due:
                    due[0].run(connection)
                    del due[0]
                    self._has_looked.set()  # the state comes first, and the counts are not waited for
        except EverindexError as exc:
            self._failed(due, exc.slug)
        except psycopg.Error as exc:
            self._failed(due, "statement-failed")
            log.debug("metrics were not read: %s", type(exc).__name__, extra={"event": "metrics-not-read"})
        except Exception:
            self._failed(due, "internal")
            log.exception(
                "metrics were not read because of an internal error; the next attempt follows",
                extra={"event": "metrics-failed"},
            )

    def _failed(self, readings: list[_Reading[Any]], problem: str) -> None:
        for reading in readings:
            reading.fail(problem)
