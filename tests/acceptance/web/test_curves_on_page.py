"""/index draws recall against latency, with a table beside it, and says when recall has fallen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx2
import pytest

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.instance import Instance
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import declared_index
from everindex.index.recall.history import RecallSample, graph_of, remember
from everindex.index.tuning import curve_history
from everindex.index.tuning.survey import survey
from everindex.index.tuning.survey_result import Budget
from everindex.pg.connections import connect
from everindex.web.serving import serve_in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HTML = {"accept": "text/html"}
QUICK = Budget(queries=5, sample_rows=0, max_seconds=30)


@pytest.fixture
def page_of(instance: Instance) -> Callable[[], str]:
    """The page /index of an application that has just been started."""

    def read() -> str:
        with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=30) as client:
            for _ in range(40):
                page = client.get("/index", headers=HTML).text
                if "Reading the state" not in page:
                    return page
        raise AssertionError("the report did not come")

    return read


def measured(conninfo: str) -> None:
    with connect(conninfo) as connection:
        spec = effective_spec(connection, EMBEDDING_INDEX)
        assert curve_history.keep(connection, survey(conninfo, spec, budget=QUICK))


def test_before_anything_was_measured_the_page_says_how(page_of: Callable[[], str]) -> None:
    page = page_of()
    assert "No measurements yet" in page
    assert "everindex measure" in page


def test_the_curve_is_drawn_with_its_words_its_table_and_the_chosen_point(
    instance: Instance, page_of: Callable[[], str]
) -> None:
    measured(instance.conninfo)
    page = page_of()
    assert '<title id="curves-title">Recall@10 against latency</title>' in page
    assert re.search(r'<desc id="curves-words">1: vector, m = 16.* from recall ', page)
    assert 'class="chosen"' in page
    assert '<tr aria-current="true"><td class="amount">40</td>' in page
    assert "style=" not in page  # the policy of the page forbids it


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_the_curve_has_no_barrier_and_fits_a_narrow_screen(browser: Browser, instance: Instance, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    measured(instance.conninfo)
    with serve_in_thread(instance) as url:
        context = browser.new_context(
            base_url=url, color_scheme=scheme, bypass_csp=True, viewport={"width": 360, "height": 740}
        )
        page = context.new_page()
        page.goto("/index")
        page.wait_for_selector("figure.curves")
        page.get_by_text("As a table").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        violations = Axe().run(page).response["violations"]
        context.close()
    assert [found["id"] for found in violations if found["impact"] in ("serious", "critical")] == []


def test_the_same_is_in_the_api(instance: Instance) -> None:
    measured(instance.conninfo)
    with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=30) as client:
        document = client.get("/api/index").json()
    assert document["curves"]["chosen_ef_search"] == 40
    assert document["curves"]["curves"][0]["points"][0]["ef_search"] == 10
    assert document["recall"]["queries"] == 0


def test_a_fall_below_the_floor_is_on_the_page(instance: Instance, page_of: Callable[[], str]) -> None:
    with connect(instance.conninfo) as connection:
        spec = effective_spec(connection, EMBEDDING_INDEX)
        index = declared_index(spec, observe(connection, spec))
        assert index is not None
        generation = graph_of(connection, index)
        for _ in range(3):
            sample = RecallSample(k=10, queries=10, found=70, wanted=100, exact_ms=1.0, approximate_ms=1.0)
            remember(connection, spec, generation, sample)
    assert re.search(
        r'class="notice warn">Recall@10 of the index that serves is 0\.700 .* below the floor of 0\.95', page_of()
    )


def test_when_the_index_is_gone_no_curve_serves_and_the_next_step_is_a_command_without_a_loose_space(
    instance: Instance,
) -> None:
    measured(instance.conninfo)
    with connect(instance.conninfo) as connection:
        connection.execute("DROP INDEX articles_embedding_hnsw_idx")
    instance.invalidate()
    with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=60) as client:
        for _ in range(400):
            page = client.get("/index", headers=HTML).text
            if "Reading the state" not in page and "Next:" in page:
                break
        found = client.get("/api/index").json()
    assert "(serves)" not in page
    assert "(served when it was measured)" in page
    assert "No index is in use: every search is exact." in page
    assert "marked with a circle" not in page
    assert "<code>everindex heal</code>: it builds" in page
    assert not re.search(r"</code> [.,:;]", page)
    assert found["curves"]["curves"][0]["place"] == "former"
    proof = next(proof for proof in found["verification"]["proofs"] if proof["name"] == "index")
    assert "run `everindex heal`: it builds" in proof["next"]


def test_an_index_of_another_shape_does_not_serve_the_curve_of_the_old_one(
    instance: Instance, page_of: Callable[[], str]
) -> None:
    measured(instance.conninfo)
    with connect(instance.conninfo) as connection:
        connection.execute("DROP INDEX articles_embedding_hnsw_idx")
        connection.execute(
            "CREATE INDEX articles_embedding_hnsw_idx ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 8)"
        )
    instance.invalidate()
    page = page_of()
    assert "(serves)" not in page
    assert "(served when it was measured)" in page
    assert "No index serves now" not in page
