"""What a statement of a migration does to tables and indexes, as data.

Names are as they were written, folded to lower case unless quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name as it was written, with its schema if it had one."""

    schema: str | None
    name: str

    def is_same(self, other: Name) -> bool:
        """Whether both can be the same object: a missing schema matches every one."""
        return (self.name == other.name and None in (self.schema, other.schema)) or self == other

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable:
    table: Name
    vector_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIndex:
    name: Name | None
    table: Name
    method: str
    key: str
    """The text between the parentheses, without spaces, in lower case."""

    predicate: str
    is_concurrent: bool
    if_not_exists: bool
    is_on_only: bool
    """ON ONLY a partitioned table: declares the index, builds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex:
    names: tuple[Name, ...]
    is_concurrent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindex:
    kind: Literal["index", "table", "schema", "database", "system"]
    name: Name | None
    is_concurrent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable:
    tables: tuple[Name, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTable:
    """One action of an ALTER TABLE, or a CLUSTER or VACUUM FULL, which rewrite as well."""

    table: Name
    action: Literal["retype", "drop-column", "add-column", "rewrite", "rename"]
    column: str | None = None
    new_type: str | None = None
    why: str | None = None
    """Of a rewrite: what causes it."""

    new_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameIndex:
    name: Name
    new_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropExtension:
    """DROP EXTENSION vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    is_begin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DoBlock:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Nothing that this check looks at."""


Operation = (
    CreateTable
    | CreateIndex
    | DropIndex
    | Reindex
    | DropTable
    | AlterTable
    | RenameIndex
    | DropExtension
    | Transaction
    | DoBlock
    | Other
)
