"""Search answers as JSON, limited in size and written in pieces.

The interpreter can do nothing else while one piece is encoded: 1,000 hits at once take longer than a probe may wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic_core import to_json
from starlette.responses import Response

from everindex.articles.model import MAX_K, Answer
from everindex.articles.shape.hit import Hit
from everindex.errors import AnswerTooLarge
from everindex.web.site import Site

#: The size limit of an answer. 1,000 articles with summaries of 2,000 characters take 4 MB, with both snippets.
MAX_ANSWER_BYTES = 16_000_000
#: The maximum number of articles in an answer to several searches: 100 searches with k = 100.
MAX_HITS_AT_ONCE = 10_000
#: The number of hits encoded in one piece.
PIECE = 50
#: The approximate length of an article as JSON. For ten thousand articles counting would take too long in the event
#: loop.
USUAL_CHARACTERS = 1_000
#: Up to this length an answer is encoded at once, without switching to another thread.
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
    """Raises AnswerTooLarge before any search runs."""
    if k <= MAX_K and searches * k > MAX_HITS_AT_ONCE:  # a k beyond it is refused as such
        raise AnswerTooLarge(
            f"{searches} searches with k = {k} are too many for one response.",
            why=f"the response could have {searches * k:,} articles; at most {MAX_HITS_AT_ONCE:,} are sent at once.",
            next_step="send fewer searches in one request, or request fewer articles.",
        )


def characters_of(hits: Sequence[Hit]) -> int:
    """The approximate length of the hits as JSON, in characters."""
    return sum([
        300 + sum(map(len, filter(None, hit.texts))) + len(hit.snippet or "") + len(hit.title_snippet or "")
        + (0 if hit.passage is None else 2 * len(hit.passage.text))
        + (characters_of(hit.duplicates) if hit.duplicates else 0)
        for hit in hits
    ])  # fmt: skip


def as_response(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _pieces(answer: Answer) -> Iterator[bytes]:
    """The JSON of `answer.as_dict()`, a few hits at a time, in the same order of members."""
    hits = answer.hits
    without = answer.without_hits()
    yield b'{"hits":['
    for start in range(0, len(hits), PIECE):
        if start:
            yield b","
        yield to_json([hit.as_dict() for hit in hits[start : start + PIECE]])[1:-1]
    yield b"]," + to_json(without)[1:]


def _joined(pieces: Iterator[bytes]) -> bytes:
    """Raises AnswerTooLarge as soon as the limit is exceeded."""
    kept, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLarge(
                "the answer is too large.", why=f"at most {MAX_ANSWER_BYTES:,} bytes are sent at once.",
                next_step="request fewer articles (k), and the next ones with next_cursor.",
            )  # fmt: skip
        kept.append(piece)
    return b"".join(kept)
