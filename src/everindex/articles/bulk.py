"""When does a large load go in without the vector index? Where nobody misses it: on an empty or tiny table.

COPY into a table with an HNSW index stores some 200 rows a second, without one thousands, and the index is then built
over all of them at more than a thousand rows a second (docs/measurements/import.md). Below SMALL_TABLE_ROWS the planner
would not use the index anyway, so nothing is lost while it is away; above, the index stays and rows go in one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.index.apply import deploy, drop
from everindex.index.catalog import observe
from everindex.index.drift import declared_index
from everindex.index.reporter import Reporter
from everindex.index.tuned import declared_here
from everindex.index.verify import SMALL_TABLE_ROWS
from everindex.pg.connections import connect, lift_time_limits
from everindex.pg.locks import try_lock
from everindex.pg.pooler import keeps_session
from everindex.pg.sqlstate import told_as_ours

#: Fewer new vectors than this are stored within seconds, index or not.
LARGE_LOAD_ROWS = 1000


def pays(*, vectors_there: int, vectors_coming: int) -> bool:
    """True when the load is large and the table so small that no search would use the index yet."""
    return vectors_coming >= LARGE_LOAD_ROWS and vectors_there < SMALL_TABLE_ROWS


@contextmanager
def index_aside(conninfo: str, *, vectors_coming: int, reporter: Reporter | None = None) -> Iterator[bool]:
    """For the time of the block the declared index is dropped if that pays, and afterwards, come what may, built anew.

    Yields whether it was. A process that is killed inside leaves no index; the keeper, or the next migrate or up, builds it.
    """
    reporter = reporter or Reporter()
    with connect(conninfo, application_name="everindex import") as connection:
        spec = declared_here(connection, EMBEDDING_INDEX)
        index = declared_index(spec, observe(connection, spec))
        with told_as_ours("counting vectors"):
            row = connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM articles WHERE embedding IS NOT NULL LIMIT %s) AS few",
                (SMALL_TABLE_ROWS,),
            ).fetchone()
        there = int(row[0]) if row else 0
        is_due = index is not None and index.is_valid and pays(vectors_there=there, vectors_coming=vectors_coming)
        if is_due and not keeps_session(connection):
            is_due = False
            reporter.say(
                "loading with the index in place, some 200 rows a second: it could be set aside over the server's own address "
                "(DATABASE_URL_DIRECT), not through a pooler in transaction mode"
            )
    if not is_due:
        yield False
        return
    reporter.say(
        f"{vectors_coming} or more vectors into a table of {there}: loading first, then building the index once"
    )
    with connect(conninfo, application_name="everindex import") as marking:
        # While somebody has this lock, a keeper does not put the index back.
        lift_time_limits(marking)
        try_lock(marking, "aside", is_shared=True)
        drop(conninfo, spec, reporter=reporter)
        try:
            yield True
        finally:
            deploy(conninfo, spec, reporter=reporter)
