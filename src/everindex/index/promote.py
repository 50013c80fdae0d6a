"""How does a new generation take over? It is proven, then two names change in one short transaction; rollback swaps back.

Two valid indexes on the same key leave the choice to the planner's costs, which prefer the one with the smaller m or the
fewer pages, whatever their names. So, for the proof, all others of the same key are out of the planner's sight, in a
transaction that is rolled back; and the generation that is kept for a rollback stays out of sight where the role may do
that (its `indisvalid` is switched off: writers keep it up to date, searches pass it over). Where the role may not, it is
kept only while the planner prefers its successor (docs/decisions/0008).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import psycopg
from psycopg import sql

from everindex.errors import GenerationUnproven, LockNotObtained, NothingToRollBack, PlanOutOfDate
from everindex.index.build import drop_online
from everindex.index.catalog import Observed, ObservedIndex, observe
from everindex.index.drift import declared_index, index_digest, is_hidden, previous_generation
from everindex.index.generations import (
    aside_name,
    previous_name,
    previous_note,
    read_note,
    serving_note,
    with_note,
    words_of_others,
)
from everindex.index.journal import record
from everindex.index.key import is_key
from everindex.index.planner import explain
from everindex.index.probe import index_names, probe_settings, probe_statement
from everindex.index.recall import (
    Inside,
    Recall,
    Truth,
    compare,
    find_truth,
    one_transaction,
    sample_queries,
)
from everindex.index.spec import IndexSpec
from everindex.index.statements import comment_statement, drop_statement, rename_statement
from everindex.index.steps import Prove, Rename, Swap
from everindex.index.verify import FORCED
from everindex.index.work import SHORT_LOCK_TIMEOUT, Work, run_briefly
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours
from everindex.pg.vector_type import register_all_types

K = 10
PROOF_QUERIES = 40
PROOF_SECONDS = 20.0


def prove(work: Work, connection: Connection, step: Prove, observed: Observed) -> None:
    """The generation `step.name` is usable, and its recall is at the floor or no worse than the one that serves.

    Reads only, and ACCESS SHARE; ACCESS EXCLUSIVE for moments where others are hidden by a lock. Otherwise the new one
    is dropped, the refusal is noted on the serving index, and GenerationUnproven is raised.
    """
    spec = work.spec
    successor = _named(observed, step.name)
    register_all_types(connection)
    with told_as_ours("proving the new generation"):
        vectors = sample_queries(connection, spec, observed, samples=PROOF_QUERIES)
        if len(vectors) >= 2:
            truth = find_truth(connection, spec, observed, vectors, k=K, max_seconds=PROOF_SECONDS)
            measured = _measure(work, connection, observed, successor, truth)
            if measured is None:
                _refuse(work, connection, observed, successor, "the planner cannot use it, even when it must")
            else:
                _judge(work, connection, observed, successor, measured, truth)
    work.proven.add(successor.oid)


def _judge(
    work: Work,
    connection: Connection,
    observed: Observed,
    successor: ObservedIndex,
    measured: Recall,
    truth: Truth,
) -> None:
    spec = work.spec
    text = (
        f"recall@{measured.k} of the new generation is {measured.recall:.3f} ({measured.low:.3f} to {measured.high:.3f}, "
        f"{measured.queries} queries)"
    )
    record(connection, spec, "proven", recall=measured.recall, low=measured.low, queries=measured.queries)
    if measured.recall >= spec.recall_floor:
        work.reporter.say(text)
        return
    serving = declared_index(spec, observed)
    before = None if serving is None else _measure(work, connection, observed, serving, truth)
    if before is None or measured.recall < before.recall:
        compared = "" if before is None else f"that of the serving one {before.recall:.3f}, "
        _refuse(work, connection, observed, successor, f"{text}, {compared}the floor is {spec.recall_floor:.2f}")
    elif work.rebuild_because is not None and measured.recall <= before.recall:
        _refuse(work, connection, observed, successor, f"{text}, no better than before: building anew does not help")
    work.warn(f"{text}: below the floor of {spec.recall_floor:.2f}, and no worse than before")
    work.reporter.say(work.warnings[-1])


def _refuse(work: Work, connection: Connection, observed: Observed, successor: ObservedIndex, why: str) -> NoReturn:
    spec = work.spec
    serving = declared_index(spec, observed)
    if serving is not None:
        refused = (*read_note(serving.comment).refused, index_digest(successor))
        run_briefly(
            work,
            connection,
            "noting the refusal",
            comment_statement(
                spec.schema,
                spec.name,
                with_note(words_of_others(serving.comment), serving_note(tuple(dict.fromkeys(refused)))),
            ),
        )
    drop_generation(work, connection, spec.schema, successor.name, is_partitioned=successor.is_partitioned)
    record(connection, spec, "refused", why=why)
    raise GenerationUnproven(
        f"the new generation of index {spec.qualified_name} did not prove itself and was removed.",
        why=f"{why}.",
        next_step="the index that served goes on serving. Change the declaration (a larger m or ef_construction), "
        "then run  everindex deploy.",
    )


def _measure(
    work: Work, connection: Connection, observed: Observed, index: ObservedIndex, truth: Truth
) -> Recall | None:
    """Recall of one index with all others of its key out of the planner's sight; None when even so it is not taken."""
    spec = work.spec
    others = [
        other
        for other in observed.indexes
        if other.oid != index.oid
        and other.is_valid
        and other.predicate == index.predicate
        and (other.column, other.expression, other.opclass) == (index.column, index.expression, index.opclass)
    ]
    # The declaration's own statement asks its own key; a generation of another key cannot answer it.
    if index.opclass != spec.opclass or not is_key(spec, observed, column=index.column, expression=index.expression):
        return None
    inside: Inside = one_transaction
    if others:
        inside = _hidden(others) if observed.is_superuser else _dropped_for_a_moment(work, others)
    measured = compare(
        connection,
        probe_statement(spec, observed, k=K + 1),
        (*probe_settings(spec, observed, k=K), *FORCED),
        truth,
        names=index_names(observed, index),
        inside=inside,
    )
    return measured if isinstance(measured, Recall) else None


