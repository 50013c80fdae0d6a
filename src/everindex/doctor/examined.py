"""One database under examination: its server, its vector indexes and their tables, each read on first use and cached.

Reads only, each statement within a time limit. Cached values are never read again, so later changes go unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql

from everindex.doctor.compared_vectors import ComparedVectors, CompareVectors
from everindex.doctor.details import IndexDetails, TableDetails, read_index_details, read_table_details
from everindex.doctor.sampled import SAMPLED_COLUMNS, ColumnSample, read_sample
from everindex.doctor.stored_settings import MadeSetting, read_stored_settings
from everindex.doctor.vector_objects import VectorTable
from everindex.errors import EverindexError
from everindex.index.catalog.generations import PREVIOUS, next_name
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import Capabilities
from everindex.pg.connections import Connection
from everindex.pg.index_catalog import TABLES_AT_WORK, CatalogIndex, catalog_indexes, indexes_query
from everindex.units import count_text


@dataclass(kw_only=True)
class Examined:
    """A database under examination. Every property is read on first use and cached; all of them only read."""

    connection: Connection
    capabilities: Capabilities
    declared: tuple[IndexSpec, ...] = ()
    """The indexes that the application declares; empty when none are known."""

    max_seconds: float = 2.0
    """Time limit of one statement: a rule that reads rows samples them, and says so."""

    compare_vectors: CompareVectors | None = None
    """Compares stored vectors with their texts; None when the caller has no model."""

    _settings: dict[str, str] = field(default_factory=dict)
    _samples: dict[tuple[int, str], ColumnSample | str] = field(default_factory=dict)
    _timed_out: dict[str, psycopg.Error] = field(default_factory=dict)

    def setting(self, name: str) -> str | None:
        """A server setting as SHOW prints it; None when this server has no setting with that name."""
        if name not in self._settings:
            row = self.connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone()
            self._settings[name] = "" if row is None or row[0] is None else str(row[0])
        return self._settings[name] or None

    def rows(self, statement: str | sql.Composed, parameters: Any = None) -> list[tuple[Any, ...]]:
        """The rows of a reading statement within the time limit. Raises psycopg.Error; the caller of the rule turns it into
        an `unknown` result."""
        key = repr((statement, parameters))
        if key in self._timed_out:
            # If another session held a lock, every rule that runs the same query would wait for the whole time limit.
            raise self._timed_out[key]
        try:
            return self._rows(statement, parameters)
        except psycopg.errors.QueryCanceled as exc:
            self._timed_out[key] = exc
            raise

    def _rows(self, statement: str | sql.Composed, parameters: Any) -> list[tuple[Any, ...]]:
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(
                "SELECT set_config('statement_timeout', %s, true)", (str(int(self.max_seconds * 1000)),)
            )
            self.connection.execute("SET TRANSACTION READ ONLY")
            return self.connection.execute(statement, parameters).fetchall()

    def row(self, statement: str | sql.Composed, parameters: Any = None) -> tuple[Any, ...]:
        """The first row. Raises psycopg.Error as `rows` does, and psycopg.DataError when there is no row."""
        found = self.rows(statement, parameters)
        if not found:
            raise psycopg.DataError("no row")
        return found[0]

    def bytes_of(self, name: str) -> int:
        """A memory or storage setting in bytes, or its special value (-1). Raises psycopg.Error when this server has no such
        setting."""
        return int(self.row("SELECT pg_catalog.pg_size_bytes(current_setting(%s))", (name,))[0])

    def number_of(self, name: str) -> float:
        """A numeric setting. Raises psycopg.Error when this server has no such setting."""
        return float(self.row("SELECT current_setting(%s)", (name,))[0])

    def is_default(self, name: str) -> bool:
        """True when the value is PostgreSQL's default: neither the server's files nor the database, role or connection set it."""
        found = self.rows(
            "SELECT source IN ('default', 'override') FROM pg_catalog.pg_settings WHERE name = %s", (name,)
        )
        return bool(found and found[0][0])

    @cached_property
    def stored_settings(self) -> tuple[MadeSetting, ...]:
        """The settings that ALTER ROLE … SET and ALTER DATABASE … SET store for this database."""
        return read_stored_settings(self.rows, self.capabilities.database)

    @cached_property
    def now(self) -> datetime:
        """The server's time, with its zone."""
        found: datetime = self.row("SELECT now()")[0]
        return found

    @cached_property
    def sees_other_sessions(self) -> bool:
        """Whether this role may see the activity of other roles' sessions; without that privilege their columns are NULL."""
        return bool(self.row("SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")[0])

    @cached_property
    def library_settings(self) -> frozenset[str]:
        """The names of the settings that the loaded pgvector knows, such as hnsw.ef_search; empty without pgvector.

        Uses the type so that the library is loaded: until then every name with a dot is a placeholder that takes any value.
        """
        schema = self.capabilities.extension_schema
        if schema is None:
            return frozenset()
        self.rows(sql.SQL("SELECT {}").format(sql.SQL("'[1]'::{}").format(sql.Identifier(schema, "vector"))))
        self._settings.clear()
        return frozenset(
            row[0]
            for row in self.rows(
                "SELECT name FROM pg_catalog.pg_settings WHERE name ~ '^(hnsw|ivfflat)[.]' ORDER BY name"
            )
        )

    @cached_property
    def tables(self) -> tuple[VectorTable, ...]:
        """Every table with a vector column outside the system schemas, by name."""
        return tuple(
            VectorTable(
                oid=row[0],
                schema=row[1],
                name=row[2],
                column=row[3],
                column_type=row[4],
                dimensions=row[5],
                relkind=row[6],
                is_partition=row[7],
                estimated_rows=row[8],
            )
            for row in self.rows(
                """
                SELECT c.oid, n.nspname, c.relname, a.attname, t.typname, nullif(a.atttypmod, -1), c.relkind::text,
                       c.relispartition, CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END
                FROM pg_catalog.pg_attribute a
                JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
                     AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
                JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector'
                WHERE c.relkind IN ('r', 'p', 'm') AND NOT a.attisdropped AND a.attnum > 0
                  AND c.relpersistence <> 't'
                ORDER BY n.nspname, c.relname, a.attnum
                """
            )
        )

    @cached_property
    def indexes(self) -> tuple[CatalogIndex, ...]:
        """Every hnsw and ivfflat index of the database, by table and name."""
        rows = self.rows(
            indexes_query(
                "am.amname IN ('hnsw', 'ivfflat') AND c.relpersistence <> 't'",
                "key",
                "size_bytes",
                "is_in_progress",
                "is_first_build_in_progress",
            )
        )
        return tuple(sorted(catalog_indexes(rows), key=lambda index: (index.table_schema, index.table, index.name)))

    def table_of(self, index: CatalogIndex) -> VectorTable | None:
        """The table of an index if its column has a vector type, else None."""
        found = [table for table in self.tables if table.oid == index.table_oid]
        return next((table for table in found if table.column == index.column), found[0] if found else None)

    @cached_property
    def settled_indexes(self) -> tuple[CatalogIndex, ...]:
        """The valid indexes, without generations that are being tested or kept for a rollback."""
        proven = {next_name(spec.name) for spec in self.declared}
        return tuple(
            index
            for index in self.indexes
            if index.is_valid and index.name not in proven and PREVIOUS not in (index.comment or "")
        )

    @cached_property
    def heaps(self) -> tuple[VectorTable, ...]:
        """Every table that stores rows itself (not partitioned ones), once, with the first of its vector columns."""
        return tuple({table.oid: table for table in reversed(self.tables) if table.relkind != "p"}.values())[::-1]

    @cached_property
    def table_details(self) -> dict[int, TableDetails]:
        """Storage, options and counters of every table of `tables`, by oid."""
        return read_table_details(self.rows, sorted({table.oid for table in self.tables}))

    @cached_property
    def index_details(self) -> dict[int, IndexDetails]:
        """Key, element type and counters of every index of `indexes`, by oid."""
        return read_index_details(self.rows, [index.oid for index in self.indexes])

    @cached_property
    def counting_since(self) -> datetime | None:
        """The time at which this server started to count scans and updates of this database; None when it does not say.

        pg_stat_database.stats_reset is NULL until the statistics are reset, and again after a crash; a crash also resets the
        counters that all databases share, so their reset is the earliest possible start.
        """
        since = self.row(
            """
            SELECT greatest((SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = current_database()),
                            (SELECT stats_reset FROM pg_catalog.pg_stat_bgwriter))
            """
        )[0]
        return since if since is None else datetime.fromisoformat(str(since))

    @property
    def counted_seconds(self) -> float | None:
        """For how long this server has counted; None when it does not say."""
        return None if self.counting_since is None else (self.now - self.counting_since).total_seconds()

    @cached_property
    def tables_at_work(self) -> frozenset[int]:
        """Tables on which a session builds, reindexes, drops or vacuums. Every role sees the lock, only some see the
        progress."""
        return frozenset(row[0] for row in self.rows(TABLES_AT_WORK))

    @cached_property
    def compared_vectors(self) -> ComparedVectors | None:
        """A sample of the article table's vectors, compared with the vectors of their texts; None when nothing can be
        compared. Raises EverindexError."""
        if self.compare_vectors is None or not any(spec.table == "articles" for spec in self.declared):
            return None
        return self.compare_vectors(self.connection, self.max_seconds)

    @property
    def extension_schema(self) -> str:
        """The schema of pgvector's types and functions."""
        return self.capabilities.extension_schema or "public"

    def of_pgvector(self, name: str) -> str:
        """The quoted name of a pgvector type, function or opclass, qualified with the extension's schema."""
        return sql.Identifier(self.extension_schema, name).as_string(None)

    def indexes_on(self, table: VectorTable) -> tuple[CatalogIndex, ...]:
        """The vector indexes on the table's vector column, directly or in an expression, valid or not."""
        return tuple(
            index
            for index in self.indexes
            if index.table_oid == table.oid and table.column in self.index_details[index.oid].columns
        )

    @cached_property
    def indexed_tables(self) -> tuple[VectorTable, ...]:
        """Vector columns with a vector index, without those of partitioned tables, which hold no row themselves."""
        return tuple(table for table in self.tables if table.relkind != "p" and self.indexes_on(table))

    @cached_property
    def declared_indexes(self) -> tuple[tuple[IndexSpec, str, Observed | str], ...]:
        """Each declared index with its quoted name, and the state of its table, or the reason why that could not be read."""
        found: list[tuple[IndexSpec, str, Observed | str]] = []
        for spec in self.declared:
            about = sql.Identifier(spec.schema, spec.name).as_string(None)
            try:
                found.append((spec, about, observe(self.connection, spec)))
            except EverindexError as exc:
                found.append((spec, about, f"declared index {about}: {exc.what} {exc.why}"))
        return tuple(found)

    def samples(self, tables: Iterable[VectorTable]) -> Iterator[tuple[VectorTable, ColumnSample | str]]:
        """A sample of each column, the largest tables first, or the reason why there is none. A table that is forbidden,
        locked or slow does not affect the others; all columns beyond SAMPLED_COLUMNS yield one result, named after the
        largest of their tables. A lost connection raises psycopg.Error."""
        left_out = []
        for table in sorted(tables, key=lambda table: -(table.estimated_rows or 0)):
            key = (table.oid, table.column)
            if key not in self._samples and len(self._samples) >= SAMPLED_COLUMNS:
                left_out.append(table)
                continue
            if key not in self._samples:
                self._samples[key] = self._sample(table)
            yield table, self._samples[key]
        if left_out:
            yield (
                left_out[0],
                f"not sampled: {count_text(len(left_out), 'column')}, the largest in {left_out[0].quoted}; "
                f"at most {SAMPLED_COLUMNS} columns are sampled",
            )

    def _sample(self, table: VectorTable) -> ColumnSample | str:
        try:
            sample = read_sample(self.rows, table, extension_schema=self.extension_schema)
        except psycopg.Error as exc:
            if self.connection.closed:
                raise
            why = exc.diag.message_primary or type(exc).__name__
            return f"table {table.quoted} could not be sampled: {why}"
        if sample.rows == 0 and table.estimated_rows:
            return f"the sample of table {table.quoted} has no rows (because of row security or old statistics)"
        return sample
