"""The explanation of a semantic search: its strategy, settings, statement and plan as it ran; never the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from everindex.articles.search.diagnostics.explain import plan_as_run
from everindex.articles.search.request.search_request import Page
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.strategy import SearchPlan
from everindex.articles.table import CollectionTable
from everindex.index.recall.explain import Explained, explain
from everindex.pg.connections import Connection
from everindex.pg.pooler import limited


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `everindex search --explain` shows."""

    search_plan: SearchPlan
    statement: str
    """With named placeholders; empty where no statement is run."""

    plan: tuple[str, ...]
    """EXPLAIN (ANALYZE, BUFFERS), without the query vector."""

    passages: Explanation | None = None
    """Of a table with whole texts: how their passages are found; what was found is shown as the rows that they belong to."""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` prints it."""
        of_passages = {} if self.passages is None else {"passages": self.passages.as_dict()}
        return of_passages | {
            "strategy": self.search_plan.strategy,
            "reason": self.search_plan.reason,
            "ef_search": self.search_plan.ef_search,
            "fetch": self.search_plan.fetch or None,
            "candidates": self.search_plan.candidates,
            "settings": dict(self.search_plan.settings),
            "statement": self.statement,
            "plan": list(self.plan),
        }


def explanation_of(
    connection: Connection,
    table: CollectionTable,
    page: Page,
    vector: np.ndarray,
    search_plan: SearchPlan,
    *,
    reported: SearchPlan,
) -> Explanation:
    """The explanation of a search by `search_plan`, which it runs; `reported` is the plan that the explanation names."""
    text, parameters = named_statement(table, page, vector, search_plan)
    plan = plan_as_run(connection, text, parameters, settings=search_plan.settings)
    return Explanation(search_plan=reported, statement=text, plan=plan)


def planned(
    connection: Connection, table: CollectionTable, page: Page, vector: np.ndarray, search_plan: SearchPlan
) -> Explained:
    """The plan that the server has for a search; does not run it."""
    text, parameters = named_statement(table, page, vector, search_plan)
    with limited(connection):
        return explain(connection, text, parameters, settings=search_plan.settings)


def named_statement(
    table: CollectionTable, page: Page, vector: np.ndarray, search_plan: SearchPlan
) -> tuple[str, dict[str, Any]]:
    """The statement with psycopg's placeholders, and its parameters."""
    composed, parameters = statement.of(table, page.request.filters, search_plan, k=page.rows)
    return composed.as_string(None), {**parameters, **page.place, "vector": vector}


def why_other(plan: Explained, name: str | None, *, is_partitioned: bool) -> str:
    """Why a search by the index `name` was not read from it alone, where its plan orders by another one."""
    if is_partitioned:
        return f"the planner reads some partitions without their part of the index {name}"
    return f"the planner uses the index {plan.ordering_indexes[0]} instead of {name}"