# --- out of the planner's sight --------------------------------------------------------------------------------------


def _hidden(others: list[ObservedIndex]) -> Inside:
    """Surroundings in which the planner passes `others` over: a superuser's change of pg_index that is rolled back."""

    @contextmanager
    def inside(connection: Connection) -> Iterator[None]:
        with connection.transaction(force_rollback=True):
            for other in others:
                connection.execute(_SHOW_OR_HIDE, {"shown": False, "oid": other.oid})
            yield

    return inside


def _dropped_for_a_moment(work: Work, others: list[ObservedIndex]) -> Inside:
    """The same for the table's owner: they are dropped, and it is rolled back. ACCESS EXCLUSIVE for a few queries' time."""

    @contextmanager
    def inside(connection: Connection) -> Iterator[None]:
        pause = 0.05
        while True:
            with connection.transaction(force_rollback=True):
                connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (SHORT_LOCK_TIMEOUT,))
                try:
                    with connection.transaction():
                        for other in others:
                            connection.execute(drop_statement(work.spec.schema, other.name, concurrently=False))
                    is_dropped = True
                except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                    is_dropped = False
                if is_dropped:
                    yield
                    return
            if work.is_out_of_time:
                raise LockNotObtained(
                    f"the new generation of index {work.spec.qualified_name} could not be proven.",
                    why="the old one has to be out of sight for a moment, and other transactions held the table.",
                    next_step="end them, then run the same command again; the new generation is kept until then.",
                )
            time.sleep(pause * random.uniform(0.7, 1.3))  # jitter, not security
            pause = min(pause * 2, 2.0)

    return inside


#: The index itself and, of a partitioned one, those of its partitions.
_SHOW_OR_HIDE = """
    UPDATE pg_catalog.pg_index SET indisvalid = %(shown)s
    WHERE indexrelid = %(oid)s OR indexrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s))
"""


