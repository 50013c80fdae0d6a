"""The visibility of indexes to the planner while one of them is measured, in transactions that are rolled back.

Between two valid indexes on the same key the planner chooses by cost, so all but one must be hidden: a superuser switches
off their `indisvalid`, the table's owner drops them in the transaction (docs/decisions/0008).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from everindex.errors import LockNotObtained
from everindex.index.build.operation import SHORT_LOCK_TIMEOUT
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.deploy.deployment import Deployment
from everindex.index.plan.ddl import drop_statement
from everindex.index.recall.measurement import Inside
from everindex.pg.connections import Connection

#: The index itself and, for a partitioned one, those of its partitions.
SHOW_OR_HIDE = """
    UPDATE pg_catalog.pg_index SET indisvalid = %(shown)s
    WHERE indexrelid = %(oid)s OR indexrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s))
"""


def competitors(observed: Observed, index: ObservedIndex) -> list[ObservedIndex]:
    """The other valid indexes that the planner could choose instead of `index`: with its key, whatever their predicate, since
    an index on all rows can serve the searches of a partial one too."""
    return [
        other
        for other in observed.indexes
        if other.oid != index.oid
        and other.is_valid
        and (other.column, other.expression, other.opclass) == (index.column, index.expression, index.opclass)
    ]


def hidden(others: Sequence[ObservedIndex], *, shown: Sequence[ObservedIndex] = ()) -> Inside:
    """A context in which the planner ignores `others` and sees `shown`: a superuser changes pg_index and rolls back."""

    @contextmanager
    def inside(connection: Connection) -> Iterator[None]:
        with connection.transaction(force_rollback=True):
            for index in (*others, *shown):
                connection.execute(SHOW_OR_HIDE, {"shown": index in shown, "oid": index.oid})
            yield

    return inside


def dropped_for_a_moment(deployment: Deployment, others: list[ObservedIndex]) -> Inside:
    """The same for the table's owner: they are dropped and rolled back. ACCESS EXCLUSIVE for the time of a few queries."""

    @contextmanager
    def inside(connection: Connection) -> Iterator[None]:
        pause = 0.05
        while True:
            with connection.transaction(force_rollback=True):
                connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (SHORT_LOCK_TIMEOUT,))
                try:
                    with connection.transaction():
                        for other in others:
                            connection.execute(drop_statement(deployment.spec.schema, other.name, concurrently=False))
                    is_dropped = True
                except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                    is_dropped = False
                if is_dropped:
                    yield
                    return
            if deployment.is_out_of_time:
                raise LockNotObtained(
                    f"the new generation of index {deployment.spec.qualified_name} could not be tested.",
                    why="the old one must be hidden for a moment, but other transactions kept the table locked.",
                    next_step="end them, then run the same command again; the new generation is kept until then.",
                )
            time.sleep(pause * random.uniform(0.7, 1.3))  # jitter, not security
            pause = min(pause * 2, 2.0)

    return inside
