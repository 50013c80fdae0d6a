"""What does a text ask for, and what does it leave out? It is read here and written anew for websearch_to_tsquery. Pure.

PostgreSQL's own reading fails on a row of dashes ("tsquery stack too small"), takes `asyncio.Queue` for one word, and puts no
bound to what ranking a query of a thousand words costs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from everindex.articles.search.document import JOINTS

#: Ranking takes 0.1 ms an article with a few words, 0.14 ms with 32, 2 ms with 256 (docs/measurements/hybrid.md).
MOST_WORDS = 32

#: A phrase in quotes, the last of which may lack its end, or what stands between spaces.
_TERM = re.compile(r'(?:(?<!\S)-)?"[^"]*(?:"|$)|[^\s"]+')
#: What ends a word inside a term: the joints of the document, and what PostgreSQL passes over as operators.
_SPLIT = re.compile(rf"[{re.escape(JOINTS)}()!&|\s]+")
#: As many words as PostgreSQL's parser can make of a term; it takes _ for a space.
_RUN = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query, read."""

    wanted: str
    """The text without what it leaves out, as it was written; may be empty."""

    query: str
    """All of it for websearch_to_tsquery; empty where it holds no letter and no digit."""

    left_out: str | None
    """What it leaves out, as a query for any of that; None where that is nothing."""

    is_cut: bool
    """True when it has more than MOST_WORDS words, and `query` only the first of them."""


def read(text: str) -> Asked:
    """Understands "quoted phrases", `or`, and a minus right before a word or phrase; `asyncio.Queue` is a phrase of two."""
    sendable = text.replace("\0", " ").encode("utf-8", "replace").decode()
    wanted: list[str] = []
    terms: list[str] = []
    left_out: list[str] = []
    last, words, is_cut = 0, 0, False
    for match in _TERM.finditer(sendable):
        if not match[0].startswith(('"', '-"')) and match[0].lower() == "or":
            terms.append("or")
            continue
        is_minus = _has_minus(match)
        term, count = _written(match[0][1:] if is_minus else match[0], most=MOST_WORDS - words)
        words += count
        is_cut = is_cut or len(_RUN.findall(match[0])) > count
        if is_minus:
            wanted.append(sendable[last : match.start()])
            last = match.end()
        if term:
            terms.append(f"-{term}" if is_minus else term)
            left_out += [term] if is_minus else []
    wanted.append(sendable[last:])
    return Asked(
        wanted=" ".join("".join(wanted).split()) if len(wanted) > 1 else sendable,
        query=_with_or_between(terms),
        left_out=" or ".join(left_out) or None,
        is_cut=is_cut,
    )


def _has_minus(match: re.Match[str]) -> bool:
    """`-word`, but not `--option`, `e-mail` or a dash by itself."""
    follows_space = match.start() == 0 or match.string[match.start() - 1].isspace()
    return follows_space and re.match(r'-[^\W_]|-"', match[0]) is not None and bool(_RUN.search(match[0]))


def _written(term: str, *, most: int) -> tuple[str, int]:
    """One term for websearch_to_tsquery, of its first `most` words, and how many these are."""
    runs = list(_RUN.finditer(term))[:most]
    if not runs:
        return "", 0
    pieces = [piece for piece in _SPLIT.split(term[: runs[-1].end()].replace('"', " ")) if _RUN.search(piece)]
    if len(pieces) > 1 or term.startswith('"') or pieces[0].lower() == "or":
        return f'"{" ".join(pieces)}"', len(runs)
    return pieces[0].strip("-"), len(runs)


def _with_or_between(terms: list[str]) -> str:
    """The terms with each `or` that stands between two of them, once."""
    kept: list[str] = []
    for term in terms:
        if term != "or" or (kept and kept[-1] != "or"):
            kept.append(term)
    return " ".join(kept[:-1] if kept and kept[-1] == "or" else kept)
