"""The record of what filters compare, in everindex_meta: counts by column and day, and of common values.

Each process adds its counts every few minutes, for the rules `filter-without-index` and `partial-index-pays` of the doctor. It
never delays a search, and
nothing depends on it: where the table is missing or may not be written, nothing is recorded.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from everindex.articles.instance import Instance
from everindex.articles.search.filters.filter_record import add_filter_uses, add_filter_values
from everindex.articles.searchable import Searchable
from everindex.errors import EverindexError
from everindex.pg.connections import connect

log = logging.getLogger(__name__)

HAND_OVER_SECONDS = 300.0
STOP_SECONDS = 5.0


@contextmanager
def filters_counted(instance: Instance) -> Iterator[None]:
    """Records what filters compare, of the articles and of every opened collection, for the duration of the block."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(HAND_OVER_SECONDS * random.uniform(0.8, 1.2)):
            hand_over(instance)
        hand_over(instance)

    thread = threading.Thread(target=run, name="everindex-filters", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)


def hand_over(instance: Instance) -> None:
    """Records the counts since the last call if possible, otherwise discards them. Raises nothing."""
    for searched in (instance, *list(instance.opened.values())):
        try:
            _record(instance, searched)
        except EverindexError as exc:
            log.debug("use of filters not recorded: %s", exc.slug, extra={"event": "filter-use-not-recorded"})
        except Exception:
            log.exception(
                "the use of filters was not recorded because of a program error; nothing depends on it",
                extra={"event": "filter-use-failed"},
            )


def _record(instance: Instance, searched: Searchable) -> None:
    counts, values = searched.searches.filter_use.take(), searched.searches.filter_use.take_values()
    if not counts:
        return
    table, _ = searched.engine.known()
    rows = [(use.column, list(use.members), use.compared, count) for use, count in counts.items()]
    with connect(instance.direct_conninfo, application_name="everindex filters") as connection:
        add_filter_uses(connection, schema=table.schema, table=table.spec.table, uses=rows)
        if values:
            add_filter_values(
                connection, schema=table.schema, table=table.spec.table,
                values=[(column, value, count) for (column, value), count in values.items()],
            )  # fmt: skip
