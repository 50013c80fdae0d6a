"""An instance whose process has the words of all rows in memory, as one has that has served for a while."""

from __future__ import annotations

import time

from everindex.articles.instance import Instance


def remembered(instance: Instance) -> Instance:
    """The same instance, once the words of its rows were read."""
    deadline = time.monotonic() + 60
    while instance.words.rows.postings is None:
        instance.words.rows.read_in_background(instance.words.known())
        assert time.monotonic() < deadline, "the words were not read in time"
        time.sleep(0.02)
    return instance
