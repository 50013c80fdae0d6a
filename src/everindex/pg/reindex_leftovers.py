"""Names of the indexes that REINDEX CONCURRENTLY makes and, where it fails, leaves behind INVALID."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: PostgreSQL, ReindexRelationConcurrently: `_ccnew` while the new one is built, `_ccold` for the one it has replaced, with
#: a number where that name is taken.
_SUFFIX = re.compile(r"_cc(new|old)\d*$")


@dataclass(frozen=True, slots=True)
class ReindexLeftover:
    """What the name of such an index says."""

    index: str
    """The index that was rebuilt; where its name was long, as much of it as fitted."""

    kind: Literal["new", "old"]
    """new: it was never finished, and the index still serves; old: it was never dropped, and its successor serves."""


def reindex_leftover(name: str) -> ReindexLeftover | None:
    """What the name of an index says of a REINDEX CONCURRENTLY; None where it has no such name."""
    match = _SUFFIX.search(name)
    if match is None:
        return None
    return ReindexLeftover(name[: match.start()], "new" if match[1] == "new" else "old")
