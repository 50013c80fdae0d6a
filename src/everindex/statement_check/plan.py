"""A plan from EXPLAIN (FORMAT JSON, VERBOSE): a tree of scans, sorts, limits and expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Nodes that read all of their input before their first row, so that a LIMIT above does not end an index scan below.
_READS_EVERYTHING = frozenset({"Sort", "Hash", "Aggregate", "WindowAgg", "SetOp", "Memoize", "Recursive Union"})

_NUMBERING = frozenset({"row_number", "rank", "dense_rank"})
_WINDOW_FUNCTION = re.compile(r"([\w\"]+)\([^()]*\) OVER ")
_RUN_CONDITION = re.compile(r"(<=?) '?(\d+)")

Names = tuple[str, str]
"""A schema and a name in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a plan, with the nodes above it, the nearest last."""

    facts: dict[str, Any]
    above: tuple[dict[str, Any], ...]

    @property
    def kind(self) -> str:
        return str(self.facts["Node Type"])

    @property
    def relation(self) -> Names | None:
        name = self.facts.get("Relation Name")
        return (str(self.facts.get("Schema", "")), str(name)) if name else None

    @property
    def index(self) -> Names | None:
        """The index of a scan, which is in the schema of its table."""
        name = self.facts.get("Index Name")
        return (str(self.facts.get("Schema", "")), str(name)) if name else None

    @property
    def filter(self) -> str:
        return str(self.facts.get("Filter", ""))

    @property
    def rows(self) -> float:
        return float(self.facts["Plan Rows"])

    @property
    def words(self) -> str:
        kind = ("Parallel " if self.facts.get("Parallel Aware") else "") + self.kind
        if self.index:
            return f"{kind} using {self.index[1]}"
        return f"{kind} on {self.facts.get('Relation Name') or self.facts.get('CTE Name') or self.facts.get('Alias') or '?'}"

    @property
    def has_limit_above(self) -> bool:
        """Whether there is a LIMIT in this node's own query."""
        return any(node["Node Type"] == "Limit" for node in self._own_query())

    @property
    def limit(self) -> Limit | None:
        """The LIMIT that ends this node early; None if there is none, or a node in between reads everything."""
        below = self.facts
        for node in self._own_query():
            if node["Node Type"] == "Limit":
                return _limit(node)
            if node["Node Type"] == "WindowAgg" and _only_numbers_rows(node):
                bound = _RUN_CONDITION.search(str(node.get("Run Condition", "")))
                if bound:
                    return Limit(rows=int(bound.group(2)) - (bound.group(1) == "<"), offset=0)
                below = node
                continue
            is_inner = node["Node Type"] == "Nested Loop" and below.get("Parent Relationship") == "Inner"
            if node["Node Type"] in _READS_EVERYTHING or is_inner:
                return None
            below = node
        return None

    @property
    def appended(self) -> list[dict[str, Any]]:
        """The inputs that are appended to each other, as scans of partitions are, the one with this node among them; this
        node alone where nothing is appended to it below the LIMIT of its query."""
        for node in self._own_query():
            if node["Node Type"] in ("Append", "Merge Append"):
                return [child for child in node["Plans"] if child.get("Parent Relationship") == "Member"]
            if node["Node Type"] == "Limit":
                break
        return [self.facts]

    def _own_query(self) -> Iterator[dict[str, Any]]:
        """The nodes above, the nearest first, up to the query that this one is a subplan or CTE of."""
        below = self.facts
        for node in reversed(self.above):
            if "Subplan Name" in below:
                return
            yield node
            below = node


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A LIMIT as interpreted by the planner."""

    rows: int
    offset: int
    is_guessed: bool = False
    """True when it is computed at run time, so that the planner assumes a tenth of its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan from EXPLAIN."""

    root: dict[str, Any]

    @property
    def nodes(self) -> list[Node]:
        return list(_nodes(self.root, ()))

    @property
    def scans(self) -> list[Node]:
        return [node for node in self.nodes if "Scan" in node.kind and node.kind != "Subquery Scan"]

    @property
    def summary(self) -> str:
        return ", ".join(dict.fromkeys(node.words for node in self.scans)) or "no scan"

    @property
    def cost(self) -> float:
        return float(self.root["Total Cost"])

    @property
    def writes(self) -> bool:
        return any(node.kind == "ModifyTable" for node in self.nodes)

    @property
    def relations(self) -> dict[str, Names]:
        """{alias: table} of all scanned relations."""
        return {
            str(node.facts["Alias"]): node.relation for node in self.scans if node.relation and "Alias" in node.facts
        }

    def uses(self, indexes: set[Names]) -> list[Node]:
        """The scans that use one of these indexes in its order."""
        return [node for node in self.scans if node.kind in ("Index Scan", "Index Only Scan") and node.index in indexes]


def below(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node and all nodes below it."""
    yield facts
    for child in facts.get("Plans", []):
        yield from below(child)


def _nodes(facts: dict[str, Any], above: tuple[dict[str, Any], ...]) -> Iterator[Node]:
    yield Node(facts=facts, above=above)
    for child in facts.get("Plans", []):
        yield from _nodes(child, (*above, facts))


def input_of(facts: dict[str, Any]) -> dict[str, Any]:
    """The input of a node with one input; its InitPlans and SubPlans are printed before it."""
    children: list[dict[str, Any]] = facts["Plans"]
    return next((child for child in children if child.get("Parent Relationship") == "Outer"), children[-1])


def _limit(facts: dict[str, Any]) -> Limit:
    """The rows and offset of a LIMIT. EXPLAIN shows the offset only in its cost: the share of its input's run cost before the
    first row. Sources: adjust_limit_rows_costs in PostgreSQL's optimizer/util/pathnode.c, the same in 14 to 18; and
    SS_attach_initplans in optimizer/plan/subselect.c, by which the top node of a query pays for its InitPlans and CTEs too."""
    child = input_of(facts)
    beside = sum(one["Total Cost"] for one in facts["Plans"] if one.get("Parent Relationship") == "InitPlan")
    run = child["Total Cost"] - child["Startup Cost"]
    offset = 0
    if run > 0:
        offset = round((facts["Startup Cost"] - beside - child["Startup Cost"]) / run * child["Plan Rows"])
    rows = int(facts["Plan Rows"])
    # adjust_limit_rows_costs: a count or an offset that is not a constant is assumed to be a tenth of the input.
    is_guessed = beside > 0 and rows == max(1, round(child["Plan Rows"] * 0.1))
    return Limit(rows=rows, offset=max(0, offset), is_guessed=is_guessed)


def _only_numbers_rows(window: dict[str, Any]) -> bool:
    """Whether a WindowAgg returns each row as soon as it has read it; count() OVER () and others read a whole partition."""
    return not set(_WINDOW_FUNCTION.findall(" ".join(window.get("Output", [])))) - _NUMBERING
