"""The recall of an application's own statement: executed with the index and without it, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everindex.errors import StatementNotCheckable
from everindex.index.recall.measurement import TIE, wilson
from everindex.statement_check import catalog
from everindex.statement_check.connection import CallerConnection, Refused
from everindex.statement_check.plan import Plan
from everindex.statement_check.prepared_check import PreparedCheck, error_of, prepared
from everindex.statement_check.script import one_checkable
from everindex.statement_check.text import Statement
from everindex.statement_check.values import Given, called
from everindex.units import count_text

#: A vector index supports only plain index scans (pgvector: no bitmap, no index-only scan); key lookups of joins remain fast
#: through bitmaps.
EXACT = (
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
    # The application's session may have switched these off to get the index.
    ("enable_seqscan", "on"),
    ("enable_sort", "on"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRecall:
    """A measured recall@k with its 95 % confidence interval (Wilson, on all requested rows)."""

    recall: float
    low: float
    high: float
    k: int
    queries: int
    compared_by: str
    """`distance` if the statement returns the distance that it orders by; otherwise `row`."""

    plan: str

    @property
    def sentence(self) -> str:
        return (
            f"recall@{self.k} {self.recall:.3f} ({self.low:.3f} to {self.high:.3f}), "
            f"{count_text(self.queries, 'query', 'queries')}, compared by "
            f"{self.compared_by}: {self.plan}"
        )


def measure_statement_recall(
    connection: Any,
    statement: str | Statement,
    parameters: Given = None,
    *,
    k: int = 10,
    samples: int = 20,
    settings: Mapping[str, Any] | None = None,
    role: str | None = None,
) -> StatementRecall:
    """Runs a SELECT with and without index scans, and compares the first k rows.

    A vector parameter without a value takes the vectors of `samples` stored rows in turn; if all values are given, a single
    query is run. The nearest row, usually the stored row itself, does not count if both sides return it. Two distances that
    differ by less than 1e-6 are a tie. READ ONLY and rolled back; the exact side reads every vector, `samples` times. Raises
    StatementNotCheckable if the statement does not use a vector index, or the exact side does.
    """
    caller = CallerConnection(connection)
    wanted = one_checkable(statement) if isinstance(statement, str) else statement
    with prepared(caller, wanted, parameters, settings=settings or {}, role=role, samples=samples) as found:
        try:
            return _measure(found, k)
        except Refused as exc:
            raise error_of(exc, wanted) from exc.error


def _measure(found: PreparedCheck, k: int) -> StatementRecall:
    plan, exact = found.plan(), found.plan(EXACT)
    if not plan.uses(found.serving):
        raise StatementNotCheckable(
            f"the recall of {called(found.statement)} cannot be measured: it uses no vector index.",
            why=f"PostgreSQL plans {plan.summary}; a scan would be compared with a scan.",
            next_step="find out why with assert_uses_vector_index or `everindex check`.",
        )
    if exact.uses(found.serving):
        raise StatementNotCheckable(
            f"the recall of {called(found.statement)} cannot be measured: the exact side would not be exact.",
            why=f"PostgreSQL plans it with {exact.summary}, although index scans are off.",
            next_step="check a statement with one ORDER BY … LIMIT, by a column of a table.",
        )
    column = _distance_column(found, plan)
    hits = total = 0
    for vectors in found.samples or (found.values,):
        truth = found.execute(vectors, EXACT)[:k]
        if truth and column is not None and column >= len(truth[0]):
            column = None  # it is in the plan only for sorting, and the statement does not return it
        answer = found.execute(vectors)[:k]
        of_these, among = (
            _by_row(truth, answer)
            if column is None
            else _by_distance([r[column] for r in truth], [r[column] for r in answer])
        )
        hits, total = hits + of_these, total + among
    if total == 0:
        raise StatementNotCheckable(
            f"the recall of {called(found.statement)} cannot be measured: it returns no row to compare.",
            why="the exact side has at most one row for every vector that was tried.",
            next_step="use parameters that match rows, on a database that has some.",
        )
    low, high = wilson(hits, total)
    return StatementRecall(
        recall=hits / total,
        low=low,
        high=high,
        k=k,
        queries=len(found.samples or (found.values,)),
        compared_by="row" if column is None else "distance",
        plan=plan.summary,
    )


def _distance_column(found: PreparedCheck, plan: Plan) -> int | None:
    """The output column that is the distance by which the rows are ordered, as far as the plan shows."""
    aliases = [str(node.facts["Alias"]) for node in plan.scans if "Alias" in node.facts]

    def plain(text: str) -> str:
        for alias in aliases:  # a plan with one table prints them only in some places
            text = text.replace(f"{alias}.", "").replace(f"{catalog.quoted(alias)}.", "")
        return text.strip("()")

    ordered = {plain(str(node.facts["Order By"])) for node in plan.uses(found.serving) if "Order By" in node.facts}
    outputs = [plain(output) for output in plan.root.get("Output", [])]
    return next((number for number, output in enumerate(outputs) if output in ordered), None)


def _by_distance(truth: list[Any], answer: list[Any]) -> tuple[int, int]:
    true, given = sorted(map(float, truth)), sorted(map(float, answer))
    if true and given and abs(true[0] - given[0]) <= TIE:
        true, given = true[1:], given[1:]
    if not true:
        return 0, 0
    return min(len(true), sum(distance <= true[-1] + TIE for distance in given)), len(true)


def _by_row(truth: list[tuple[Any, ...]], answer: list[tuple[Any, ...]]) -> tuple[int, int]:
    true, given = [repr(row) for row in truth], [repr(row) for row in answer]
    if true and true[0] in given:
        given.remove(true[0])
        true = true[1:]
    hits = 0
    for row in true:
        if row in given:
            given.remove(row)
            hits += 1
    return hits, len(true)
