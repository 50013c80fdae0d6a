"""The texts of composed statements, each composed once per shape; and running them with parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.pg import roundtrip
from everindex.pg.connections import Connection

#: Clients choose filters, k and pages, and so how many statements there are, 5 kB each; ordinary use needs a few dozen.
MOST_TEXTS = 500


@dataclass(frozen=True, slots=True)
class StatementText:
    """One statement in both placeholder styles."""

    named: str
    """With psycopg's named placeholders."""

    positional: str
    """With libpq's `$1 …`."""

    names: tuple[str, ...]
    """The parameters in that order."""

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows, in one round trip; parameters that the statement does not name are ignored. Raises as
        `roundtrip.run`."""
        return self.run_each(connection, [parameters])[0]

    def run_each(
        self, connection: Connection, parameters: Sequence[Mapping[str, Any]], *, settings: roundtrip.Settings = ()
    ) -> list[list[tuple[Any, ...]]]:
        """The rows for each of `parameters`, in one round trip, with `settings` that hold for it alone."""
        values = [[one[name] for name in self.names] for one in parameters]
        return roundtrip.run_many(connection, settings, self.positional, values)


class StatementTexts:
    """The statements over one state of a table, by shape: composing one takes longer than sending it. At MOST_TEXTS the cache
    starts over."""

    def __init__(self) -> None:
        self._texts: dict[tuple[Any, ...], StatementText] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def of(self, shape: tuple[Any, ...], compose: Callable[[], sql.Composed]) -> StatementText:
        """The statement of this shape, which `compose` makes where it is new."""
        text = self._texts.get(shape)
        if text is None:
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            text = self._texts[shape] = text_of(compose())
        return text


def text_of(composed: sql.Composed) -> StatementText:
    """The text of a composed statement with named placeholders."""
    named = composed.as_string(None)
    return StatementText(named, *roundtrip.positional(named))
