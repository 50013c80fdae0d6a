"""The splitter cuts at sentences, overlaps, keeps to the model's tokens, and leaves alone what did not change."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

import pytest

from everindex.articles.embedding.static import StaticEmbedder
from everindex.articles.passages.splitter import Splitter
from whole_texts import items

EMBEDDER = StaticEmbedder(width=256)


class Elsewhere:
    """A model behind an endpoint: its tokenizer is not here."""

    model, dimensions, is_remote = "elsewhere", 256, True


def tokens_of(text: str) -> int:
    return len(EMBEDDER.token_spans(text))


@cache
def prose(count: int = 200) -> str:
    return "\n\n".join(" ".join(items(count)[start : start + 4]) for start in range(0, count, 4))


@pytest.mark.parametrize("most", [16, 64, 128, 512])
@pytest.mark.parametrize("kind", ["paragraphs", "one paragraph", "Japanese", "one word", "hyphens"])
def test_no_passage_has_more_tokens_than_it_may_and_none_of_the_text_is_lost(kind: str, most: int) -> None:
    text = {
        "paragraphs": prose(),
        "one paragraph": prose().replace("\n\n", " "),
        "Japanese": "日本語の文です。" * 900,
        "one word": "x" * 5000,
        "hyphens": "a-b " * 3000,
    }[kind]
    cut = Splitter(EMBEDDER, passage_tokens=most).cut(text)
    assert cut.tokens == tokens_of(text)
    # A word that the model's tokenizer splits may begin before a passage: those that begin in it are counted.
    starts = [start for start, _ in EMBEDDER.token_spans(text)]
    for start, end in cut.spans:
        assert bisect_left(starts, end) - bisect_left(starts, start) <= most or end - start == 1
    covered = set()
    for start, end in cut.spans:
        covered.update(range(start, end))
    assert not [place for place, letter in enumerate(text) if not letter.isspace() and place not in covered]


def test_passages_are_in_order_and_of_a_useful_length() -> None:
    cut = Splitter(EMBEDDER, passage_tokens=128).cut(prose())
    assert cut.spans == sorted(cut.spans)
    lengths = [tokens_of(prose()[start:end]) for start, end in cut.spans]
    assert sum(lengths) / len(lengths) > 0.5 * 128


def test_passages_begin_and_end_where_sentences_do() -> None:
    text = prose()
    cut = Splitter(EMBEDDER, passage_tokens=128).cut(text)
    whole = sum(text[start:end].rstrip()[-1] in ".!?)" for start, end in cut.spans)
    assert whole >= 0.9 * len(cut.spans)


def test_passages_overlap_within_running_text() -> None:
    cut = Splitter(EMBEDDER, passage_tokens=128).cut(prose().replace("\n\n", " "))
    overlapping = sum(second[0] < first[1] for first, second in zip(cut.spans, cut.spans[1:], strict=False))
    assert overlapping >= 0.3 * len(cut.spans)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.9])
def test_a_change_of_one_sentence_changes_few_passages(place: float) -> None:
    text = prose()
    at = text.index("\n\n", int(place * (len(text) - 2000))) + 2
    changed = text[:at] + "This sentence was added later, and nobody had expected it. " + text[at:]
    splitter = Splitter(EMBEDDER, passage_tokens=128)
    before = {text[start:end] for start, end in splitter.cut(text).spans}
    after = {changed[start:end] for start, end in splitter.cut(changed).spans}
    assert len(after - before) <= 10 < len(before) / 3


def test_a_short_text_is_one_passage_and_an_empty_one_none() -> None:
    splitter = Splitter(EMBEDDER)
    assert splitter.cut("  One sentence. ").spans == [(2, 15)]
    assert splitter.cut(" \n ").spans == []
    assert splitter.cut("").spans == []


def test_a_window_shorter_than_the_setting_decides() -> None:
    assert Splitter(EMBEDDER, passage_tokens=4096).passage_tokens == EMBEDDER.max_tokens


def test_a_model_elsewhere_is_cut_for_by_characters() -> None:
    text = prose()
    cut = Splitter(Elsewhere(), passage_tokens=128).cut(text)
    assert cut.tokens is None
    assert max(end - start for start, end in cut.spans) <= 3 * 128
    assert max(tokens_of(text[start:end]) for start, end in cut.spans) <= 128
