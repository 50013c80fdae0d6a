"""The splitter: a whole text cut into passages at sentences, overlapping, none longer than the model reads.

semantic-text-splitter finds the boundaries (paragraphs, else sentences, else words, by Unicode's rules). It counts characters,
which takes a hundredth of the time that counting tokens again for every candidate takes; how many of them fit is known from the
tokens of the whole text, counted once, and a passage that still has too many tokens is cut again.

A text is first divided where the words themselves say so, after a sentence whose digest is a multiple of ANCHOR_EVERY, as in
content-defined chunking (Muthitacharoen et al., "A Low-bandwidth Network File System", SOSP 2001). A change so moves the
boundaries near it alone: the other passages stay as they are, and keep their vectors.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from everindex.articles.embedding.provider import Embedder, TokenWindow

#: Tokens of a passage: short enough that the mean of its words' vectors still says what it is about
#: (docs/measurements/passages.md).
PASSAGE_TOKENS = 128
#: The part of a passage, at most, that the next one repeats.
OVERLAP = 0.2
#: Of the characters that fit on average; some passages have denser tokens.
FILL = 0.9
#: After one in so many sentences the text is divided whatever its length: about every 2,000 characters of prose.
ANCHOR_EVERY = 16
#: Characters of a token, for a model whose tokenizer is elsewhere: an English text has about four, so that few passages exceed.
CHARACTERS_PER_TOKEN = 3.0
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])[\"'”’)\]]*\s+|\n+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A text in passages."""

    spans: list[tuple[int, int]]
    """Of each passage the first character and the one after the last."""

    tokens: int | None
    """Of the whole text, where the model's tokenizer is in this process."""


class Splitter:
    """Cuts texts for one model. Safe to use from many threads."""

    def __init__(self, embedder: Embedder, *, passage_tokens: int = PASSAGE_TOKENS) -> None:
        self._window = embedder if isinstance(embedder, TokenWindow) else None
        most = passage_tokens if self._window is None else self._window.max_tokens
        self.passage_tokens = min(passage_tokens, most)

    def cut(self, text: str) -> Cut:
        """The passages of a text, in order; none of a text without a visible character."""
        if self._window is None:
            starts, density = None, 1 / CHARACTERS_PER_TOKEN
        else:
            starts = [start for start, _ in self._window.token_spans(text)]
            density = max(len(starts), 1) / max(len(text), 1)
        characters = max(int(FILL * self.passage_tokens / density), 1)
        spans: list[tuple[int, int]] = []
        for begin, end in _segments(text, overlap=int(OVERLAP * characters)):
            spans += self._passages(text, begin, end, characters, starts)
        return Cut(spans=_without_contained(spans), tokens=None if starts is None else len(starts))

    def _passages(
        self, text: str, begin: int, end: int, characters: int, starts: Sequence[int] | None
    ) -> Iterator[tuple[int, int]]:
        from semantic_text_splitter import TextSplitter  # 18 MB, for whoever cuts

        overlap = min(int(OVERLAP * characters), characters - 1)
        for offset, chunk in TextSplitter(characters, overlap=overlap).chunk_indices(text[begin:end]):
            first, last = begin + offset, begin + offset + len(chunk)
            if starts is None or len(chunk) <= 1 or _count(starts, first, last) <= self.passage_tokens:
                yield first, last
            else:
                yield from self._passages(text, first, last, max(len(chunk) // 2, 1), starts)


def _segments(text: str, *, overlap: int) -> Iterator[tuple[int, int]]:
    """The text divided after sentences that their own words choose; a segment begins with the sentence that ended the one
    before, where that is shorter than `overlap`."""
    begin = previous = 0
    for match in _SENTENCE_END.finditer(text):
        sentence = text[previous : match.start()].strip()
        digest = hashlib.blake2s(sentence.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        if sentence and int.from_bytes(digest) % ANCHOR_EVERY == 0:
            yield begin, match.end()
            begin = previous if match.end() - previous <= overlap else match.end()
        previous = match.end()
    if begin < len(text):
        yield begin, len(text)


def _without_contained(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans without those that lie in the one before."""
    kept: list[tuple[int, int]] = []
    for span in spans:
        if span[0] < span[1] and not (kept and kept[-1][0] <= span[0] and span[1] <= kept[-1][1]):
            kept.append(span)
    return kept


def _count(starts: Sequence[int], first: int, last: int) -> int:
    """How many tokens begin in the span."""
    return bisect_left(starts, last) - bisect_left(starts, first)
