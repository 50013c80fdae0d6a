"""The verification of an index by three proofs: valid and as declared, usable by the planner, and accurate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from psycopg import sql

from everindex.errors import EverindexError
from everindex.index.catalog.drift import differences
from everindex.index.catalog.index_parts import names_of, size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index
from everindex.index.catalog.set_aside import aside_words
from everindex.index.plan.other_indexes import Beside, indexes_beside
from everindex.index.plan.partitions import broken_words, drifted_parts
from everindex.index.plan.preconditions import check_column
from everindex.index.recall.by_source import measure_by_source, worst_of
from everindex.index.recall.explain import FORCED, NAMED, SMALL_TABLE_ROWS, Explained, Settings, explain
from everindex.index.recall.measurement import IndexUnused, sample_queries
from everindex.index.recall.probe import probe_settings, probe_statement
from everindex.index.recall.proof import Proof, ProofName, fails
from everindex.index.recall.query_sample import NO_SEARCH_QUERIES, STORED_ROWS, SearchQueries
from everindex.index.recall.shortfall import SHORTFALL_NEXT, shortfall_sentence, standing_shortfall
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.vector_type import register_all_types
from everindex.units import count_text, size_text


def prove_index(connection: Connection, spec: IndexSpec) -> tuple[Proof, Observed]:
    """Proves that the index exists, is valid and as declared. Reads only."""
    observed = observe(connection, spec)
    found = declared_index(spec, observed)
    remedy = "run  everindex heal : it builds a missing index and rebuilds an INVALID one."
    if found is None:
        try:
            check_column(spec, observed)
        except EverindexError as exc:
            return fails(
                "index",
                f"index {spec.name} does not exist: {exc.what.rstrip('.')}; {exc.why.rstrip('.')}",
                exc.next_step,
            ), observed
        aside = aside_words(connection, spec)
        if aside is not None:
            return fails("index", *aside), observed
        return fails("index", f"index {spec.name} does not exist", remedy), observed
    if not found.is_valid and found.builder_pid is not None:
        return fails("index", f"index {spec.name} is being built by pid {found.builder_pid}", "wait for it."), observed
    if not found.is_valid:
        return fails("index", f"index {spec.name} is INVALID: an interrupted build left it", remedy), observed
    drift = differences(spec, observed, found)
    if drift:
        sentence = f"index {spec.name} is not as declared: {'; '.join(drift)}"
        return fails(
            "index", sentence, "run  everindex plan  and  everindex deploy , or change the declaration."
        ), observed
    broken = broken_words(observed, found)
    if broken is not None:
        return fails("index", f"index {spec.name} is incomplete: {broken}", remedy), observed
    sentence = (
        f"index {spec.name} exists, is valid and as declared (hnsw, {spec.opclass}, m = {found.m}, "
        f"ef_construction = {found.ef_construction}, {size_text(size_of(observed, found))}{_rows_of(found)})"
    )
    beside = indexes_beside(spec, observed)
    parts = drifted_parts(spec, observed, found)[:3]  # as many as fit into a sentence
    return Proof(
        name="index",
        holds=True,
        sentence="; ".join([sentence, *(other.sentence for other in beside), *(told for told, _ in parts)]),
        next_step=" ".join([*(other.advice for other in beside), *(advice for _, advice in parts)]) or None,
    ), observed


def _rows_of(found: ObservedIndex) -> str:
    """Of a partial index: which rows it holds."""
    return "" if found.predicate is None else f", where {found.predicate}"


def prove_planner(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    *,
    statement: sql.Composed,
    parameters: Mapping[str, Any],
    settings: Settings,
    rows: int,
) -> Proof:
    """Proves that the planner uses the index for the application's own `statement` under its own `settings`.

    On a table with fewer than SMALL_TABLE_ROWS rows it may rightly not use it; then the proof is that it could.
    """
    names = names_of(spec, observed)
    chosen = explain(connection, statement, parameters, settings=settings)
    switched_off = _where_switched_off(connection)
    if switched_off is not None:
        # This application's searches may still work, since they switch sequential scans off too; other statements do not.
        return fails(
            "planner",
            f"enable_indexscan is off (set by: {switched_off}); the application's search is planned as {chosen.summary}",
            "reset it where it was set: ALTER DATABASE or ALTER ROLE ... RESET enable_indexscan, or postgresql.conf.",
        )
    if observed.is_partitioned and names & set(chosen.index_names) and _beside(chosen, names):
        return _prove_parts(connection, observed, chosen, names, statement, parameters, settings)
    if names & set(chosen.index_names):
        return Proof(
            name="planner", holds=True, sentence=f"the planner uses it for the application's search: {chosen.summary}"
        )
    forced = explain(connection, statement, parameters, settings=(*settings, *FORCED))
    unusable = _beside(forced, names) if observed.is_partitioned else ()
    if rows < SMALL_TABLE_ROWS and names & set(forced.index_names) and not unusable:
        return Proof(
            name="planner",
            holds=True,
            sentence=f"the planner rightly reads all of {count_text(rows, 'row')} ({chosen.summary}); the index "
            f"is usable: {forced.summary}",
        )
    rival = _rival(spec, observed, (*chosen.index_names, *forced.index_names))
    if rival is not None:
        return fails(
            "planner",
            f"the planner uses another index: {chosen.summary if rival.names & set(chosen.index_names) else forced.summary}; "
            f"{rival.sentence}",
            f"{rival.advice}  Then the planner has only the declared one to choose.",
        )
    able = "though it could be used" if names & set(forced.index_names) else "and cannot use it at all"
    if unusable:
        able = f"and cannot use it on {unusable[0][0]}"
    return fails(
        "planner",
        f"the planner does not use it: {chosen.summary}, {able}",
        "run ANALYZE on the table, then verify again; if the plan stays the same, the planner's cost settings are the reason.",
    )


def _beside(plan: Explained, names: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """The tables that are read by other means than an index of `names`, with the number of rows that the planner expects."""
    return tuple((table, rows) for table, index, rows in plan.reads if index not in names)


def _prove_parts(
    connection: Connection,
    observed: Observed,
    chosen: Explained,
    names: frozenset[str],
    statement: sql.Composed,
    parameters: Mapping[str, Any],
    settings: Settings,
) -> Proof:
    """Proof for partitions of which some use the index and some are read in full, which is right if these are small and could
    be searched through it."""
    forced = explain(connection, statement, parameters, settings=(*settings, *FORCED))
    unusable = dict(_beside(forced, names))
    beside = _beside(chosen, names)
    known = {part.table: part.estimated_rows for part in observed.partitions}
    for table, planned_rows in beside:
        rows = max(planned_rows, known.get(table, 0))
        if table in unusable:
            return fails(
                "planner",
                f"every search reads partition {table} in full (about {count_text(rows, 'row')}), and cannot use "
                "the index there: "
                f"{chosen.summary}",
                "run  everindex doctor , which says what that partition lacks; a foreign table cannot have an index: detach it.",
            )
        if rows >= SMALL_TABLE_ROWS:
            return fails(
                "planner",
                f"the planner reads partition {table} in full (about {count_text(rows, 'row')}), though it could use the index: "
                f"{chosen.summary}",
                f"run ANALYZE on {table}, then verify again; if the plan stays the same, the planner's cost settings are the "
                "reason.",
            )
    small = ", ".join(table for table, _ in beside[:NAMED]) + ("…" if len(beside) > NAMED else "")
    return Proof(
        name="planner",
        holds=True,
        sentence=f"the planner uses it for the application's search ({chosen.summary}); it rightly reads all of {small}, "
        "where the index is usable",
    )


def _rival(spec: IndexSpec, observed: Observed, taken: Sequence[str]) -> Beside | None:
    """The other index for the same searches that a plan uses."""
    return next((other for other in indexes_beside(spec, observed) if other.names & set(taken)), None)


def _where_switched_off(connection: Connection) -> str | None:
    """The source of enable_indexscan = off, in PostgreSQL's terms ("database", "user"); None while it is on."""
    row = connection.execute(
        "SELECT source FROM pg_catalog.pg_settings WHERE name = 'enable_indexscan' AND setting = 'off'"
    ).fetchone()
    return None if row is None else str(row[0])


