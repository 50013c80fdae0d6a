"""The situation that a plan starts from: the role of each observed index for one declaration. Pure.

Computed once, before planning. It decides nothing: the planner and the policy determine what happens to each index.
"""

from __future__ import annotations

from dataclasses import dataclass

from everindex.index.catalog.generations import next_name, previous_name
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index, duplicates, is_hidden
from everindex.index.spec import IndexSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One declaration and its existing indexes."""

    spec: IndexSpec
    observed: Observed

    current: ObservedIndex | None
    """The index with the declared name, valid or not."""

    successor: ObservedIndex | None
    """The next generation, whatever its state and definition."""

    previous: ObservedIndex | None
    """The generation that is kept for a rollback, whatever its state."""

    duplicates: tuple[ObservedIndex, ...]
    """Valid indexes with the declared definition under other names."""

    @property
    def serves(self) -> bool:
        """True when the declared name is that of a valid index, or of a partitioned one, whose valid parts serve."""
        return self.current is not None and (self.current.is_valid or self.current.is_partitioned)

    @property
    def restorable(self) -> ObservedIndex | None:
        """The previous generation, if it can take over: it is valid, or we hid it and the role may show it again."""
        if self.previous is None:
            return None
        is_usable = self.previous.is_valid or (is_hidden(self.previous) and self.observed.is_superuser)
        return self.previous if is_usable else None


def situation_of(spec: IndexSpec, observed: Observed) -> Situation:
    """Sorts the observed indexes by their roles."""
    return Situation(
        spec=spec,
        observed=observed,
        current=declared_index(spec, observed),
        successor=_named(observed, next_name(spec.name)),
        previous=_named(observed, previous_name(spec.name)),
        duplicates=tuple(duplicates(spec, observed)),
    )


def _named(observed: Observed, name: str) -> ObservedIndex | None:
    return next((index for index in observed.indexes if index.name == name), None)
