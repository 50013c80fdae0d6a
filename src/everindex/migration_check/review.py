"""The review of migrations: each statement against what is known of the schema when it would run.

Guarantees that statements are judged in order, each after the effects of those before it. It does not know what procedures,
DO blocks and code of the migration tool do, and says so where it meets one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from everindex.migration_check.ddl import VECTOR_METHODS, VECTOR_TYPES, MigrationStatement, migration_statements
from everindex.migration_check.finding import Level, MigrationFinding
from everindex.migration_check.known_schema import KnownIndex, KnownSchema
from everindex.migration_check.operations import (
    AlterTable,
    CreateIndex,
    CreateTable,
    DoBlock,
    DropExtension,
    DropIndex,
    DropTable,
    Name,
    Operation,
    Other,
    Reindex,
    RenameIndex,
    Transaction,
)
from everindex.units import count_text

_ALLOWED = "If it is meant, write  -- everindex: allow {rule}  before the statement."


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationText:
    """The SQL of a migration."""

    source: str
    text: str
    is_reported: bool = True
    """False for earlier migrations, which are read only for what they create."""

    is_generated: bool = False
    """The SQL of a tool: its line numbers mean nothing to the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The findings of all migrations, in their order."""

    findings: tuple[MigrationFinding, ...]
    statements: int
    sources: tuple[str, ...]

    @property
    def passes(self) -> bool:
        return all(finding.level == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "passes": self.passes,
            "sources": list(self.sources),
            "statements": self.statements,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def review(migrations: Sequence[MigrationText], known: KnownSchema, *, allowed: frozenset[str] = frozenset()) -> Review:
    """Reviews migrations in their order; `known` is changed as they would change the schema. `allowed` are rules that are
    not reported."""
    findings: list[MigrationFinding] = []
    count = 0
    for migration in migrations:
        reader = _Reader(known)
        for statement in migration_statements(migration.text):
            found = list(reader.read(statement))
            if not migration.is_reported:
                known.new_tables.clear()  # what earlier migrations created is in use by now
                continue
            count += 1
            findings += [
                MigrationFinding(
                    rule=rule, level=level, what=what, next_step=next_step, source=migration.source,
                    line=None if migration.is_generated else statement.line, statement=_short(statement.text),
                )
                for rule, level, what, next_step in found
                if rule not in statement.allowed | allowed
            ]  # fmt: skip
    return Review(
        findings=tuple(findings),
        statements=count,
        sources=tuple(migration.source for migration in migrations if migration.is_reported),
    )


_Found = tuple[str, Level, str, str]


@dataclass(slots=True)
class _Reader:
    """The statements of one script: the transaction that is open, and the DO block just before."""

    known: KnownSchema
    in_transaction: bool = False
    guard: str = ""

    def read(self, statement: MigrationStatement) -> Iterator[_Found]:
        for operation in statement.operations:
            yield from self._judge(operation)
            self._follow(operation)

    def _judge(self, operation: Operation) -> Iterator[_Found]:
        match operation:
            case CreateIndex():
                yield from self._create_index(operation)
            case DropIndex():
                yield from self._drop_index(operation)
            case Reindex():
                yield from self._reindex(operation)
            case DropTable():
                for table in operation.tables:
                    yield from self._lost(self.known.indexes_of(table), f"table {table} is dropped")
            case DropExtension():
                yield from self._lost(self.known.indexes, "the extension vector is dropped")
            case AlterTable():
                yield from self._alter(operation)
            case DoBlock():
                yield from self._do(operation)
            case CreateTable() | RenameIndex() | Transaction() | Other():
                return
            case _:
                assert_never(operation)

    def _create_index(self, created: CreateIndex) -> Iterator[_Found]:
        if created.is_concurrent and self.in_transaction:
            yield self._in_transaction("CREATE INDEX CONCURRENTLY")
        if created.method not in VECTOR_METHODS or created.is_on_only:
            return
        name = created.name or "without a name"
        if not created.is_concurrent and not self.known.is_new(created.table):
            yield (
                "blocking-vector-index-build", "error",
                f"this builds vector index {name} blocking: writers of {self._table(created.table)} wait until it is built, "
                "which takes minutes for every million rows",
                "create it with CREATE INDEX CONCURRENTLY outside a transaction, or with op.create_vector_index of the "
                "everindex Alembic kit, which also checks the result.",
            )  # fmt: skip
        if created.is_concurrent and created.if_not_exists and not self._is_guarded(created):
            yield (
                "skips-invalid-index", "warning",
                f"IF NOT EXISTS compares the name alone: if an interrupted build has left {name} INVALID, this does nothing, "
                "reports success, and every search reads the whole table",
                "run  everindex verify  after the migration, or create the index with op.create_vector_index of the everindex "
                "Alembic kit or  everindex deploy , which read the catalog.",
            )  # fmt: skip

    def _is_guarded(self, created: CreateIndex) -> bool:
        """The statement before looked up in the catalog whether an index of this name is valid."""
        return created.name is not None and "indisvalid" in self.guard and created.name.name in self.guard

    def _drop_index(self, dropped: DropIndex) -> Iterator[_Found]:
        if dropped.is_concurrent and self.in_transaction:
            yield self._in_transaction("DROP INDEX CONCURRENTLY")
        for name in dropped.names:
            index = self.known.index(name)
            if index is None:
                if not self.known.has_catalog:
                    yield (
                        "unknown-index", "note",
                        f"it is not known whether {name} is a vector index that serves",
                        "name the migrations that created it as well, or add --database to read the catalog.",
                    )  # fmt: skip
                continue
            if not dropped.is_concurrent and not self.known.is_new(index.table):
                yield (
                    "blocking-vector-index-drop", "error",
                    f"DROP INDEX takes ACCESS EXCLUSIVE on {index.table}: it waits for all running statements, and every search "
                    "and writer waits behind it",
                    "use DROP INDEX CONCURRENTLY outside a transaction.",
                )  # fmt: skip
            yield from self._lost([index], f"index {name} is dropped")

    def _lost(self, indexes: Sequence[KnownIndex], why: str) -> Iterator[_Found]:
        """Indexes that go, of tables that are in use, and that no other one replaces."""
        for index in indexes:
            others = [other for other in self.known.indexes if other not in indexes and other.replaces(index)]
            if others or not index.is_valid or self.known.is_new(index.table):
                continue
            yield (
                "drops-serving-index", "error",
                f"{why}, and no other index serves the searches of {self._table(index.table)} by {index.column or index.key}: "
                "each of them then reads the whole table",
                "build the new index first and drop this one afterwards, or let everindex replace it (a changed declaration, "
                f"then  everindex deploy ). {_ALLOWED.format(rule='drops-serving-index')}",
            )  # fmt: skip

    def _reindex(self, rebuilt: Reindex) -> Iterator[_Found]:
        if rebuilt.is_concurrent:
            if self.in_transaction:
                yield self._in_transaction("REINDEX CONCURRENTLY")
            return
        for index in self.known.indexes:
            is_meant = (
                rebuilt.kind in ("schema", "database", "system")
                or (rebuilt.name is not None and rebuilt.kind == "index" and index.name.is_same(rebuilt.name))
                or (rebuilt.name is not None and rebuilt.kind == "table" and index.table.is_same(rebuilt.name))
            )
            if is_meant and not self.known.is_new(index.table):
                yield (
                    "blocking-reindex", "error",
                    f"REINDEX rebuilds {index.name} under ACCESS EXCLUSIVE: writers of {self._table(index.table)} wait, and so "
                    "do searches that would use it",
                    "use REINDEX INDEX CONCURRENTLY outside a transaction.",
                )  # fmt: skip

    def _alter(self, altered: AlterTable) -> Iterator[_Found]:
        table, indexes = altered.table, self.known.indexes_of(altered.table)
        if self.known.is_new(table):
            return
        match altered.action:
            case "retype":
                yield from self._retype(altered, indexes)
            case "drop-column":
                lost = [index for index in indexes if index.column == altered.column]
                yield from self._lost(lost, f"column {altered.column} of {table} is dropped with its index")
            case "add-column" | "rewrite":
                if altered.why is not None and indexes:
                    yield self._rewritten(table, indexes, altered.why)
            case "rename":
                return

    def _retype(self, altered: AlterTable, indexes: Sequence[KnownIndex]) -> Iterator[_Found]:
        table, column = altered.table, altered.column or ""
        if altered.new_type in VECTOR_TYPES or self.known.is_vector_column(table, column):
            yield (
                "retypes-vector-column", "error",
                f"changing {table}.{column} to {altered.new_type} rewrites {self._table(table)} under ACCESS EXCLUSIVE and "
                "rebuilds its indexes blocking: every search and writer waits",
                "add a column of the new type, fill it in batches, build its index with CONCURRENTLY, and then let the "
                f"application use it. {_ALLOWED.format(rule='retypes-vector-column')}",
            )  # fmt: skip
        elif indexes:
            yield self._rewritten(
                table,
                indexes,
                f"{column} becomes {altered.new_type}, and most changes of a type copy every row",
                level="warning",
            )

    def _rewritten(self, table: Name, indexes: Sequence[KnownIndex], why: str, *, level: Level = "error") -> _Found:
        names = ", ".join(str(index.name) for index in indexes)
        return (
            "rewrites-table", level,
            f"{self._table(table)} is rewritten under ACCESS EXCLUSIVE and {names} rebuilt blocking: {why}",
            "add the column without that clause, fill it in batches and set the default afterwards; for other changes, do it in "
            f"a maintenance window. {_ALLOWED.format(rule='rewrites-table')}",
        )  # fmt: skip

    def _do(self, block: DoBlock) -> Iterator[_Found]:
        if re.search(r"\bexecute\b", block.text) and re.search(r"\b(index|alter table)\b", block.text):
            yield (
                "dynamic-statement", "note",
                "this DO block composes statements about indexes or tables, which cannot be read here",
                "review it by hand, or write the statements out.",
            )  # fmt: skip

    def _in_transaction(self, statement: str) -> _Found:
        return (
            "concurrently-in-transaction", "error",
            f"{statement} cannot run inside a transaction: PostgreSQL refuses it and the migration fails",
            "end the transaction before it; with Alembic, write it inside  with op.get_context().autocommit_block(): .",
        )  # fmt: skip

    def _table(self, table: Name) -> str:
        rows = self.known.rows_of(table)
        return f"{table} ({count_text(rows, 'row')})" if rows else str(table)

    def _follow(self, operation: Operation) -> None:
        """Changes what is known as the statement would change it."""
        known = self.known
        self.guard = operation.text if isinstance(operation, DoBlock) else ""
        match operation:
            case CreateTable(table=table, vector_columns=columns):
                known.new_tables.append(table)
                known.vector_columns += [(table, column) for column in columns]
            case CreateIndex() if operation.method in VECTOR_METHODS:
                known.add_index(operation)
            case DropIndex(names=names):
                for name in names:
                    known.remove_index(name)
            case DropTable(tables=tables):
                for table in tables:
                    known.remove_table(table)
            case DropExtension():
                known.indexes.clear()
                known.vector_columns.clear()
            case RenameIndex(name=name, new_name=new_name):
                known.rename_index(name, new_name)
            case Transaction(is_begin=is_begin):
                self.in_transaction = is_begin
            case AlterTable():
                self._follow_table(operation)
            case _:
                return

    def _follow_table(self, altered: AlterTable) -> None:
        known, table = self.known, altered.table
        match altered.action:
            case "rename" if altered.new_name is not None:
                known.rename_table(table, altered.new_name)
            case "drop-column":
                known.indexes = [
                    index
                    for index in known.indexes
                    if not (index.table.is_same(table) and index.column == altered.column)
                ]
                known.vector_columns = [
                    each for each in known.vector_columns if not (each[0].is_same(table) and each[1] == altered.column)
                ]
            case "add-column" | "retype" if altered.new_type in VECTOR_TYPES and altered.column is not None:
                known.vector_columns.append((table, altered.column))
            case _:
                return


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"
