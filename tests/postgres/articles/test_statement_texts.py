"""The composed statements of searches: as many shapes as clients may ask for, and memory for a bounded number of them."""

from __future__ import annotations

from everindex.articles.instance import Instance
from everindex.articles.search.filters import NO_FILTERS
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.strategy import SearchPlan
from everindex.pg.statement_texts import MOST_TEXTS, StatementText, StatementTexts


def test_ever_new_shapes_of_searches_keep_a_bounded_number_of_statements(read_only_instance: Instance) -> None:
    table, _ = read_only_instance.engine.known()
    texts = StatementTexts()
    search_plan = SearchPlan(strategy="exact", reason="of a test")

    def of(k: int) -> StatementText:
        return texts.of((k, *search_plan.shape), lambda: statement.of(table, NO_FILTERS, search_plan, k=k)[0])

    written = {of(k).named for k in range(1, 2 * MOST_TEXTS)}
    assert written
    assert len(texts) <= MOST_TEXTS
    again = of(7)
    assert again.named in written
    assert of(7) is again
