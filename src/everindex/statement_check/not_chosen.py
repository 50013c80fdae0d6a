"""Why the planner does not choose an index that could serve a statement, and what goes wrong although it does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from everindex.index.spec import DEFAULT_EF_SEARCH, MAX_EF_SEARCH
from everindex.statement_check.catalog import Table, quoted
from everindex.statement_check.distance import columns_of, distances, shown
from everindex.statement_check.plan import Limit, Node, Plan, below
from everindex.statement_check.prepared_check import PreparedCheck
from everindex.statement_check.reason import Reason
from everindex.statement_check.row_security import RowSecurity

#: The default of the session (pgvector README).
DEFAULT_MAX_SCAN_TUPLES = 20_000
#: Number of rows skipped or requested at which a plan is known to change on 20,000 rows (measured: offset 500, limit 2,000).
MANY_ROWS = 100
_NO_ITERATION = "off"
_JOIN = "of the join"


def why_not_chosen(prepared: PreparedCheck, plan: Plan, usable: Plan, tables: list[Table]) -> list[Reason]:
    """Why PostgreSQL chooses another plan although an index could serve; never empty."""
    serving = prepared.serving
    if prepared.setting("enable_indexscan") == "off":
        where = prepared.source_of("enable_indexscan")
        return [
            Reason(
                slug="index-scans-off",
                why=f"enable_indexscan is off (set by: {where}), so no index is used for an ORDER BY.",
                next_step="switch it on where it was switched off: SET, ALTER ROLE … RESET, ALTER DATABASE … RESET or "
                "postgresql.conf.",
                proven_by=_name(prepared, prepared.plan((("enable_indexscan", "on"),))),
            )
        ]
    found = _never_analyzed(tables)
    limit = next((node.limit for node in usable.uses(serving) if node.limit), None)
    costs = f"the index would cost {usable.cost:,.0f}, {plan.summary} costs {plan.cost:,.0f}"
    if limit is not None and (limit.rows > MANY_ROWS or limit.offset >= MANY_ROWS):
        found.append(
            Reason(
                slug="many-rows-asked-for",
                why=(
                    "its LIMIT is computed when it runs, and the planner assumes a tenth of the rows: "
                    if limit.is_guessed
                    else ""
                )
                + f"LIMIT {limit.rows}{f' OFFSET {limit.offset}' if limit.offset else ''} requests so many rows that a scan "
                f"seems cheaper: {costs}.",
                next_step="write LIMIT as a constant or a parameter."
                if limit.is_guessed
                else "request fewer"
                + ("; page by WHERE distance > that of the last row instead of OFFSET." if limit.offset else "."),
            )
        )
    ef_search = prepared.setting("hnsw.ef_search")
    if ef_search is not None and int(ef_search) > DEFAULT_EF_SEARCH:
        lower = prepared.plan((("hnsw.ef_search", str(DEFAULT_EF_SEARCH)),))
        if lower.uses(serving):
            found.append(
                Reason(
                    slug="ef-search-too-dear",
                    why=f"hnsw.ef_search = {ef_search} makes the index seem more expensive than a scan: {costs}.",
                    next_step=f"lower it (with {DEFAULT_EF_SEARCH} the index is used), or set the cost of random reads to that "
                    "of an SSD: random_page_cost = 1.1.",
                    proven_by=_name(prepared, lower),
                )
            )
    cheap = prepared.plan((("random_page_cost", "1.1"),))
    if cheap.uses(serving):
        found.append(
            Reason(
                slug="random-page-cost",
                why=f"random_page_cost = {prepared.setting('random_page_cost')} assumes a spinning disk for the index's reads, "
                f"and vectors stored out of line make the table look small: {costs}.",
                next_step="ALTER DATABASE … SET random_page_cost = 1.1 (any SSD).",
                proven_by=_name(prepared, cheap),
            )
        )
    others = [node for node in plan.scans if node.index and node.index not in serving]
    others += [node for node in plan.nodes if node.kind == "Bitmap Index Scan"]
    if others and not found:
        names = ", ".join(dict.fromkeys(str(node.facts["Index Name"]) for node in others))
        rows = max((node.rows for node in others), default=0.0)
        found.append(
            Reason(
                slug="another-index-is-cheaper",
                why=f"the planner reads about {rows:,.0f} rows through {names} and sorts them, which is exact: {costs}.",
                next_step="nothing, if so few rows match for every value that is searched for; check with the value that "
                "matches most rows.",
            )
        )
    return found or [
        Reason(
            slug="scan-seems-cheaper",
            why=f"the index can serve it, but a scan seems cheaper to the planner: {costs}.",
            next_step="SET LOCAL enable_seqscan = off in the transaction that searches, after comparing both times with "
            "EXPLAIN (ANALYZE, BUFFERS).",
            proven_by=_name(prepared, prepared.plan((("enable_seqscan", "off"),))),
        )
    ]


def warnings(prepared: PreparedCheck, plan: Plan, *, is_chosen: bool, tables: list[Table]) -> list[Reason]:
    """What goes wrong although the index serves: fewer rows than requested, another plan later. `plan` uses the index."""
    found: list[Reason] = []
    for walks in _walks(prepared, plan, tables):
        found += _row_warnings(prepared, walks)
    if is_chosen:
        generic = prepared.generic_plan()
        if generic is not None and not generic.uses(prepared.serving):
            found.append(
                Reason(
                    slug="generic-plan",
                    why=f"the generic plan is {generic.summary}: with LIMIT as a parameter the planner expects a "
                    "tenth of the table, and a partial index needs its constant.",
                    next_step="write LIMIT and the key of a partial index as literals, or SET plan_cache_mode = "
                    "force_custom_plan.",
                )
            )
        found += _never_analyzed(tables)
    return list(dict.fromkeys(found))


def _never_analyzed(tables: list[Table]) -> list[Reason]:
    return [
        Reason(
            slug="never-analyzed",
            why=f"{table.names[1]} was never analyzed: the planner guesses its size.",
            next_step=f"ANALYZE {quoted(*table.names)}, then check again.",
        )
        for table in tables
        if not table.is_analyzed
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walks:
    """The scans of an index below one LIMIT: one, or one for each partition, whose rows are merged."""

    nodes: tuple[Node, ...]
    tables: list[Table]
    rows_of_others: float
    """Rows of partitions that are read by other means, which return all rows that pass."""

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def rows(self) -> int:
        """The rows of all scanned graphs."""
        return sum(_rows_and_share(node, self.tables)[0] for node in self.nodes)

    def found(self, most: int) -> float:
        """The rows found if each scan finds `most`, before any condition."""
        return sum(min(most, _rows_and_share(node, self.tables)[0]) for node in self.nodes) + self.rows_of_others

    def passing(self, most: int, security: RowSecurity | None = None) -> float:
        """How many of these pass the conditions, and the policy of row security."""
        shares = [_rows_and_share(node, self.tables)[1] for node in self.nodes]
        if security is not None:
            shares = [_passing(security, self.tables, share)[2] for share in shares]
        return sum(most * share for share in shares) + self.rows_of_others

    def found_words(self, most: int) -> str:
        if len(self.nodes) == 1:
            return f"the {most} rows that one scan finds"
        return f"the {most} rows that each of {len(self.nodes)} scans finds"


def _walks(prepared: PreparedCheck, plan: Plan, tables: list[Table]) -> list[_Walks]:
    groups: list[_Walks] = []
    used = plan.uses(prepared.serving)
    while used:
        inputs = used[0].appended
        walked = {id(facts) for one in inputs for facts in below(one)}
        nodes = tuple(node for node in used if id(node.facts) in walked)
        scanned = {id(node.facts) for node in nodes}
        others = [one for one in inputs if not any(id(facts) in scanned for facts in below(one))]
        groups.append(_Walks(nodes=nodes, tables=tables, rows_of_others=sum(float(one["Plan Rows"]) for one in others)))
        used = [node for node in used if id(node.facts) not in scanned]
    return groups


def _row_warnings(prepared: PreparedCheck, walks: _Walks) -> list[Reason]:
    node = walks.first
    index = next(index for index in prepared.indexes if index.names == node.index)
    if index.method != "hnsw":
        return []
    ef_search = int(prepared.setting("hnsw.ef_search") or DEFAULT_EF_SEARCH)
    iteration = prepared.setting("hnsw.iterative_scan")
    limit = node.limit
    found: list[Reason] = []
    if limit is None:
        return [
            Reason(
                slug="no-limit",
                why=f"no LIMIT ends the scan of {index.name}: without an iterative scan it returns only about "
                f"hnsw.ef_search = {ef_search} rows, and a count includes only these.",
                next_step="ORDER BY … LIMIT k in the query that scans the table, below window functions and GROUP BY.",
            )
        ]
    if iteration in (None, _NO_ITERATION):
        found += _without_iteration(prepared, walks, limit, ef_search, can_iterate=iteration is not None)
    else:
        found += _ended_early(prepared, walks, limit)
    if iteration == "relaxed_order" and node.above and not any(a["Node Type"] == "Sort" for a in node.above):
        found.append(
            Reason(
                slug="relaxed-order",
                why="hnsw.iterative_scan = relaxed_order returns rows not quite in order, and the plan does not sort them.",
                next_step="put the statement into WITH … AS MATERIALIZED, and ORDER BY distance + 0 outside it.",
            )
        )
    if limit.offset >= MANY_ROWS:
        found.append(
            Reason(
                slug="large-offset",
                why=f"OFFSET {limit.offset} must find all the rows that it skips; with a larger one the plan becomes a scan.",
                next_step="page by WHERE distance > that of the last row, and stop after some pages.",
            )
        )
    return found


def _without_iteration(
    prepared: PreparedCheck, walks: _Walks, limit: Limit, ef_search: int, *, can_iterate: bool
) -> list[Reason]:
    """Warnings for scans that are not iterative: each finds ef_search rows per graph, and conditions are applied afterwards. Each
    partition has its own graph."""
    iterate = "SET LOCAL hnsw.iterative_scan = strict_order" if can_iterate else "pgvector 0.8 and its iterative scan"
    found: list[Reason] = []
    wanted = limit.rows + limit.offset
    available = walks.found(ef_search)
    if wanted > available and walks.rows + walks.rows_of_others > available and not limit.is_guessed:
        finds = (
            f"one scan finds only hnsw.ef_search = {ef_search}"
            if len(walks.nodes) == 1
            else f"scans of {len(walks.nodes)} partitions find {walks.found(ef_search) - walks.rows_of_others:.0f}, "
            f"hnsw.ef_search = {ef_search} each"
        )
        if walks.rows_of_others:
            finds += f", in addition to {walks.rows_of_others:.0f} rows read without an index"
        enough = max(wanted, DEFAULT_EF_SEARCH)
        found.append(
            Reason(
                slug="limit-above-ef-search",
                why=f"{wanted} rows are requested, but {finds}: fewer are returned.",
                next_step=(
                    f"SET LOCAL hnsw.ef_search = {enough}, or {iterate}." if enough <= MAX_EF_SEARCH else f"{iterate}."
                ),
            )
        )
    condition = _condition(prepared, walks.first)
    remaining = walks.passing(ef_search)
    secured = _row_security(prepared, walks, limit, ef_search, iterate=iterate)
    if secured is not None:
        found.append(secured)
    elif condition and (condition == _JOIN or remaining < limit.rows):
        found.append(
            Reason(
                slug="filter-after-index",
                why=f"the condition {condition} is applied to {walks.found_words(ef_search)}"
                + ("." if condition == _JOIN else f": about {remaining:.0f} remain of the {limit.rows} requested."),
                next_step=f"{iterate}, or build a partial index for that condition.",
            )
        )
    return found


def _row_security(
    prepared: PreparedCheck, walks: _Walks, limit: Limit, ef_search: int, *, iterate: str
) -> Reason | None:
    """A warning if row security leaves fewer rows of the scans than requested."""
    security = next((one for one in prepared.row_security if one.applies), None)
    if security is None or not walks.first.filter:
        return None
    rows, passing, share = _passing(security, walks.tables, _rows_and_share(walks.first, walks.tables)[1])
    remaining = walks.passing(ef_search, security)
    if remaining >= limit.rows:
        return None
    seen = f"{passing:,} of {rows:,} rows pass" if passing is not None else f"about {share:.1%} of the rows pass"
    unset = [name for name in security.settings if not prepared.setting(name)]
    return Reason(
        slug="row-security",
        why=f"{security.words} is a filter that is applied to role {security.role} after the index: {seen}, so of "
        f"{walks.found_words(ef_search)} about {remaining:.0f} remain of the {limit.rows} requested."
        + (f" It reads {', '.join(unset)}, which is not set here." if unset else ""),
        next_step="partition the table by the column that the policy compares, or build a partial index and write its condition "
        f"into the statement as a constant in addition to the policy; for now: {iterate}.",
        proven_by=_name(prepared, prepared.plan((("hnsw.iterative_scan", "strict_order"),)))
        if "LOCAL" in iterate
        else None,
    )


def _ended_early(prepared: PreparedCheck, walks: _Walks, limit: Limit) -> list[Reason]:
    """A warning for an iterative scan, which ends after hnsw.max_scan_tuples rows and returns those of them that pass."""
    most = int(prepared.setting("hnsw.max_scan_tuples") or DEFAULT_MAX_SCAN_TUPLES)
    security = next((one for one in prepared.row_security if one.applies and walks.first.filter), None)
    rows = walks.rows
    share = min(1.0, (walks.passing(most, security) - walks.rows_of_others) / (most * len(walks.nodes)))
    reached = walks.found(most) - walks.rows_of_others
    come_back = reached * share + walks.rows_of_others
    wanted = limit.rows + limit.offset
    condition = _condition(prepared, walks.first)
    if not rows > reached or condition in (None, _JOIN) or limit.is_guessed or come_back >= wanted:
        return []
    ends = f"hnsw.max_scan_tuples = {most:,} of {rows:,} rows"
    if len(walks.nodes) > 1:
        ends = f"hnsw.max_scan_tuples = {most:,} rows in each of {len(walks.nodes)} partitions, which have {rows:,}"
    # Twice the average need, because the rows that pass are not distributed evenly. More than all rows means no limit.
    enough = min(rows, math.ceil(2 * wanted / share)) if share * rows >= wanted else rows
    return [
        Reason(
            slug="scan-ends-early",
            why=f"an iterative scan ends after {ends}, and about {share:.2%} of them "
            f"pass {condition}: about {come_back:.0f} of {min(wanted, round(share * rows + walks.rows_of_others))} are returned.",
            next_step=f"build a partial index for that condition, or an ordinary index on the column that it compares, which "
            f"reads about {share * rows:,.0f} rows; or SET LOCAL hnsw.max_scan_tuples = {enough}, and raise "
            "hnsw.scan_mem_multiplier if its memory (work_mem) is used up before.",
        )
    ]


def _rows_and_share(node: Node, tables: list[Table]) -> tuple[int, float]:
    """The rows of the relation that a node scans, and the share of them that it returns."""
    rows = next((table.rows_of(node.relation) for table in tables if table.has(node.relation)), 0)
    return rows, min(1.0, node.rows / rows) if rows else 1.0


def _passing(security: RowSecurity, tables: list[Table], share: float) -> tuple[int, int | None, float]:
    """The rows of a policy's table, those that the role sees, and the share that passes (`share`: the planner's estimate)."""
    rows, passing = next(((one.rows, one.passing) for one in tables if one.names == security.table), (0, None))
    return rows, passing, min(share, passing / rows) if passing is not None and rows else share


def _condition(prepared: PreparedCheck, node: Node) -> str | None:
    """The condition that rows must pass after the index; a bound on the distance itself does not count, as it is intended."""
    alone = Plan(root={**node.facts, "Plans": []})
    aliases = {str(node.facts.get("Alias"))}
    in_filter = [distance for distance in distances(alone, prepared.extension.operators) if distance.place == "filter"]
    if node.filter and not (in_filter and len(columns_of(node.filter, aliases)) == len(in_filter)):
        return shown(node.filter)[:160]
    for facts in reversed(node.above):
        if facts["Node Type"] in ("Nested Loop", "Hash Join", "Merge Join") and facts.get("Join Type") in (
            "Inner",
            "Semi",
        ):
            return _JOIN
        if facts["Node Type"] == "Limit":
            break
    return None


def _name(prepared: PreparedCheck, plan: Plan) -> str | None:
    return next((str(node.index[1]) for node in plan.uses(prepared.serving) if node.index), None)
