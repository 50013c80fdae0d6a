"""What a comparison of stored vectors with their texts has found, as it is passed to the doctor: it has no model of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from everindex.pg.connections import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedVectors:
    """Counts of a random sample of one table, in vectors; zero vectors and those of other models left out."""

    quoted: str
    """The table."""

    model: str
    recorded: int
    """Compared, and recorded as made by the model."""

    recorded_other: int
    """Of these, not the vector that the model gives the text that is stored."""

    declared: int
    """Compared, without a record, and declared as made by the model."""

    declared_other: int
    is_remote: bool = False
    """Declared, and nothing of it compared: the model is behind an endpoint."""


#: Compares a sample over a connection, no statement of it longer than so many seconds; None where no model can be compared.
#: Raises EverindexError.
CompareVectors = Callable[[Connection, float], ComparedVectors | None]
