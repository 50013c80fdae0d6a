"""The bulk load: large loads into an empty or tiny table run without the vector index, which is built once at the end.

COPY into a table with an HNSW index stores about 200 rows a second, without one thousands, and the index is then built
over all of them at more than a thousand rows a second (docs/measurements/import.md). Below SMALL_TABLE_ROWS the planner
would not use the index anyway, so nothing is lost while it is missing; above, the index stays and rows are inserted
into it one by one.

An index set aside is noted before it is dropped (index/catalog/set_aside.py) and always restored: by this process after
an error, or after its death by the next import, migrate, up, deploy, heal or the keeper.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import read_table
from everindex.errors import DiskSpaceShort, EverindexError
from everindex.index.catalog.drift import is_as_declared
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.generations import has_generation_name
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index
from everindex.index.catalog.set_aside import find_note, may_note
from everindex.index.deploy.comments import note, settle
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.index.recall.explain import SMALL_TABLE_ROWS
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.locks import holder_of, try_lock, unlock
from everindex.pg.pooler import keeps_session
from everindex.pg.sqlstate import translate_errors

log = logging.getLogger(__name__)

#: Fewer new vectors than this are stored within seconds, index or not.
LARGE_LOAD_ROWS = 1000
#: A session that settles a note holds the lock only for a moment.
LOCK_WAIT_SECONDS = 5.0
#: A server stopped by a full disk or a crash is usually back within seconds; the index is then built.
RECOVERY_WAIT_SECONDS = 30.0


def pays(*, vectors_there: int, vectors_coming: int) -> bool:
    """True when the load is large and the table so small that no search would use the index yet."""
    return vectors_coming >= LARGE_LOAD_ROWS and vectors_there < SMALL_TABLE_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """The state before a load."""

    spec: IndexSpec
    index: ObservedIndex | None
    is_due: bool
    """The index should be set aside for this load."""

    is_missing: bool
    """An earlier load set the index aside and has not restored it."""

    vectors_there: int


@contextmanager
def without_index(
    conninfo: str,
    *,
    vectors_coming: int,
    collection: CollectionSpec = ARTICLES,
    reporter: Reporter | None = None,
) -> Iterator[bool]:
    """Drops the declared index for the duration of the block if that pays, and always rebuilds it afterwards.

    Yields whether the index is missing. One that an earlier load left missing is built at the end of this block.
    """
    reporter = reporter or Reporter()
    with connect(conninfo, application_name="everindex import") as connection:
        scene = _look(connection, collection, vectors_coming, reporter)
    if not scene.is_due and not scene.is_missing:
        yield False
        return
    # While a load holds the lock on this connection, the keeper does not restore the index.
    with connect(conninfo, application_name="everindex import") as marking:
        lift_time_limits(marking)
        if not _marked(marking):
            yield False
            return
        try:
            if scene.is_due:
                _set_aside(conninfo, marking, scene, reporter)
            yield True
        except BaseException as exc:
            _bring_back_after(exc, conninfo, marking, scene, reporter)
            raise
        _bring_back(conninfo, marking, scene, reporter)


def _look(connection: Connection, collection: CollectionSpec, vectors_coming: int, reporter: Reporter) -> _Scene:
    table = read_table(connection, collection)
    spec = effective_spec(connection, table.index)
    observed = observe(connection, spec)
    index = declared_index(spec, observed)
    is_there = index is not None and index.is_valid
    with translate_errors("counting vectors"):
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} WHERE {} IS NOT NULL LIMIT %s) AS few").format(
                table.identifier, table.vector
            ),
            (SMALL_TABLE_ROWS,),
        ).fetchone()
        is_missing = not is_there and find_note(connection, spec) is not None
    there = int(row[0]) if row else 0
    is_due = is_there and pays(vectors_there=there, vectors_coming=vectors_coming)
    if is_due and not keeps_session(connection):
        is_due = False
        reporter.say(
            "loading with the index in place, about 200 rows a second: setting it aside needs the server's own address "
            "(DATABASE_URL_DIRECT), not a pooler in transaction mode"
        )
    elif is_due and not (_can_come_back(spec, observed, index) and may_note(connection, spec)):
        is_due = False
        reporter.say(
            "loading with the index in place, about 200 rows a second: the existing index could not be restored as it "
            "is"
        )
    if index is not None and is_there and not is_due:
        settle(connection, spec, index)  # a note of a load that was killed before it dropped the index
    return _Scene(spec=spec, index=index, is_due=is_due, is_missing=is_missing, vectors_there=there)


def _can_come_back(spec: IndexSpec, observed: Observed, index: ObservedIndex | None) -> bool:
    """True when building the declaration restores all that is dropped: no other definition and no other generation
    exists."""
    return (
        index is not None
        and is_as_declared(spec, observed, index)
        and not any(has_generation_name(each.name, spec.name) for each in observed.indexes)
    )


def _marked(marking: Connection) -> bool:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while not try_lock(marking, "aside", is_shared=True):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _set_aside(conninfo: str, marking: Connection, scene: _Scene, reporter: Reporter) -> None:
    reporter.say(
        f"{LARGE_LOAD_ROWS} or more vectors into a table of {scene.vectors_there}: loading first, then building the "
        f"index once"
    )
    assert scene.index is not None
    note(Deployment(conninfo=conninfo, spec=scene.spec, reporter=reporter), marking, scene.index)
    drop(conninfo, scene.spec, reporter=reporter, comes_back=True)


def _bring_back(conninfo: str, marking: Connection, scene: _Scene, reporter: Reporter) -> None:
    """Builds the index, unless another running load will do so."""
    loader = None
    with suppress(psycopg.OperationalError):  # the lock has ended with its session
        unlock(marking, "aside", is_shared=True)
        loader = holder_of(marking, "aside")
    if loader is not None:
        reporter.say(f"index {scene.spec.qualified_name} is still set aside: {loader} is loading and will build it")
        return
    if not scene.is_due:
        reporter.say(
            f"index {scene.spec.qualified_name} was set aside by an earlier load that did not finish: building it"
        )
    deploy(conninfo, scene.spec, reporter=reporter)


def _bring_back_after(
    exc: BaseException, conninfo: str, marking: Connection, scene: _Scene, reporter: Reporter
) -> None:
    """Builds the index after an error. That error is still the one reported, since it may have caused any that
    follow."""
    try:
        if isinstance(exc, DiskSpaceShort):
            raise exc  # a build would fill the disk again, and a server that cannot write its WAL ends
        # The error may have taken the server down.
        connect(conninfo, wait_seconds=RECOVERY_WAIT_SECONDS, application_name="everindex import").close()
        _bring_back(conninfo, marking, scene, reporter)
    except (EverindexError, psycopg.Error) as second:
        because = "" if second is exc else f" ({getattr(second, 'why', type(second).__name__).rstrip('.')})"
        left = (
            f"Index {scene.spec.qualified_name} is still set aside{because}: the next import, or  everindex heal , "
            "builds it."
        )
        if isinstance(exc, EverindexError):
            exc.next_step = f"{exc.next_step} {left}"
        else:
            log.warning("%s", left, extra={"event": "bulk-load-left"})
