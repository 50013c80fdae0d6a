"""Warming in the background when a serving process starts: the indexes into the server's cache, the words into memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from everindex.articles.collections.registry import declared_indexes
from everindex.articles.instance import Instance
from everindex.errors import EverindexError
from everindex.index.catalog.observe import in_search_path
from everindex.index.deploy.warm import warm_in_background
from everindex.pg.connections import connect
from everindex.settings import Settings

STOP_SECONDS = 3.0


@contextmanager
def warmed_in_background(instance: Instance, settings: Settings) -> Iterator[None]:
    """Warms the declared indexes while the block runs, for at most EVERINDEX_WARM_SECONDS, and reads the words of all rows,
    without which each search by words parses what it ranks; 0 disables both. Raises nothing of its own."""
    if settings.warm_seconds == 0:
        yield
        return
    stop = threading.Event()
    thread = None
    try:
        with connect(instance.direct_conninfo, application_name="everindex warm") as connection:
            specs = [in_search_path(connection, spec) for spec in declared_indexes(connection)]
        if specs:
            thread = warm_in_background(instance.direct_conninfo, *specs, max_seconds=settings.warm_seconds, stop=stop)
        instance.words.rows.read_in_background(instance.words.known())
    except EverindexError:
        pass  # the pages say what is wrong with the database
    try:
        yield
    finally:
        stop.set()
        if thread is not None:
            thread.join(STOP_SECONDS)
