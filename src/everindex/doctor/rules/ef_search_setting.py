"""Rule: hnsw.ef_search is set by the search itself, and has no harmful value for a role, database or server."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import made_settings
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.index.spec import DEFAULT_EF_SEARCH, EF_SEARCH_RANGE

#: From this value on, the planner stopped using the index on tables with vectors stored out of line (measured at
#: random_page_cost 4).
LARGE = 200


def check(examined: Examined) -> Iterator[RuleResult]:
    if "hnsw.ef_search" not in examined.library_settings:
        return
    made_at = made_settings(examined, ["hnsw.ef_search"])
    if not made_at:
        yield good(f"hnsw.ef_search has its default of {DEFAULT_EF_SEARCH} unless a statement sets it")
    for made in made_at:
        what = _what_is_wrong(made.value)
        if what is None:
            yield good(f"hnsw.ef_search is {made.value} {made.where}")
        else:
            yield finding(
                f"hnsw.ef_search is {made.value} {made.where}: {what}",
                fix=Fix(
                    statements=made.undo,
                    advice=made.undo_advice or "set it in the transaction of the search, to at least its LIMIT.",
                ),
            )


def _what_is_wrong(value: str) -> str | None:
    if not value.isdigit() or int(value) not in EF_SEARCH_RANGE:
        return "pgvector accepts 1 to 1000, so every session falls back to 40 with a WARNING"
    if int(value) < DEFAULT_EF_SEARCH:
        return f"without iterative scans no search returns more than {value} rows, and recall is lower"
    if int(value) > LARGE:
        return "every search is slower, and the planner may not use the index"
    return None


RULE = Rule(
    slug="ef-search-setting",
    severity="warning",
    title="hnsw.ef_search is left to the search",
    reason="it limits the rows that a search returns and determines its cost, so it belongs to the statement: SET LOCAL "
    "(pgvector README, Query Options; pgvector#716; measured: LIMIT 100 returned 40 rows).",
    check=check,
)
