"""Is a new generation fit to take over? The planner can use it, and it finds what it must; otherwise it is refused.

Two valid indexes on the same key leave the choice to the planner's costs. So, for the proof, all others of the same key
are out of the planner's sight (sight.py).
"""

from __future__ import annotations

from typing import NoReturn

from everindex.errors import GenerationUnproven
from everindex.index.catalog import Observed, ObservedIndex
from everindex.index.drift import declared_index, index_digest
from everindex.index.generations import read_note, serving_note, with_note, words_of_others
from everindex.index.journal import record
from everindex.index.key import is_key
from everindex.index.probe import index_names, probe_settings, probe_statement
from everindex.index.promote import K, drop_generation, named
from everindex.index.recall import Inside, Recall, Truth, compare, find_truth, one_transaction, sample_queries
from everindex.index.sight import competitors, dropped_for_a_moment, hidden
from everindex.index.statements import comment_statement
from everindex.index.steps import Prove
from everindex.index.verify import FORCED
from everindex.index.work import Work, run_briefly
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours
from everindex.pg.vector_type import register_all_types

PROOF_QUERIES = 40
PROOF_SECONDS = 20.0


def prove(work: Work, connection: Connection, step: Prove, observed: Observed) -> None:
    """The generation `step.name` is usable, and its recall is at the floor or no worse than the one that serves.

    Reads only, and ACCESS SHARE; ACCESS EXCLUSIVE for moments where others are hidden by a lock. Otherwise the new one
    is dropped, the refusal is noted on the serving index, and GenerationUnproven is raised.
    """
    spec = work.spec
    successor = named(observed, step.name)
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
    others = competitors(observed, index)
    # The declaration's own statement asks its own key; a generation of another key cannot answer it.
    if index.opclass != spec.opclass or not is_key(spec, observed, column=index.column, expression=index.expression):
        return None
    inside: Inside = one_transaction
    if others:
        inside = hidden(others) if observed.is_superuser else dropped_for_a_moment(work, others)
    measured = compare(
        connection,
        probe_statement(spec, observed, k=K + 1),
        (*probe_settings(spec, observed, k=K), *FORCED),
        truth,
        names=index_names(observed, index),
        inside=inside,
    )
    return measured if isinstance(measured, Recall) else None
