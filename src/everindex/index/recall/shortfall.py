"""The shortfall of an index that serves below its recall floor because nothing better could be built: is it current, in words.

The comment on the index has the recall that was measured when it took over (`generations.Shortfall`). It applies to that graph
only, while the floor is above it, and until the keeper has measured enough queries that disagree. Measures nothing.
"""

from __future__ import annotations

from everindex.index.catalog.generations import Shortfall, read_note
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import declared_index
from everindex.index.recall.current import recall_now
from everindex.index.recall.history import graph_of
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.units import count_text

#: Advice for a shortfall.
SHORTFALL_NEXT = (
    "declare a larger m or ef_construction, or a lower recall_floor, and run  everindex deploy ; everindex tune  shows "
    "what would reach the floor"
)


def standing_shortfall(connection: Connection, spec: IndexSpec, observed: Observed) -> Shortfall | None:
    """The shortfall of the declared index; None if it has none, or none was recorded. Reads only."""
    found = declared_index(spec, observed)
    shortfall = None if found is None else read_note(found.comment).shortfall
    if found is None or shortfall is None or shortfall.recall >= spec.recall_floor:
        return None
    if graph_of(connection, found) != shortfall.generation:
        return None
    now = recall_now(connection, spec, observed)
    return None if now.is_enough and now.recall >= spec.recall_floor else shortfall


def shortfall_sentence(spec: IndexSpec, shortfall: Shortfall) -> str:
    return (
        f"index {spec.name} serves below its floor: recall@{shortfall.k} was {shortfall.recall:.3f} "
        f"({shortfall.low:.3f} to {shortfall.high:.3f}, {count_text(shortfall.queries, 'query', 'queries')}) when "
        "it took over, and the floor is "
        f"{spec.recall_floor:.2f}; nothing better served"
    )
