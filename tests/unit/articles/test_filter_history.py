"""What searches under a filter learn from the scans before them. No server."""

from __future__ import annotations

from dataclasses import replace

from everindex.articles.model import Filters
from everindex.articles.search.vector.filter_history import (
    FEWEST_SCANS,
    REMEMBERED_FILTERS,
    REMEMBERED_SCANS,
    TRY_EVERY,
    UNKNOWN,
    Experience,
    FilterHistory,
    Scan,
)
from everindex.articles.search.vector.strategy import (
    CLUSTERED_EF_SEARCH,
    ENTRY_COST,
    MAX_SCAN_TUPLES,
    Serving,
    choose,
    counted_up_to,
    exact_up_to,
)

PERL = Filters(category="perl")
SERVING = Serving(index_name="i", estimated_rows=60_000, has_iterative_scan=True, indexes=(1,), tables=(2,))


def met(history: FilterHistory, filters: Filters, *entries: int) -> Experience:
    """Scans of a filter that needs 100 entries if it has nothing to do with the vectors, and may cost 700."""
    for each in entries:
        history.note(filters, 10, Scan(entries=each, expected=100.0, most=700))
    return history.of(filters, 10)


def test_a_few_scans_say_nothing_and_so_do_those_of_another_filter_or_k() -> None:
    history = FilterHistory()
    assert met(history, PERL, *[900] * (FEWEST_SCANS - 1)) == UNKNOWN
    assert not met(history, PERL, 900).pays
    assert history.of(Filters(category="x"), 10) == UNKNOWN
    assert history.of(PERL, 20) == UNKNOWN


def test_an_index_that_finds_its_rows_half_of_the_time_pays_and_one_that_does_not_is_tried_now_and_then() -> None:
    history = FilterHistory()
    assert met(history, PERL, *[90] * 16, *[900] * 16).pays
    assert not met(history, PERL, 900).pays  # 15 of the last 32
    answers = [history.of(PERL, 10).pays for _ in range(4 * TRY_EVERY)]
    assert sum(answers) == 4
    assert met(history, PERL, *[90] * REMEMBERED_SCANS).pays, "what was long ago does not count"


def test_a_filter_is_a_cluster_where_scans_are_far_off_its_share_and_of_those_the_shortest_are_trusted() -> None:
    assert met(FilterHistory(), PERL, *[60, 90, 110, 150] * 4) == Experience(entries=110)
    near_and_far = met(FilterHistory(), PERL, *[12, 20, 300, 650, 900] * 4)
    assert near_and_far == Experience(is_clustered=True, entries=300, trusted_entries=650)
    assert met(FilterHistory(), PERL, *[12] * 8) == Experience(is_clustered=True, entries=12, trusted_entries=12)
    assert met(FilterHistory(), PERL, *[900] * 8) == Experience(
        pays=False, is_clustered=True, entries=900, trusted_entries=900
    )


def test_filters_are_forgotten_from_the_least_used_on_and_all_of_them_with_the_index() -> None:
    history = FilterHistory()
    for number in range(REMEMBERED_FILTERS + 1):
        met(history, Filters(category=str(number)), *[900] * FEWEST_SCANS)
    assert history.of(Filters(category="0"), 10) == UNKNOWN
    assert not history.of(Filters(category="1"), 10).pays
    history.invalidate()
    assert history.of(Filters(category="1"), 10) == UNKNOWN


def test_a_scan_gives_up_where_it_has_cost_what_reading_all_that_passes_does() -> None:
    for passing in (3_000, 6_000, 20_000):
        search_plan = choose(SERVING, k=10, passing=passing, ef_search=None, exact=False)
        assert search_plan.most_entries == passing // ENTRY_COST["vector"]
        assert search_plan.expected_entries == 12 * 60_000 / passing
        assert int(dict(search_plan.settings)["hnsw.max_scan_tuples"]) <= MAX_SCAN_TUPLES
    uncounted = choose(replace(SERVING, indexes=()), k=10, passing=3_000, ef_search=None, exact=False)
    assert uncounted.most_entries is None
    assert uncounted.gives_up


def test_what_was_met_decides_between_the_index_and_the_rows_that_pass() -> None:
    options = {"k": 10, "passing": 5_000, "ef_search": None, "exact": False}
    assert choose(SERVING, **options).strategy == "index-filtered"
    poor = choose(SERVING, **options, experience=Experience(pays=False, is_clustered=True))
    assert (poor.strategy, poor.settings) == ("filtered-exact", ())
    assert "passed this filter" in poor.reason
    beams = {
        entries: choose(SERVING, **options, experience=Experience(is_clustered=True, entries=entries)).ef_search
        for entries in (10, 240, 1000)
    }
    assert beams == {10: CLUSTERED_EF_SEARCH[0], 240: 128, 1000: CLUSTERED_EF_SEARCH[1]}
    for trusted, most in ((5, 13), (300, 300), (5000, 833)):
        experience = Experience(is_clustered=True, entries=120, trusted_entries=trusted)
        search_plan = choose(SERVING, **options, experience=experience)
        assert (search_plan.most_entries, search_plan.affordable_entries) == (most, 833)
    asked = choose(SERVING, **options | {"ef_search": 33}, experience=Experience(is_clustered=True, entries=120))
    assert asked.ef_search == 33
    assert choose(SERVING, **options).ef_search == 40


def test_rows_are_counted_as_far_as_it_matters() -> None:
    limits = [exact_up_to(replace(SERVING, estimated_rows=rows), k=10) for rows in (0, 60_000, 240_000, 6_000_000)]
    assert limits == [268, 2078, 4156, 20784]
    assert counted_up_to(SERVING, k=10) == 9231
    assert counted_up_to(SERVING, k=1000) == exact_up_to(SERVING, k=1000) == 20784