# --- names -----------------------------------------------------------------------------------------------------------


def swap(work: Work, connection: Connection, step: Swap, observed: Observed) -> None:
    """The successor takes the declared name, the serving one becomes the previous. Nothing changes if it fails."""
    spec = work.spec
    serving, successor = _named(observed, step.serving), _named(observed, step.successor)
    # Before the names change: should we die right after, the note says already that this one is not to be kept.
    is_preferred = not _hides(observed, serving, successor) and _is_preferred(
        connection, spec, observed, serving, successor
    )
    keep_seconds = 0.0 if is_preferred else step.keep_seconds
    exchange_names(
        work,
        connection,
        observed,
        serving,
        successor,
        keep_until=datetime.now(UTC) + timedelta(seconds=keep_seconds),
        refused=(),
    )
    work.has_swapped = True
    work.rebuild_because = None
    record(connection, spec, "swapped", previous=serving.definition, serving=successor.definition)
    work.reporter.say(f"index {spec.qualified_name} is the new generation; the old one is {step.previous}")
    if is_preferred and step.keep_seconds > 0:
        work.warn(
            f"the planner prefers the previous generation {step.previous}, and only a superuser can hide it: it is "
            "dropped, and a rollback would have to build it again"
        )
    if keep_seconds <= 0:
        drop_generation(work, connection, spec.schema, step.previous, is_partitioned=serving.is_partitioned)


def _is_preferred(
    connection: Connection, spec: IndexSpec, observed: Observed, serving: ObservedIndex, successor: ObservedIndex
) -> bool:
    """True when the planner, which sees both, takes the one that is to be replaced: to keep it would make the change vain."""
    if not _same_key(serving, successor):
        return False
    register_all_types(connection)
    vectors = sample_queries(connection, spec, observed, samples=1)
    if not vectors:
        return False
    plan = explain(
        connection,
        probe_statement(spec, observed, k=K),
        {"vector": vectors[0]},
        settings=(*probe_settings(spec, observed, k=K), *FORCED),
    )
    return bool(index_names(observed, serving) & set(plan.index_names))


def rename(work: Work, connection: Connection, step: Rename, observed: Observed) -> None:
    """An index of the declared definition gets the declared name, and is shown to the planner if it was hidden."""
    found = _named(observed, step.old)
    _in_one_transaction(
        work,
        connection,
        expected={step.new: found.oid},
        schema=step.schema,
        statements=[
            rename_statement(step.schema, step.old, step.new),
            comment_statement(step.schema, step.new, words_of_others(found.comment)),
        ],
        shown=[found.oid] if step.is_hidden else [],
    )
    record(connection, work.spec, "renamed", old=step.old)
    work.reporter.say(f"index {step.old} is as declared: it is {step.new} now")


def roll_back(work: Work, connection: Connection) -> str:
    """Swaps the serving and the previous generation without building anything; the definition that serves again.

    The definition that is taken back is noted, so that no keeper and no migration builds it again by itself. Raises
    NothingToRollBack; PermissionDenied where the previous one is hidden and the role may not show it.
    """
    spec = work.spec
    observed = observe(connection, spec)
    serving, previous = declared_index(spec, observed), previous_generation(spec, observed)
    if serving is None or previous is None:
        raise NothingToRollBack(
            f"index {spec.qualified_name} has no previous generation.",
            why="none was kept: it was never replaced, its time is over, or the planner would have preferred it.",
            next_step="declare what you want and run  everindex deploy ; it is built beside the one that serves.",
        )
    exchange_names(
        work,
        connection,
        observed,
        serving,
        previous,
        keep_until=datetime.now(UTC) + timedelta(seconds=spec.build.keep_previous_seconds),
        refused=tuple(
            digest
            for digest in (*read_note(serving.comment).refused, index_digest(serving))
            if digest != index_digest(previous)
        ),
    )
    record(connection, spec, "rolled back", serving=previous.definition, previous=serving.definition)
    return _named(observe(connection, spec), spec.name).definition


