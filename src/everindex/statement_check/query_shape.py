"""Properties of a query that prevent an ordered index scan, whatever indexes exist: its ORDER BY, LIMIT and grouping.

Determined from the plan alone; `not_usable.py` verifies that the suggested change lets PostgreSQL use an index.
"""

from __future__ import annotations

import re

from everindex.statement_check.distance import Distance, shown
from everindex.statement_check.plan import below
from everindex.statement_check.prepared_check import PreparedCheck
from everindex.statement_check.reason import Reason


def shape_reasons(prepared: PreparedCheck, distance: Distance, remedy: str) -> list[Reason]:
    found: list[Reason] = []
    match distance.place:
        case "filter":
            return [
                Reason(
                    slug="threshold-without-order",
                    why=f"the distance is only in a condition ({shown(str(distance.node.facts.get('Filter', '')))[:160]}): "
                    "an index returns the nearest rows in order, not all rows within a distance.",
                    next_step=f"add ORDER BY {remedy} LIMIT k to the condition.",
                )
            ]
        case "output":
            return [
                Reason(
                    slug="not-ordered-by-distance",
                    why="the distance is computed, but the query that scans the table does not itself order by it.",
                    next_step=f"put ORDER BY {remedy} LIMIT k into that query, not around it.",
                )
            ]
        case "order":
            found += _order_reasons(prepared, distance, remedy)
    around = [node["Node Type"] for node in (*distance.node.above, *below(distance.node.facts))]
    if distance.position > 0:
        is_distinct = "Unique" in around
        found.append(
            Reason(
                slug="distinct-on" if is_distinct else "distance-not-first",
                why=("DISTINCT ON" if is_distinct else "the ORDER BY")
                + " has another key before the distance, so every row must be sorted.",
                next_step=(
                    f"select the nearest in a subquery (ORDER BY {remedy} LIMIT some hundreds), and use DISTINCT ON outside it."
                    if is_distinct
                    else f"order by the distance first: ORDER BY {remedy}, …"
                ),
            )
        )
    elif "Unique" in around or "Aggregate" in around:
        found.append(
            Reason(
                slug="grouped",
                why="DISTINCT or GROUP BY needs every row before it can return the first.",
                next_step=f"select the nearest in a subquery (ORDER BY {remedy} LIMIT k), and group outside it.",
            )
        )
    if distance.position == 0 and len(distance.node.facts["Sort Key"]) > 1 and not found:
        found.append(
            Reason(
                slug="second-key",
                why="a second key follows the distance; PostgreSQL before 17 cannot use an index for part of an ORDER BY.",
                next_step=f"ORDER BY {remedy} LIMIT k in a subquery, and by both keys outside it.",
            )
        )
    if "WindowAgg" in around:
        found.append(
            Reason(
                slug="window-function",
                why="a window function, such as count(*) OVER (), needs every row before it can return the first.",
                next_step=f"select the nearest in a subquery (ORDER BY {remedy} LIMIT k) without it; count in a separate query.",
            )
        )
    if not distance.node.has_limit_above:
        found.append(
            Reason(
                slug="no-limit",
                why="there is no LIMIT: all rows are requested, but an HNSW index returns only the nearest.",
                next_step=f"ORDER BY {remedy} LIMIT k.",
            )
        )
    return found


def _order_reasons(prepared: PreparedCheck, distance: Distance, remedy: str) -> list[Reason]:
    is_down = "DESC" in distance.ending
    found: list[Reason] = []
    operators = {operator.name for operator in prepared.extension.operators}
    if not distance.is_bare and operators & set((distance.before + distance.after).split()):
        found.append(
            Reason(
                slug="computed-from-distances",
                why=f"it orders by {shown(distance.before + distance.text + distance.after)}, which is computed from more than "
                "one distance; an index orders by a single one.",
                next_step=f"select some hundred nearest rows by each distance in a separate subquery (ORDER BY {remedy} LIMIT "
                "200, UNION), and order by the combined value outside them.",
            )
        )
    elif not distance.is_bare and _is_aggregate(distance):
        pass  # the reason about grouping covers this
    elif not distance.is_bare:
        form = shown(f"{distance.before}distance{distance.after}")
        found.append(
            Reason(
                slug="similarity-descending" if is_down else "computed-from-distance",
                why=f"it orders by {form}{' DESC' if is_down else ''}, which is computed from the distance; an index orders by "
                "the distance itself, ascending.",
                next_step=f"ORDER BY {remedy} LIMIT k, and compute {form} in the select list.",
            )
        )
    elif is_down and distance.function != "inner_product":
        found.append(
            Reason(
                slug="descending",
                why="it orders by the distance in descending order, the farthest first. An index returns the nearest first.",
                next_step=f"ORDER BY {remedy} LIMIT k, without DESC.",
            )
        )
    if "NULLS FIRST" in distance.ending and not is_down:
        found.append(
            Reason(
                slug="nulls-first",
                why="NULLS FIRST puts rows without a vector first, but they are in no index.",
                next_step=f"ORDER BY {remedy} LIMIT k, without NULLS FIRST.",
            )
        )
    return found


def _is_aggregate(distance: Distance) -> bool:
    """Whether it is the argument of an aggregate, such as min(distance)."""
    inside = [facts for facts in below(distance.node.facts) if facts["Node Type"] == "Aggregate"]
    return bool(inside) and re.search(r"\b(min|max|avg|sum)[( ]+$", distance.before) is not None


def not_of_a_table(distance: Distance) -> Reason:
    return Reason(
        slug="not-a-column-of-a-table",
        why=f"{shown(distance.text)} does not involve a column of a table: the rows come from a subquery that is computed first.",
        next_step="order and limit in the query that scans the table, not around it.",
    )