def prove_recall(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    *,
    statement: sql.Composed,
    settings: Settings,
    floor: float,
    k: int = 10,
    samples: int = 50,
    max_seconds: float = 10.0,
    search_queries: SearchQueries = NO_SEARCH_QUERIES,
    on_query: Callable[[int, int], None] | None = None,
) -> Proof:
    """Proves that recall@k is at or above `floor`, for rows sampled from the table and for each source of `search_queries`; the
    worst of them decides. The planner is forced to use the index, so that the index is measured."""
    measured = measure_by_source(
        connection,
        spec,
        observed,
        statement=statement,
        settings=(*settings, *FORCED),
        names=names_of(spec, observed),
        search_queries=search_queries,
        k=k,
        samples=samples,
        max_seconds=max_seconds,
        on_query=on_query,
    )
    if measured is None:
        sentence = "recall is not measured: fewer than two rows have a vector"
        return Proof(name="recall", holds=True, is_checked=False, sentence=sentence)
    if isinstance(measured, IndexUnused):
        return fails(
            "recall",
            f"recall was not measured: even when forced to, the planner does not use the index ({measured.plan})",
            "see the planner proof.",
        )
    worst = worst_of(measured, floor=floor)
    others = [one for one in measured if one is not worst]
    text = f"recall@{k} is {worst.words}, floor {floor:.2f}" + "".join(f"; {one.words}" for one in others)
    proof = Proof(
        name="recall",
        holds=True,
        sentence=text + "".join(f"; not tried: {why}" for why in search_queries.not_tried),
        recall=worst.recall,
        by_source=tuple(measured),
        not_tried=search_queries.not_tried,
    )
    if not worst.is_below(floor):
        return proof
    if worst.source != STORED_ROWS and not measured[0].is_below(floor):
        next_step = (
            "the index finds stored rows, but not the neighbours of these queries: see  everindex doctor  (vectors of several "
            "models in one column lie far apart), then raise ef_search;  everindex tune  shows the effect."
        )
    elif standing_shortfall(connection, spec, observed) is not None:
        next_step = f"{SHORTFALL_NEXT}; it was no better when it was built."
    else:
        next_step = (
            "raise ef_search for your searches; if the table has changed a lot, REINDEX INDEX CONCURRENTLY the index."
        )
    return replace(proof, holds=False, next_step=next_step)


