"""Snippets are safe: no article and no query brings markup of its own; and they are the text as it is."""

from __future__ import annotations

import html
import re
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from article_hits import article_hit
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.search.keyword.snippet import LEAST_CHARACTERS, MOST_CHARACTERS, WHOLE_CHARACTERS, with_snippets
from everindex.articles.search.request.parsed_query import parse
from everindex.articles.shape.hit import Hit
from everindex.web.pages.render import highlighted

ATTACKS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<mark onmouseover=alert(1)>tiger</mark>", "</mark><b>",
    "<<mark>script>", "&lt;script&gt;", "\x01script\x02", "\x01<script>\x02 tiger \x03\x04", "StartSel=<b>",
    "<svg/onload=alert(1)>", "<tiger>", "<!-- tiger -->", "a<b>tiger</b>", "\ue000tiger\ue001", "{{ 7*7 }}",
)  # fmt: skip


def snippets(instance: Instance, text: str, *summaries: str | None, title: str | None = None) -> list[Hit]:
    hits = [article_hit("u", title=title, summary=summary) for summary in summaries]
    with instance.connection() as connection:
        return with_snippets(connection, instance.words.known().config, parse(text), hits)


def plain(snippet: str | None) -> str:
    """The text of a snippet: there is no markup in it but <mark>, in pairs."""
    assert snippet is not None
    assert re.fullmatch(r"(?:[^<>]|<mark>[^<>]*</mark>)*", snippet), snippet
    return html.unescape(re.sub("</?mark>", "", snippet))


@pytest.mark.parametrize("attack", ATTACKS)
def test_markup_of_an_article_or_a_query_is_shown_and_never_obeyed(words: Instance, attack: str) -> None:
    text = f"{attack} tiger {attack}"
    (hit,) = snippets(words, f"tiger {attack}", text, title=text)
    for snippet in (hit.title_snippet, hit.snippet):
        assert plain(snippet) == shown(text)
        assert "<mark>tiger</mark>" in str(snippet)
        assert str(highlighted(str(snippet))) == snippet
    (cut,) = snippets(words, "tiger", f"{'zebra ' * 200}{text}{' zebra' * 200}")
    assert "<mark>tiger</mark>" in str(cut.snippet)
    plain(cut.snippet)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=80),
    asked=st.text(st.characters(blacklist_characters="\0"), max_size=30),
)
def test_a_short_text_is_shown_whole_and_unchanged(words: Instance, text: str, asked: str) -> None:
    for query in (asked, text):
        (hit,) = snippets(words, query, text, title=text)
        assert plain(hit.snippet) == plain(hit.title_snippet) == shown(text)


def shown(text: str) -> str:
    """Without the control characters that stand for marks and joints; composed, and full-width ASCII at its usual width."""
    narrow = {0xFEE0 + code: code for code in range(0x21, 0x7F)}
    return unicodedata.normalize("NFC", re.sub("[\x01-\x08\x0e-\x10]", "", text)).translate(narrow)


def test_of_a_long_summary_the_passages_are_shown_that_answer(words: Instance) -> None:
    before, after = (" ".join(f"{name}{number}" for number in range(100)) for name in ("before", "after"))
    (beginning, middle, two, none, whole) = snippets(
        words, "tiger", f"tiger {after}", f"{before} tiger {after}", f"{before} tiger {after} {before} tiger {after}", after,
        "tiger " + "meadow " * (WHOLE_CHARACTERS // 7 - 1),
    )  # fmt: skip
    assert re.fullmatch(r"<mark>tiger</mark> after0 [\w ]+ …", str(beginning.snippet))
    assert re.fullmatch(r"… before\d+ [\w ]*<mark>tiger</mark> [\w ]+ …", str(middle.snippet))
    assert re.fullmatch(r"… [\w ]*<mark>tiger</mark> [\w ]* … [\w ]*<mark>tiger</mark> [\w ]* …", str(two.snippet))
    assert re.fullmatch(r"after0 after1 [\w ]+ …", str(none.snippet))
    assert "…" not in str(whole.snippet)
    assert all(len(plain(hit.snippet)) < 500 for hit in (beginning, middle, two, none, whole))


@pytest.mark.parametrize("place", ["tiger {rest}", "{rest} tiger", "{half} tiger. {half}", "{rest}"])
def test_no_snippet_is_shorter_than_a_title_or_cuts_a_word(words: Instance, place: str) -> None:
    """ts_headline alone gives a few words where the summary ends, and a dozen short ones elsewhere."""
    rest = " ".join(f"w{number}" for number in range(400))
    summary = place.format(rest=rest, half=rest[: len(rest) // 2].rpartition(" ")[0])
    (hit,) = snippets(words, "tiger", summary, title="A title of one and a half lines, as feeds have them, " * 3)
    shown = plain(hit.snippet).strip("… ")
    assert LEAST_CHARACTERS <= len(shown) <= LEAST_CHARACTERS * 2
    assert f" {shown} " in f" {summary} "
    assert str(hit.snippet).count("<mark>tiger</mark>") == summary.count("tiger")


def test_joined_names_stems_and_phrases_are_marked(words: Instance) -> None:
    (hit,) = snippets(
        words, 'queue "memory leak" tigers', "asyncio.Queue has a memory leak; leaks of tigers, no TIGER."
    )
    assert hit.snippet == (
        "asyncio.<mark>Queue</mark> has a <mark>memory</mark> <mark>leak</mark>; <mark>leaks</mark> of "
        "<mark>tigers</mark>, no <mark>TIGER</mark>."
    )


def test_what_is_missing_stays_missing_and_a_huge_text_is_cut(words: Instance) -> None:
    (nothing, huge) = snippets(words, "tiger", None, "tiger " + "x" * 400 + " meadow" * MOST_CHARACTERS)
    assert (nothing.title_snippet, nothing.snippet) == (None, None)
    assert len(str(huge.snippet)) < 1500
    assert snippets(words, "tiger") == []


def test_hits_of_every_mode_but_the_semantic_one_have_snippets(fresh: Instance) -> None:
    fresh.upsert([Article(uri="u", title="A <b>tiger</b>", summary="Tigers & zebras")])
    for mode in ("keyword", "hybrid"):
        (hit,) = fresh.search("tiger", mode=mode).hits  # type: ignore[arg-type]
        assert hit.title_snippet == "A &lt;b&gt;<mark>tiger</mark>&lt;/b&gt;"
        assert hit.snippet == "<mark>Tigers</mark> &amp; zebras"
        assert (hit.title, hit.summary) == ("A <b>tiger</b>", "Tigers & zebras")
    (hit,) = fresh.search("tiger", mode="semantic").hits
    assert (hit.title_snippet, hit.snippet) == (None, None)


def test_the_page_escapes_a_snippet_that_is_none() -> None:
    assert str(highlighted("<mark>a</mark><script>b")) == "<mark>a</mark>&lt;script&gt;b"
    assert str(highlighted('<mark>a</mark>"')) == "<mark>a</mark>&#34;"
