"""The options of a search that few searches have, checked: what is in range, and what goes together. Pure."""

from __future__ import annotations

from everindex.articles.model import MODES, SORTS, AnswerMode, Mode
from everindex.errors import QueryInapplicable, QueryInvalid

#: Two articles closer than this cosine distance count as one. In the sample, 97 % of the pairs closer than this share
#: at least four fifths of their text, as do half of the pairs just beyond it (docs/measurements/answers.md). Models
#: differ.
NEAR_DUPLICATE_DISTANCE = 0.05
#: Candidates of a cross-encoder: at 5 ms each, a second.
MAX_RERANK = 200


def check_similarity(least: float, *, mode: AnswerMode) -> None:
    """Raises QueryInvalid for a minimum similarity that is out of range or that the mode cannot compare."""
    if not -1 <= least <= 1:
        raise QueryInvalid(
            f"min_similarity = {least} cannot be used.",
            why="it is a cosine similarity: 1 is the same direction, 0 unrelated, −1 opposite.",
            next_step="choose a number from −1 to 1; the similarities in an answer show what is usual here.",
        )
    if mode == "keyword":
        raise QueryInapplicable(
            "a keyword search has no similarity.",
            why="min_similarity compares the meaning of texts, which mode=keyword does not use.",
            next_step="leave it out, or search with mode=hybrid or mode=semantic.",
        )
    _refuse_without_text(mode)


def check_diversity(diversity: float, *, mode: AnswerMode, after: str | None) -> None:
    """Raises QueryInvalid for a diversity that is out of range or that the search cannot have."""
    check_weight_of_variety(diversity)
    if diversity:
        refuse_after(
            after, "diversity", why="variety is chosen within one answer, so there is no order to continue in."
        )
        _refuse_without_text(mode)


def check_weight_of_variety(diversity: float) -> None:
    """Raises QueryInvalid unless 0 ≤ diversity ≤ 1."""
    if not 0 <= diversity <= 1:
        raise QueryInvalid(
            f"diversity = {diversity} cannot be used.",
            why="it is the weight of variety: 0 orders by similarity alone, 1 by variety alone.",
            next_step="choose a number from 0 to 1; 0.3 is a good start.",
        )


def check_sort(sort: str, *, has_other_order: bool, is_similar: bool) -> None:
    """Raises QueryInvalid for an order that does not exist or that the search cannot have."""
    if sort not in SORTS:
        raise QueryInvalid(
            f"there is no order {sort[:40]!r}.",
            why=f"hits are ordered by {' or by '.join(SORTS)}.",
            next_step="choose one of them.",
        )
    if has_other_order:
        raise QueryInapplicable(
            "an answer has one order.",
            why=f"sort={sort} orders it by date, and rerank and diversity each in another way.",
            next_step="leave one of them out.",
        )
    if is_similar:
        raise QueryInapplicable(
            "similar articles are not sorted by date.",
            why="every article is similar to some degree, so the newest are simply the newest.",
            next_step="leave sort out, or narrow it with since= and until=.",
        )


def check_threshold(threshold: float) -> None:
    """Raises QueryInvalid unless 0 < threshold ≤ 2."""
    if not 0 < threshold <= 2:
        raise QueryInvalid(
            f"near-duplicates cannot be recognised by a distance of {threshold}.",
            why="articles closer to each other than this count as one; cosine distances range from 0 to 2.",
            next_step=f"choose a number above 0 and up to 2; {NEAR_DUPLICATE_DISTANCE} is the default.",
        )


def check_rerank(candidates: int, *, text: str | None, diversity: float | None, after: str | None) -> None:
    """Raises QueryInvalid for a number of candidates that is out of range or that the search cannot re-rank."""
    if not 0 <= candidates <= MAX_RERANK:
        raise QueryInvalid(
            f"rerank = {candidates} cannot be used.",
            why="it is the number of candidates that a cross-encoder reads, and each of them takes its time.",
            next_step=f"choose 0 to {MAX_RERANK}; 50 is a good start.",
        )
    if text is None:
        raise QueryInapplicable(
            "without a text nothing can be re-ranked.",
            why="a cross-encoder reads the search text beside each hit.",
            next_step="write a text to search for, or leave rerank out.",
        )
    if diversity is not None:
        raise QueryInapplicable(
            "an answer cannot be both re-ranked and diverse.",
            why="each of the two puts the hits in an order of its own.",
            next_step="leave rerank or diversity out.",
        )
    refuse_after(after, "rerank", why="the cross-encoder orders one answer, and has not read what comes after it.")


def refuse_after(after: str | None, option: str, *, why: str) -> None:
    """Raises QueryInapplicable for a cursor."""
    if after:
        raise QueryInapplicable(
            f"{option} cannot be continued with a cursor.", why=why, next_step="use a larger k instead."
        )


def mode_of(name: str) -> Mode:
    """The search mode of that name. Raises QueryInvalid."""
    for mode in MODES:
        if mode == name:
            return mode
    raise no_such_mode(name)


def no_such_mode(name: str) -> QueryInvalid:
    """The error of an unknown search mode."""
    return QueryInvalid(
        f"there is no search mode {name[:40]!r}.",
        why=f"articles are searched by {', '.join(MODES)}.",
        next_step="choose one of them.",
    )


def _refuse_without_text(mode: AnswerMode) -> None:
    if mode == "browse":
        raise QueryInapplicable(
            "similarity needs a search text.",
            why="min_similarity and diversity compare articles with the search text; a search with filters alone "
            "has none.",
            next_step="enter a text to search for, or leave these options out.",
        )
