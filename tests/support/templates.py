"""The template databases that tests get clones of."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.settings import Settings

#: Enough for the planner to want the index, few enough to build it in a second.
FILLED_ROWS = 1500
#: Where neighbours are told apart, pages walked and strategies chosen by cost.
MANY_ROWS = 2500


def migrate(conninfo: str) -> None:
    """Head, without articles."""
    runner.upgrade(conninfo, wait_seconds=0)


def filled_with(rows: int) -> Callable[[str], None]:
    """Head, with the first articles of the sample, their vectors and the index over them."""

    def fill(conninfo: str) -> None:
        runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
        with connect_instance(conninfo, settings=Settings()) as instance:
            instance.import_rows(itertools.islice(read_source(str(sample_source())), rows))
        runner.upgrade(conninfo, wait_seconds=0)

    return fill