def note_of_shortfall(connection: Connection, spec: IndexSpec, observed: Observed) -> tuple[Proof, ...]:
    """A proof from the catalog, without a measurement, that the index serves below its floor; empty if there is no such note."""
    noted = standing_shortfall(connection, spec, observed)
    if noted is None:
        return ()
    return (fails("recall", shortfall_sentence(spec, noted), f"{SHORTFALL_NEXT}."),)


def prove_all(
    connection: Connection, spec: IndexSpec, *, samples: int = 50, max_seconds: float = 10.0
) -> tuple[Proof, ...]:
    """The three proofs for any declared index, with the simplest statement that uses it. For an application's own statements
    see `everindex check`. Reads only."""
    index, observed = prove_index(connection, spec)
    if not index.holds:
        why = "the index does not serve"
        return index, not_checked("planner", why), not_checked("recall", why)
    register_all_types(connection)
    k = 10
    vectors = sample_queries(connection, spec, observed, samples=1)
    if not vectors:
        why = "no row has a vector"
        return index, _nothing_to_ask("planner", why), _nothing_to_ask("recall", why)
    settings = probe_settings(spec, observed, k=k)
    planner = prove_planner(
        connection,
        spec,
        observed,
        statement=probe_statement(spec, observed, k=k),
        parameters={"vector": vectors[0]},
        settings=settings,
        rows=observed.estimated_rows,
    )
    recall = prove_recall(
        connection,
        spec,
        observed,
        statement=probe_statement(spec, observed, k=k + 1),
        settings=settings,
        floor=spec.recall_floor,
        k=k,
        samples=samples,
        max_seconds=max_seconds,
    )
    return index, planner, recall


def _nothing_to_ask(name: ProofName, why: str) -> Proof:
    return Proof(name=name, holds=True, sentence=f"{name}: nothing to examine yet, {why}")


def not_checked(name: ProofName, why: str) -> Proof:
    """A proof that is skipped because an earlier one failed."""
    return Proof(name=name, holds=None, sentence=f"{name} was not examined: {why}")
