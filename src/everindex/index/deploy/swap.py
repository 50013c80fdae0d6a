"""The swap: a successor takes the name of the serving index in one short transaction; rollback swaps them back.

Between two valid indexes on the same key the planner chooses by cost, which favours the smaller m or fewer pages, whatever
their names. So the generation that is kept for a rollback is hidden from the planner if the role may do that: its
`indisvalid` is switched off; writers keep it up to date, searches ignore it. If the role may not, it is kept only while the
planner prefers its successor (docs/decisions/0008).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg import sql

from everindex.errors import NothingToRollBack, PlanOutOfDate
from everindex.index.build.online import drop_online
from everindex.index.build.operation import Operation, run_briefly
from everindex.index.catalog.drift import index_digest
from everindex.index.catalog.generations import (
    Shortfall,
    previous_name,
    previous_note,
    read_note,
    serving_note,
    with_note,
    words_of_others,
)
from everindex.index.catalog.index_parts import index_names
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index, is_hidden, previous_generation
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.visibility import SHOW_OR_HIDE
from everindex.index.journal import record
from everindex.index.plan.ddl import comment_statement, drop_statement, rename_statement, swap_statements
from everindex.index.plan.steps import Rename, Swap
from everindex.index.recall.explain import FORCED, explain
from everindex.index.recall.measurement import sample_queries
from everindex.index.recall.probe import probe_settings, probe_statement
from everindex.index.spec import DEFAULT_K, IndexSpec, OnlineIndex
from everindex.pg.connections import Connection
from everindex.pg.vector_type import register_all_types


def swap(deployment: Deployment, connection: Connection, step: Swap, observed: Observed) -> None:
    """Gives the successor the declared name; the serving index becomes the previous one. Nothing changes if it fails."""
    spec = deployment.spec
    serving, successor = named(observed, step.serving), named(observed, step.successor)
    # Before the names change, so that the note already says that it is not to be kept if we die right afterwards.
    is_preferred = not _hides(observed, serving, successor) and _is_preferred(
        connection, spec, observed, serving, successor
    )
    keep_seconds = 0.0 if is_preferred else step.keep_seconds
    exchange_names(
        deployment,
        connection,
        observed,
        serving,
        successor,
        keep_until=datetime.now(UTC) + timedelta(seconds=keep_seconds),
        rejected=(),
        shortfall=deployment.shortfalls.get(successor.oid),
    )
    deployment.has_swapped = True
    deployment.rebuild_because = None
    record(connection, spec, "swapped", previous=serving.definition, serving=successor.definition)
    deployment.reporter.say(f"index {spec.qualified_name} is the new generation; the old one is {step.previous}")
    if is_preferred and step.keep_seconds > 0:
        deployment.warn(
            f"the planner prefers the previous generation {step.previous}, and only a superuser can hide it: it is "
            "dropped, so a rollback would have to rebuild it"
        )
    if keep_seconds <= 0:
        drop_generation(deployment, connection, spec.schema, step.previous, is_partitioned=serving.is_partitioned)


def _is_preferred(
    connection: Connection, spec: IndexSpec, observed: Observed, serving: ObservedIndex, successor: ObservedIndex
) -> bool:
    """True when the planner, which sees both, chooses the replaced one: keeping it would defeat the change."""
    if not _same_key(serving, successor):
        return False
    register_all_types(connection)
    vectors = sample_queries(connection, spec, observed, samples=1)
    if not vectors:
        return False
    plan = explain(
        connection,
        probe_statement(spec, observed, k=DEFAULT_K),
        {"vector": vectors[0]},
        settings=(*probe_settings(spec, observed, k=DEFAULT_K), *FORCED),
    )
    return bool(index_names(observed, serving) & set(plan.index_names))


def rename(deployment: Deployment, connection: Connection, step: Rename, observed: Observed) -> None:
    """Gives an index with the declared definition the declared name, and shows it to the planner if it was hidden."""
    found = named(observed, step.old)
    rename_together(
        deployment,
        connection,
        expected={step.new: found.oid},
        schema=step.schema,
        statements=[
            rename_statement(step.schema, step.old, step.new),
            comment_statement(step.schema, step.new, words_of_others(found.comment)),
        ],
        shown=[found.oid] if step.is_hidden else [],
    )
    record(connection, deployment.spec, "renamed", old=step.old)
    deployment.reporter.say(f"index {step.old} is as declared; renamed to {step.new}")


def roll_back(deployment: Deployment, connection: Connection) -> str:
    """Swaps the serving and the previous generation without building anything; returns the definition that serves again.

    The definition that is rolled back is recorded, so that no keeper or migration builds it again by itself. Raises
    NothingToRollBack, and PermissionDenied if the previous one is hidden and the role may not show it.
    """
    spec = deployment.spec
    observed = observe(connection, spec)
    serving, previous = declared_index(spec, observed), previous_generation(spec, observed)
    if serving is None or previous is None:
        raise NothingToRollBack(
            f"index {spec.qualified_name} has no previous generation.",
            why="it was never replaced, the retention time has passed, or the planner would have preferred the previous one.",
            next_step="declare what you want and run  everindex deploy , which builds it next to the one that serves.",
        )
    exchange_names(
        deployment,
        connection,
        observed,
        serving,
        previous,
        keep_until=datetime.now(UTC) + timedelta(seconds=spec.build.keep_previous_seconds),
        rejected=tuple(
            digest
            for digest in (*read_note(serving.comment).rejected_definitions, index_digest(serving))
            if digest != index_digest(previous)
        ),
    )
    record(connection, spec, "rolled back", serving=previous.definition, previous=serving.definition)
    return named(observe(connection, spec), spec.name).definition


def exchange_names(
    deployment: Deployment,
    connection: Connection,
    observed: Observed,
    serving: ObservedIndex,
    successor: ObservedIndex,
    *,
    keep_until: datetime,
    rejected: tuple[str, ...],
    shortfall: Shortfall | None = None,
) -> None:
    """Gives the successor the declared name and the serving index that of the previous one, with comments, in one transaction.

    The successor may be the previous one itself. The text of others in the comment on the serving index is copied to its
    successor, if that has none. Nothing changes if it fails.
    """
    spec, schema = deployment.spec, deployment.spec.schema
    back = previous_name(spec.name)
    words = words_of_others(serving.comment)
    hides = _hides(observed, serving, successor)
    rename_together(
        deployment,
        connection,
        expected={spec.name: successor.oid, back: serving.oid},
        schema=schema,
        statements=[
            *swap_statements(schema, spec.name, successor=successor.name, previous=back),
            comment_statement(
                schema,
                spec.name,
                with_note(
                    words_of_others(successor.comment) or words,
                    serving_note(tuple(dict.fromkeys(rejected)), shortfall or read_note(successor.comment).shortfall),
                ),
            ),
            comment_statement(
                schema,
                back,
                with_note(
                    words,
                    previous_note(
                        keep_until=keep_until, is_hidden=hides, shortfall=read_note(serving.comment).shortfall
                    ),
                ),
            ),
            *_words_of_partitions(observed, serving, successor),
        ],
        hidden=[serving.oid] if hides else [],
        shown=[successor.oid] if is_hidden(successor) else [],
    )


def _words_of_partitions(observed: Observed, serving: ObservedIndex, successor: ObservedIndex) -> list[sql.Composed]:
    """Copies the text of others on the index of a partition to its successor there, if that has none."""
    old, new = index_names(observed, serving), index_names(observed, successor)
    statements = []
    for part in observed.partitions:
        words = next((words_of_others(index.comment) for index in part.indexes if index.name in old), None)
        follower = next((index for index in part.indexes if index.name in new and index.comment is None), None)
        if words is not None and follower is not None:
            statements.append(comment_statement(part.schema, follower.name, words))
    return statements


def _hides(observed: Observed, serving: ObservedIndex, successor: ObservedIndex) -> bool:
    """Whether the replaced generation is hidden from the planner: when the two compete and the role may hide it."""
    return observed.is_superuser and _same_key(serving, successor)


def drop_generation(
    deployment: Deployment, connection: Connection, schema: str, name: str, *, is_partitioned: bool
) -> None:
    """Drops an index online; that of a partitioned table while no other transaction has a lock."""
    if is_partitioned:
        statement = drop_statement(schema, name, concurrently=False, if_exists=True)
        run_briefly(deployment, connection, f"dropping index {name}", statement)
    else:
        drop_online(deployment, connection, schema, name)


def _same_key(one: ObservedIndex, other: ObservedIndex) -> bool:
    """True when the planner would choose between the two for the same statements."""
    return (one.column, one.expression, one.opclass, one.predicate) == (
        other.column,
        other.expression,
        other.opclass,
        other.predicate,
    )


def rename_together(
    operation: Operation,
    connection: Connection,
    *,
    expected: dict[str, int],
    schema: str,
    statements: list[sql.Composed],
    hidden: list[int] | None = None,
    shown: list[int] | None = None,
) -> None:
    """Runs the statements, retrying for their locks until the deadline; PlanOutOfDate if the names then are not `expected`."""
    visibility = [(oid, False) for oid in hidden or []] + [(oid, True) for oid in shown or []]

    def check(inner: Connection) -> None:
        for name, oid in expected.items():
            row = inner.execute(
                "SELECT pg_catalog.to_regclass(%s)::oid", (sql.Identifier(schema, name).as_string(None),)
            ).fetchone()
            if row is None or row[0] != oid:
                raise out_of_date(operation.spec)
        for oid, is_shown in visibility:
            inner.execute(SHOW_OR_HIDE, {"shown": is_shown, "oid": oid})

    run_briefly(
        operation, connection, f"renaming the generations of {operation.spec.qualified_name}", *statements, then=check
    )


def out_of_date(spec: OnlineIndex) -> PlanOutOfDate:
    """The error for a catalog other than the one that the plan was made from."""
    return PlanOutOfDate(
        f"the plan for index {spec.qualified_name} is out of date.",
        why="the table or its indexes have changed since it was made.",
        next_step="run  everindex plan  again and look at the new one; nothing was changed.",
    )


def named(observed: Observed, name: str) -> ObservedIndex:
    for index in observed.indexes:
        if index.name == name:
            return index
    raise KeyError(name)  # a step names only indexes that the plan has observed
