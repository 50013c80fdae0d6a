"""The answers of searches as JSON, of a bounded size and written in pieces.

The interpreter can do nothing else while one piece is written: 1,000 hits in one go take longer than a probe may wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic_core import to_json
from starlette.responses import Response

from everindex.articles.model import MAX_K, Answer
from everindex.articles.shape.hit import Hit
from everindex.errors import AnswerTooLarge
from everindex.web.site import Site

#: An answer may have so many bytes. 1,000 articles with summaries of 2,000 characters have 4 MB, with both snippets.
MAX_ANSWER_BYTES = 16_000_000
#: An answer to several searches may hold so many articles: as many as 100 searches with k = 100.
MAX_HITS_AT_ONCE = 10_000
#: So many hits are written in one piece.
PIECE = 50
#: An article has about so many characters as JSON. Of ten thousand they are not counted: that takes too long for the event loop.
USUAL_CHARACTERS = 1_000
#: Up to here the answer is written at once, without a hop into another thread.
SHORT_CHARACTERS = 50_000


async def answer_response(site: Site, found: Answer) -> Response:
    """The answer of one search. Raises AnswerTooLarge."""
    characters = characters_of(found.hits)
    if characters <= SHORT_CHARACTERS:
        return as_response(to_json(found.as_dict()))
    return await site.compute(lambda: as_response(_joined(_pieces(found))), characters=characters)


async def answers_response(site: Site, found: list[Answer]) -> Response:
    """The answers of several searches; `found` is empty afterwards. Raises AnswerTooLarge."""
    characters = sum(len(answer.hits) for answer in found) * USUAL_CHARACTERS

    def pieces() -> Iterator[bytes]:
        yield b'{"answers":['
        for number, answer in enumerate(found):
            if number:
                yield b","
            yield from _pieces(answer)
        yield b"]}"

    def write() -> Response:
        try:
            return as_response(_joined(pieces()))
        finally:
            found.clear()  # here, or the event loop would give back ten thousand articles one by one

    return await site.compute(write, characters=characters)


def require_hits_within_limit(searches: int, k: int) -> None:
    """Raises AnswerTooLarge before anything is searched."""
    if k <= MAX_K and searches * k > MAX_HITS_AT_ONCE:  # a k beyond it is refused as such
        raise AnswerTooLarge(
            f"{searches} searches with k = {k} are too many for one response.",
            why=f"the response would have up to {searches * k:,} articles; {MAX_HITS_AT_ONCE:,} are sent at once.",
            next_step="send fewer searches in one request, or ask for fewer articles.",
        )


def characters_of(hits: Sequence[Hit]) -> int:
    """About how many characters the hits have as JSON."""
    return sum([
        300 + len(hit.summary or "") + len(hit.title or "") + len(hit.snippet or "") + len(hit.title_snippet or "")
        for hit in hits
    ])  # fmt: skip


def as_response(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _pieces(answer: Answer) -> Iterator[bytes]:
    """The JSON of `answer.as_dict()`, a few hits at a time; a short text about the answer comes first there as well."""
    hits = answer.hits
    without = answer.without_hits()
    yield b'{"hits":['
    for start in range(0, len(hits), PIECE):
        if start:
            yield b","
        yield to_json([hit.as_dict() for hit in hits[start : start + PIECE]])[1:-1]
    yield b"]," + to_json(without)[1:]


def _joined(pieces: Iterator[bytes]) -> bytes:
    """Raises AnswerTooLarge as soon as it is."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(
                "the answer is too large.", why=f"at most {MAX_ANSWER_BYTES:,} bytes are sent at once.",
                next_step="ask for fewer articles (k), and for the next ones by next_cursor.",
            )  # fmt: skip
        kept.append(piece)
    return b"".join(kept)
