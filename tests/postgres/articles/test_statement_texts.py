"""The composed statements of searches: as many shapes as clients may ask for, and memory for a bounded number of them."""

from __future__ import annotations

from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.strategy import SearchPlan


def test_ever_new_shapes_of_searches_keep_a_bounded_number_of_statements(read_only_instance: Instance) -> None:
    table, _ = read_only_instance.engine.known()
    kept = statement.Texts()
    search_plan = SearchPlan(strategy="exact", reason="of a test")
    written = {kept.of(table, Filters(), search_plan, k)[0].named for k in range(1, 2 * statement.MOST_TEXTS)}
    assert written
    assert len(kept) <= statement.MOST_TEXTS
    again = kept.of(table, Filters(), search_plan, 7)[0]
    assert again.named in written
    assert kept.of(table, Filters(), search_plan, 7)[0] is again
