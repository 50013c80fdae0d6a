"""Rule: iterative scans are on, so that filtered searches and searches with a large LIMIT return all of their rows."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_database
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import version_text


def check(examined: Examined) -> Iterator[RuleResult]:
    indexes = [index for index in examined.indexes if index.method == "hnsw" and index.is_valid]
    if not indexes:
        return
    names = examined.library_settings
    ef_search = examined.setting("hnsw.ef_search")
    mode = examined.setting("hnsw.iterative_scan") if "hnsw.iterative_scan" in names else None
    if mode is not None and mode != "off":
        yield good(f"hnsw.iterative_scan is {mode}: a search continues until it has all of its rows")
        return
    sentence = f"a search stops after ef_search = {ef_search} candidates: with a filter, or a LIMIT above that, rows are missing"
    if mode is None:
        version = version_text(examined.capabilities.extension_version)
        yield finding(
            f"{sentence}; pgvector {version} has no iterative scans",
            fix=Fix(advice="upgrade to pgvector 0.8.0 or later; until then raise hnsw.ef_search for such a search."),
        )
    else:
        yield finding(
            f"{sentence} (hnsw.iterative_scan is off, the default)",
            fix=Fix(
                statements=(set_for_database(examined.capabilities.database, "hnsw.iterative_scan", "strict_order"),),
                advice="or SET LOCAL in the transaction of the search, as everindex does for its own. A filter that no row "
                "passes then makes the search scan up to the limit (measured: 158 ms instead of 3).",
            ),
        )


RULE = Rule(
    slug="iterative-scan-off",
    severity="notice",
    title="searches continue until they have all of their rows",
    reason="a filter is applied to the candidates of the index: with a filter that 1 % of the rows pass, a search for 10 rows "
    "returned 0, and 10 with iterative scans (measured; pgvector README, Iterative Index Scans).",
    check=check,
)
