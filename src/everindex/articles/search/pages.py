"""Where does the page after this one begin? The cursor of an answer's last article, for each way of ordering. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from everindex.articles.model import MAX_K, Hit
from everindex.articles.search.cursor import MOST_SEEN, Cursor, seen_digest

#: So many articles of a search by ranks are shown on all its pages together.
MAX_RANKED = min(MOST_SEEN, MAX_K)


def after_nearest(hits: Sequence[Hit], *, before: Cursor | None, is_complete: bool) -> Cursor:
    """The cursor after `hits` (at least one, by distance and uri), which themselves came after `before`.

    `is_complete`: nothing was left out before the last of them, as in an exact search. An index gives any of several
    articles that are equally far, so of those it is remembered which were shown.
    """
    last = hits[-1]
    distance = _distance(last)
    is_same_distance = before is not None and before.distance == distance
    begun, seen = (before.uri, before.seen) if before is not None and is_same_distance else ("", frozenset())
    shown = _shown(before) + len(hits)
    if is_complete:
        return Cursor(distance=distance, uri=last.uri, shown=shown, seen=seen)
    seen |= {seen_digest(hit.uri) for hit in hits if hit.distance == distance}
    if len(seen) > MOST_SEEN:
        # The rest of more than MOST_SEEN equal vectors is passed over: the index itself hardly tells them apart.
        return Cursor(distance=math.nextafter(distance, math.inf), uri="", shown=shown)
    return Cursor(distance=distance, uri=begun, shown=shown, seen=seen)


def after_ranked(hits: Sequence[Hit], *, before: Cursor | None) -> Cursor | None:
    """The cursor after `hits` of a search by ranks, where every new row changes the scores: all that were shown are
    remembered. None after MAX_RANKED of them."""
    seen = (frozenset() if before is None else before.seen) | {seen_digest(hit.uri) for hit in hits}
    if len(seen) >= MAX_RANKED:
        return None
    return Cursor(distance=0.0, uri="", shown=_shown(before) + len(hits), seen=seen)


def not_seen(hits: Sequence[Hit], before: Cursor | None) -> list[Hit]:
    """The hits that no page up to `before` has shown."""
    if before is None or not before.seen:
        return list(hits)
    return [hit for hit in hits if seen_digest(hit.uri) not in before.seen]


def _shown(before: Cursor | None) -> int:
    return 0 if before is None else before.shown


def _distance(hit: Hit) -> float:
    assert hit.distance is not None  # what a search by meaning found has one
    return hit.distance