def exchange_names(
    work: Work,
    connection: Connection,
    observed: Observed,
    serving: ObservedIndex,
    successor: ObservedIndex,
    *,
    keep_until: datetime,
    refused: tuple[str, ...],
) -> None:
    """The successor gets the declared name and the serving one that of the previous, with all that goes with it, at once.

    The successor may be the previous one itself. What others have written in the comment on the serving one is said of
    its successor too, if nothing is said of that. Nothing changes when it fails.
    """
    spec, schema = work.spec, work.spec.schema
    aside, back = aside_name(spec.name), previous_name(spec.name)
    words = words_of_others(serving.comment)
    hides = _hides(observed, serving, successor)
    _in_one_transaction(
        work,
        connection,
        expected={spec.name: successor.oid, back: serving.oid},
        schema=schema,
        statements=[
            rename_statement(schema, spec.name, aside),
            rename_statement(schema, successor.name, spec.name),
            rename_statement(schema, aside, back),
            comment_statement(
                schema,
                spec.name,
                with_note(words_of_others(successor.comment) or words, serving_note(tuple(dict.fromkeys(refused)))),
            ),
            comment_statement(schema, back, with_note(words, previous_note(keep_until=keep_until, is_hidden=hides))),
        ],
        hidden=[serving.oid] if hides else [],
        shown=[successor.oid] if is_hidden(successor) else [],
    )


def _hides(observed: Observed, serving: ObservedIndex, successor: ObservedIndex) -> bool:
    """Whether the replaced generation is put out of the planner's sight: where the two compete and the role may."""
    return observed.is_superuser and _same_key(serving, successor)


def drop_generation(work: Work, connection: Connection, schema: str, name: str, *, is_partitioned: bool) -> None:
    """Drops an index online; that of a partitioned table in a moment without other transactions."""
    if is_partitioned:
        statement = drop_statement(schema, name, concurrently=False, if_exists=True)
        run_briefly(work, connection, f"dropping index {name}", statement)
    else:
        drop_online(work, connection, schema, name)


def _same_key(one: ObservedIndex, other: ObservedIndex) -> bool:
    """True when the planner would weigh the two against each other for the same statements."""
    return (one.column, one.expression, one.opclass, one.predicate) == (
        other.column,
        other.expression,
        other.opclass,
        other.predicate,
    )


def _in_one_transaction(
    work: Work,
    connection: Connection,
    *,
    expected: dict[str, int],
    schema: str,
    statements: list[sql.Composed],
    hidden: list[int] | None = None,
    shown: list[int] | None = None,
) -> None:
    """Runs the statements, tried until the deadline for its locks; PlanOutOfDate if the names then are not `expected`."""
    visibility = [(oid, False) for oid in hidden or []] + [(oid, True) for oid in shown or []]

    def check(inner: Connection) -> None:
        for name, oid in expected.items():
            row = inner.execute(
                "SELECT pg_catalog.to_regclass(%s)::oid", (sql.Identifier(schema, name).as_string(None),)
            ).fetchone()
            if row is None or row[0] != oid:
                raise out_of_date(work.spec)
        for oid, is_shown in visibility:
            inner.execute(_SHOW_OR_HIDE, {"shown": is_shown, "oid": oid})

    run_briefly(work, connection, f"renaming the generations of {work.spec.qualified_name}", *statements, then=check)


def out_of_date(spec: IndexSpec) -> PlanOutOfDate:
    """The error for a catalog that is not the one the plan was made from."""
    return PlanOutOfDate(
        f"the plan for index {spec.qualified_name} is out of date.",
        why="the table or its indexes have changed since it was made.",
        next_step="run  everindex plan  again and look at the new one; nothing was changed.",
    )


def _named(observed: Observed, name: str) -> ObservedIndex:
    for index in observed.indexes:
        if index.name == name:
            return index
    raise KeyError(name)  # a step names only what the plan has seen
