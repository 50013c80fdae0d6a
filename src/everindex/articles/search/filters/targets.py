"""The targets of a filter: the columns and JSON members that its names mean in one table."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass

from psycopg import sql

from everindex.articles.search.filters.filter_errors import shown, wrong
from everindex.articles.table import CollectionTable
from everindex.errors import QueryInvalid

JSON_TYPES = ("json", "jsonb")


@dataclass(frozen=True, slots=True)
class Target:
    """What is compared: a column, or a member of a JSON column."""

    column: str
    """Quoted."""

    name: str
    kind: str
    """Its type, as SQL writes it."""

    members: tuple[str, ...]

    @property
    def as_jsonb(self) -> str:
        """A JSON column as jsonb."""
        return self.column if self.kind == "jsonb" else f"{self.column}::pg_catalog.jsonb"


def find_target(table: CollectionTable, name: str, members: tuple[str, ...], where: str) -> Target:
    """What a name of a filter means in this table. Raises FilterInvalid, which says that it stands at `where`."""
    columns, vector, rest = table.columns, table.spec.vector, table.spec.rest
    column = name
    dotted: list[str] = []
    while column not in columns and "." in column:  # the longest part that is a column
        column, _, last = column.rpartition(".")
        dotted.insert(0, last)
    if column not in columns and rest in columns and column != vector:
        column, dotted = rest, name.split(".")  # where other names of a row are stored
    kind = columns.get(column)
    if kind is None:
        raise _no_column(table, name, where)
    all_members = (*dotted, *members)
    if all_members and kind not in JSON_TYPES:
        raise wrong(
            where, f"{shown(column)} has no members", f"its type is {kind}; members are those of a JSON column.",
            "name the column alone.",
        )  # fmt: skip
    if not all(all_members):
        raise wrong(
            where, "a member without a name", "a dot stands between a JSON column and each of its members.",
            'write it as  {"meta.author": "Ada"}.',
        )  # fmt: skip
    return Target(quoted(column), column, kind, all_members)


@functools.lru_cache(maxsize=1024)
def quoted(column: str) -> str:
    """The name of a column in a statement with psycopg's placeholders."""
    return sql.Identifier(column).as_string(None).replace("%", "%%")


def _no_column(table: CollectionTable, name: str, where: str) -> QueryInvalid:
    if name.partition(".")[0] == table.spec.vector:
        return wrong(
            where, f"{shown(name)} holds the vectors", "vectors are compared by the search itself.",
            "filter by another column; min_similarity excludes rows by their distance.",
        )  # fmt: skip
    known = sorted(table.columns)
    near = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(map(shown, known[:40])) + (", …" if len(known) > 40 else "")
    return wrong(
        where, f"{table.spec.table} has no column {shown(name)}", f"its columns are {listed}.",
        f"did you mean {shown(near[0])}?" if near
        else "correct the name; a member of a JSON column is written column.member.",
    )  # fmt: skip
