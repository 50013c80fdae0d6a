"""What operators see of an index beside its state: its history, its place in memory, slow searches and settings of the process.

Read at limited cost and cached with the report of the index. Running builds are not part of it: they are read for each request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from everindex.articles.instance import Instance
from everindex.articles.search.diagnostics.slow_log import SlowSearch, slow_searches
from everindex.articles.searchable import Searchable
from everindex.index.activity.cached_share import CachedShare, read_cached_share
from everindex.index.activity.size_history import IndexSize, size_over_time
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.index_parts import index_parts, size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import serving_spec
from everindex.index.journal import Entry, entries
from everindex.index.recall.over_time import RecallSpan, recall_over_time
from everindex.shown_settings import ShownSetting, shown_settings
from everindex.units import size_text
from everindex.web.reports.time_chart import Sample, TimeChart, draw

#: Lines of the journal that the page shows.
JOURNAL_LINES = 50
#: Rows of the table beside a chart of sizes.
MOST_SIZES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsReport:
    """The further contents of the page /index and of GET /api/index."""

    journal: list[Entry]
    """Newest first."""

    recall: list[RecallSpan]
    recall_chart: TimeChart | None
    sizes: list[IndexSize]
    size_chart: TimeChart | None
    rows_chart: TimeChart | None
    memory: CachedShare | None
    """None where no index serves."""

    slow: list[SlowSearch]
    settings: list[ShownSetting]

    def as_dict(self, *, with_settings: bool) -> dict[str, Any]:
        """As JSON, without the drawings; the settings are for operators."""
        shown = {
            name: _plain(value)
            for name, value in (
                ("journal", self.journal), ("recall_over_time", self.recall), ("size_over_time", self.sizes),
                ("memory", self.memory), ("slow_searches", self.slow),
            )
        }  # fmt: skip
        return shown | ({"settings": _plain(self.settings)} if with_settings else {})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [dataclasses.asdict(each) for each in value]
    return None if value is None else dataclasses.asdict(value)


def read_operations(instance: Instance, searched: Searchable) -> OperationsReport:
    """Of the articles' index, or that of another collection. Reads only; takes ACCESS SHARE on catalogs."""
    table, _ = searched.engine.known()
    with instance.connection() as connection:
        spec = effective_spec(connection, replace(table.index, recall_floor=instance.settings.recall_floor))
        observed = observe(connection, spec)
        serving = serving_spec(spec, observed)
        memory = None
        if serving is not None:
            oids = [part.oid for part in index_parts(observed, serving[1])]
            memory = read_cached_share(connection, oids, index_bytes=size_of(observed, serving[1]))
        recall, sizes = recall_over_time(connection, spec), size_over_time(connection, spec)
        journal = entries(connection, spec, limit=JOURNAL_LINES)
    return OperationsReport(
        journal=journal,
        recall=recall,
        recall_chart=_recall_chart(recall, floor=spec.recall_floor),
        sizes=sizes[:: -max(1, len(sizes) // MOST_SIZES)],
        size_chart=_size_chart(sizes),
        rows_chart=_rows_chart(sizes),
        memory=memory,
        slow=slow_searches(searched.reading, searched.spec.name),
        settings=shown_settings(instance.settings),
    )


def _recall_chart(spans: Sequence[RecallSpan], *, floor: float) -> TimeChart | None:
    sources = dict.fromkeys(span.source for span in spans)
    named = [
        (
            source,
            [
                Sample(at=span.at, value=span.recall, low=span.low, high=span.high)
                for span in spans
                if span.source == source
            ],
        )
        for source in sources
    ]
    return draw(
        named, name="recall-over-time", text=lambda value: f"{value:.3f}", floor=floor, lowest=None, highest=1.0
    )


def _size_chart(sizes: Sequence[IndexSize]) -> TimeChart | None:
    named = [
        ("index", [Sample(at=each.at, value=each.index_bytes) for each in sizes]),
        ("table", [Sample(at=each.at, value=each.table_bytes) for each in sizes]),
    ]
    return draw(named, name="size-over-time", text=lambda value: size_text(int(value)))


def _rows_chart(sizes: Sequence[IndexSize]) -> TimeChart | None:
    named = [("rows", [Sample(at=each.at, value=each.estimated_rows) for each in sizes])]
    return draw(named, name="rows-over-time", text=lambda value: f"{value:,.0f}")
