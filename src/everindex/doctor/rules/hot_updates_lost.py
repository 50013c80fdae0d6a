"""Rule: updates of other columns are HOT, so that they insert nothing into the vector index."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import COUNTED_ENOUGH_SECONDS, Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import count_text, duration_text

HOT_SHARE = 0.90
#: Fewer updates say nothing about the share, and so few in a week do not matter.
ENOUGH_UPDATES = 1000
#: A fillfactor up to this leaves room for a new version of most rows of a page.
ROOMY_FILLFACTOR = 85
RECOMMENDED_FILLFACTOR = 80


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = {index.table_oid for index in examined.indexes}
    for table in (table for table in examined.heaps if table.oid in indexed):
        details = examined.table_details[table.oid]
        if details.updates < ENOUGH_UPDATES:
            seconds = examined.counted_seconds or 0.0
            sentence = (
                f"table {table.quoted} has had {count_text(details.updates, 'update')} in {duration_text(seconds)}"
            )
            if seconds < COUNTED_ENOUGH_SECONDS:
                yield unknown(f"{sentence}: too few to judge", about=table.quoted)
            else:
                yield good(f"{sentence}: too few to matter", about=table.quoted)
            continue
        share = details.hot_updates / details.updates
        sentence = (
            f"{share:.0%} of {count_text(details.updates, 'update')} of {table.quoted} left its indexes alone (HOT)"
        )
        if share >= HOT_SHARE:
            yield good(sentence, about=table.quoted)
            continue
        fillfactor = int(details.options.get("fillfactor", 100))
        is_full = fillfactor > ROOMY_FILLFACTOR
        room = "ALTER TABLE affects new pages only: rewrite the old ones at a quiet time. " if is_full else ""
        yield finding(
            f"{sentence}; each of the others inserted its vector into the graph again (fillfactor {fillfactor})",
            about=table.quoted,
            fix=Fix(
                statements=(f"ALTER TABLE {table.quoted} SET (fillfactor = {RECOMMENDED_FILLFACTOR})",)
                if is_full
                else (),
                advice=room
                + "An update of the vector, or of any indexed column, is never HOT: drop indexes on columns that "
                "change often, or move the vector to a table of its own.",
            ),
        )


RULE = Rule(
    slug="hot-updates-lost",
    severity="warning",
    title="updates of other columns do not touch the vector index",
    reason="an update that finds no room on its page writes to every index, including the graph: 3,000 of them took 6,864 ms "
    "instead of 13 ms, and 10 ms at fillfactor 50 (measured; pgvector/pgvector#875).",
    check=check,
)
