"""Names of the indexes that REINDEX CONCURRENTLY creates and, if it fails, leaves behind INVALID."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: PostgreSQL, ReindexRelationConcurrently: `_ccnew` while the new one is built, `_ccold` for the one it has replaced, with
#: a number where that name is taken.
_SUFFIX = re.compile(r"_cc(new|old)\d*$")


@dataclass(frozen=True, slots=True)
class ReindexLeftover:
    """The information in the name of such an index."""

    index: str
    """The name of the index that was rebuilt, truncated if it was long."""

    kind: Literal["new", "old"]
    """new: it was never finished, and the index still serves; old: it was never dropped, and its successor serves."""


def reindex_leftover(name: str) -> ReindexLeftover | None:
    """Parses the name of a leftover of REINDEX CONCURRENTLY; None for any other name."""
    match = _SUFFIX.search(name)
    if match is None:
        return None
    return ReindexLeftover(name[: match.start()], "new" if match[1] == "new" else "old")
