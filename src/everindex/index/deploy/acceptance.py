"""The acceptance of a new generation: the planner can use it and its recall holds the floor, or it is rejected.

It is rejected only in favour of an index that serves the declared search: if none does, the best that could be built takes
over below its floor, and the comment on it says so (`generations.Shortfall`).
Between two valid indexes on the same key the planner chooses by cost. So the test hides all others with the same key from
the planner (visibility.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from everindex.errors import GenerationUnproven
from everindex.index.build.operation import run_briefly
from everindex.index.catalog.drift import index_digest
from everindex.index.catalog.generations import Shortfall, read_note, serving_note, with_note, words_of_others
from everindex.index.catalog.index_parts import index_names
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import answers_declared, declared_index, same_distance
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.swap import drop_generation, named
from everindex.index.deploy.visibility import competitors, dropped_for_a_moment, hidden
from everindex.index.journal import record
from everindex.index.plan.ddl import comment_statement
from everindex.index.plan.steps import Prove
from everindex.index.recall.explain import FORCED
from everindex.index.recall.history import graph_of
from everindex.index.recall.measurement import (
    Inside,
    Recall,
    Truth,
    compare,
    find_truth,
    one_transaction,
    sample_queries,
)
from everindex.index.recall.probe import probe_settings, probe_statement
from everindex.index.spec import DEFAULT_K, IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import register_all_types
from everindex.units import count_text

PROOF_QUERIES = 40
PROOF_SECONDS = 20.0


def prove(deployment: Deployment, connection: Connection, step: Prove, observed: Observed) -> None:
    """Tests that generation `step.name` is usable, and that its recall is at the floor or no worse than that of the serving one.

    Reads only, with ACCESS SHARE; ACCESS EXCLUSIVE for moments if others must be hidden by a lock. If the test fails, the new
    generation is dropped, the rejection is recorded on the serving index, and GenerationUnproven is raised.
    """
    spec = deployment.spec
    successor = named(observed, step.name)
    register_all_types(connection)
    with translate_errors("testing the new generation"):
        vectors = sample_queries(connection, spec, observed, samples=PROOF_QUERIES)
        if len(vectors) >= 2:
            truth = find_truth(connection, spec, observed, vectors, k=DEFAULT_K, max_seconds=PROOF_SECONDS)
            measured = _measure(deployment, connection, observed, successor, truth)
            if measured is None:
                _reject(deployment, connection, observed, successor, "the planner cannot use it, even when forced to")
            else:
                _judge(deployment, connection, observed, successor, measured, truth)
    deployment.proven.add(successor.oid)


def _judge(
    deployment: Deployment,
    connection: Connection,
    observed: Observed,
    successor: ObservedIndex,
    measured: Recall,
    truth: Truth,
) -> None:
    spec = deployment.spec
    text = (
        f"recall@{measured.k} of the new generation is {measured.recall:.3f} ({measured.low:.3f} to {measured.high:.3f}, "
        f"{count_text(measured.queries, 'query', 'queries')})"
    )
    record(connection, spec, "proven", recall=measured.recall, low=measured.low, queries=measured.queries)
    if measured.recall >= spec.recall_floor:
        deployment.reporter.say(text)
        return
    before = _best_that_serves(deployment, connection, observed, successor, truth)
    if before is None:
        why = "but nothing else serves the declared search, so it takes over anyway"
    elif measured.recall < before.recall:
        compared = f"that of the serving one is {before.recall:.3f}, and the floor is {spec.recall_floor:.2f}"
        _reject(deployment, connection, observed, successor, f"{text}, {compared}")
    elif deployment.rebuild_because is not None and measured.recall <= before.recall:
        _reject(deployment, connection, observed, successor, f"{text}, no better than before: a rebuild does not help")
    else:
        why = "but no worse than before"
    deployment.shortfalls[successor.oid] = Shortfall(
        generation=graph_of(connection, successor),
        k=measured.k,
        queries=measured.queries,
        recall=round(measured.recall, 4),
        low=round(measured.low, 4),
        high=round(measured.high, 4),
        floor=spec.recall_floor,
    )
    deployment.warn(f"{text}: below the floor of {spec.recall_floor:.2f}, {why}")
    deployment.reporter.say(deployment.warnings[-1])


def _best_that_serves(
    deployment: Deployment, connection: Connection, observed: Observed, successor: ObservedIndex, truth: Truth
) -> Recall | None:
    """The best recall of the other indexes, whatever their names, that serve the declared search now; None if there are none.

    An index on another column or expression, or with another method or distance, serves other searches and does not count. An
    index on all rows can also serve the searches of a partial one.
    """
    spec = deployment.spec
    found = []
    for kind in (replace(spec, opclass=opclass) for opclass in same_distance(spec)):
        if kind.opclass != spec.opclass:
            kind = replace(kind, ef_search=None, candidates=None)
        of_all_rows = replace(kind, predicate=None)
        for index in observed.indexes:
            if index.oid == successor.oid or not index.is_valid:
                continue
            if answers_declared(kind, observed, index) or answers_declared(of_all_rows, observed, index):
                found.append(_measure(deployment, connection, observed, index, truth, kind=kind))
    return max((measured for measured in found if measured is not None), key=lambda one: one.recall, default=None)


def _reject(
    deployment: Deployment, connection: Connection, observed: Observed, successor: ObservedIndex, why: str
) -> NoReturn:
    spec = deployment.spec
    serving = declared_index(spec, observed)
    if serving is not None:
        note = read_note(serving.comment)
        rejected = (*note.rejected_definitions, index_digest(successor))
        run_briefly(
            deployment,
            connection,
            "recording the rejection",
            comment_statement(
                spec.schema,
                spec.name,
                with_note(
                    words_of_others(serving.comment), serving_note(tuple(dict.fromkeys(rejected)), note.shortfall)
                ),
            ),
        )
    drop_generation(deployment, connection, spec.schema, successor.name, is_partitioned=successor.is_partitioned)
    record(connection, spec, "refused", why=why)
    raise GenerationUnproven(
        f"the new generation of index {spec.qualified_name} failed its acceptance test and was removed.",
        why=f"{why}.",
        next_step="the current index continues to serve. Change the declaration (a larger m or ef_construction), "
        "then run  everindex deploy.",
    )


def _measure(
    deployment: Deployment,
    connection: Connection,
    observed: Observed,
    index: ObservedIndex,
    truth: Truth,
    *,
    kind: IndexSpec | None = None,
) -> Recall | None:
    """Recall of one index with all others of its key hidden from the planner; None if the planner still does not use it.

    `kind`: the declaration adapted to an index of that type.
    """
    spec = kind or deployment.spec
    others = competitors(observed, index)
    inside: Inside = one_transaction
    if others:
        inside = hidden(others) if observed.is_superuser else dropped_for_a_moment(deployment, others)
    measured = compare(
        connection,
        probe_statement(spec, observed, k=DEFAULT_K + 1),
        (*probe_settings(spec, observed, k=DEFAULT_K), *FORCED),
        truth,
        names=index_names(observed, index),
        inside=inside,
    )
    return measured if isinstance(measured, Recall) else None
