"""Results of comparing stored vectors with their texts; a caller passes them to the doctor, which has no model of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from everindex.pg.connections import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedVectors:
    """Counts of vectors in a random sample of one table, without zero vectors and vectors of other models."""

    quoted: str
    """The table."""

    model: str
    recorded: int
    """Compared vectors that are recorded as made by the model."""

    recorded_other: int
    """Of these, the ones that differ from the model's vector of the stored text."""

    declared: int
    """Compared vectors without a record that are declared as made by the model."""

    declared_other: int
    is_remote: bool = False
    """True when a model is declared but nothing was compared, because the model is behind an endpoint."""


#: Compares a sample over a connection; the number is the time limit of each statement, in seconds. None when no model can be
#: compared. Raises EverindexError.
CompareVectors = Callable[[Connection, float], ComparedVectors | None]
