"""Detachment from a database: everindex's objects are found, shown and dropped; the application's own remain.

Ours are the indexes that everindex built, the lines that it wrote into comments, and the schema `everindex_meta`, which is
dropped last, so that a second run finishes if the first is killed. An index that existed before `everindex attach` remains;
if another generation took its name and it still exists, it serves again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from everindex.errors import DatabaseNotAttached, StatementFailed
from everindex.index.build.operation import wait_for_table
from everindex.index.catalog.adopted import AdoptedIndex, adopted_here, adopted_indexes
from everindex.index.catalog.generations import PREVIOUS, SERVING, aside_name, has_child_name, next_name, previous_name
from everindex.index.catalog.observe import in_search_path
from everindex.index.catalog.set_aside import BEGINNING
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.drop import rollback
from everindex.index.deploy.swap import drop_generation
from everindex.index.journal import BUILT_HERE, JOURNAL
from everindex.index.plan.ddl import comment_statement, drop_statement
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.migrate.standing import read_standing, require_known
from everindex.pg.attachment import read_attachment, write_attachment
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.index_catalog import OF_TABLE_AND_PARTITIONS, CatalogIndex, catalog_indexes, indexes_query
from everindex.pg.locks import advisory_lock, holder_of
from everindex.pg.sqlstate import translate_errors
from everindex.settings import current_settings
from everindex.units import count_text

#: How long to wait for other builders and migrations.
WAIT_SECONDS = 3600.0
_NO_JOURNAL = sql.SQL(
    "(SELECT 0 AS id, '' AS event, '' AS index_schema, '' AS index_name, '{}'::jsonb AS details WHERE false)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSchema:
    """The contents of everindex_meta."""

    tables: tuple[str, ...]
    extensions: tuple[str, ...]
    """pg_prewarm, if everindex created it to warm indexes (index/deploy/warm.py)."""

    @property
    def sentences(self) -> tuple[str, ...]:
        return (
            *(f"drop extension {name}, which everindex created in everindex_meta" for name in self.extensions),
            f"drop schema everindex_meta with its {count_text(len(self.tables), 'table')}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Detachment:
    """What detaching would do."""

    returns: tuple[IndexSpec, ...] = ()
    """The names under which the application's own definition will serve again."""

    drops: tuple[CatalogIndex, ...] = ()
    comments: tuple[CatalogIndex, ...] = ()
    """Indexes of the application whose comment has a line of ours."""

    own: OwnSchema | None = None
    """None when there is no everindex_meta."""

    stays: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.returns or self.drops or self.comments or self.own)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The actions in order, with their SQL."""
        return (
            *(f"let the application's own index {spec.name} serve again instead of ours" for spec in self.returns),
            *(f"drop index: {_drop_text(index)}" for index in self.drops),
            *(f"remove our line from the comment on index {index.schema}.{index.name}" for index in self.comments),
            *(() if self.own is None else self.own.sentences),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return {"steps": list(self.sentences), "stays": list(self.stays), "warnings": list(self.warnings)}


def plan_detach(connection: Connection, declared: Sequence[IndexSpec], *, also: Sequence[str] = ()) -> Detachment:
    """Finds what is ours; `also` are names of other indexes that everindex builds on these tables. Reads only.

    Raises DatabaseNotAttached if everindex's own migrations created the database.
    """
    standing = read_standing(connection)
    attachment = read_attachment(connection)
    own = _own_schema(connection)
    if attachment is None and standing.kind == "unreadable":
        require_known(standing)  # if it is unknown whether our migrations created the database, nothing is dropped
    if attachment is None and standing.kind in ("head", "behind") and own is not None:
        raise DatabaseNotAttached(
            "this database is not attached.",
            why=f"it is at revision {', '.join(standing.current)} of everindex's migrations, which created or adopted its "
            "tables.",
            next_step="`alembic downgrade -1` removes the vector index, `everindex migrate --down base` everything that the "
            "migrations created, with its rows; `everindex attach` stops using the migrations from now on.",
        )
    is_recorded = attachment is not None and attachment.is_recorded
    found = {(index.schema, index.name): index for index in adopted_indexes(connection)}
    returns: list[IndexSpec] = []
    drops: list[CatalogIndex] = []
    comments: dict[tuple[str, str], CatalogIndex] = {}
    stays: list[str] = []
    for declaration in declared:
        spec = in_search_path(connection, declaration)
        here = adopted_here(connection, spec)
        indexes, built_here = _indexes_of(connection, spec)
        there = {(index.schema, index.name): index for index in indexes}
        returned = _returned(here, found, there)
        if returned:
            returns.append(here)
        for key, index in there.items():
            if key in found:
                if _is_of_concern(index, (spec, here), also):
                    is_returned = returned and index.name == here.name
                    stays.append(_told_as_theirs(index, found[key], is_returned=is_returned))
            elif returned and index.name == previous_name(here.name):
                continue  # the application's own, which gets its name back
            elif not _has_our_name(index, (spec, here), also):
                continue
            elif not is_recorded and index.oid not in built_here:
                stays.append(
                    f"index {index.name}: its creator is not recorded; if it was everindex:  {_drop_text(index)}"
                )
            elif index.is_partitioned and any(
                child.parent_oid == index.oid and (child.schema, child.name) in found for child in there.values()
            ):
                stays.append(
                    f"index {index.name}: an index of yours on a partition is attached to it, and would be dropped with it"
                )
            elif not index.is_attached:
                drops.append(index)
        gone = {index.oid for index in drops}
        comments |= {
            key: index
            for key, index in there.items()
            if _words(index) != index.comment and not gone & {index.oid, index.parent_oid}
        }
    return Detachment(
        returns=tuple(returns),
        drops=tuple(drops),
        comments=tuple(comments.values()),
        own=own,
        stays=tuple(stays),
        warnings=tuple(_warnings(connection)),
    )


def detach(
    conninfo: str, declared: Sequence[IndexSpec], *, also: Sequence[str] = (), reporter: Reporter | None = None
) -> Detachment:
    """Removes what `plan_detach` shows, and returns it. Indexes are dropped online, one migration or detachment at a time.

    Raises DatabaseNotAttached, PermissionDenied, LockNotObtained; StatementFailed if an object of others depends on a table of
    everindex_meta.
    """
    reporter = reporter or Reporter()
    with (
        advisory_lock(conninfo, "migrate", wait_seconds=WAIT_SECONDS),
        connect(conninfo, application_name="everindex detach") as connection,
    ):
        lift_time_limits(connection)
        plan = plan_detach(connection, declared, also=also)
        if plan.own is not None:
            write_attachment(connection, "detaching")  # from here on no keeper builds anything
        for spec in plan.returns:
            rollback(conninfo, spec, reporter=reporter, wait_seconds=WAIT_SECONDS)
        # After that, ours is the previous generation.
        now = plan_detach(connection, declared, also=also) if plan.returns else plan
        for index in now.drops:
            _drop(conninfo, connection, declared[0], index, reporter)
        for index in now.comments:
            with translate_errors(f"restoring the comment on index {index.name}"):
                connection.execute(comment_statement(index.schema, index.name, _words(index)))
            reporter.say(f"the comment on index {index.schema}.{index.name} is as it was")
        if now.own is not None:
            drop_schema(connection, now.own)
            reporter.say("dropped schema everindex_meta")
        return plan


def _indexes_of(connection: Connection, spec: IndexSpec) -> tuple[tuple[CatalogIndex, ...], frozenset[int]]:
    """The indexes of the table and of its partitions, that of a partitioned table before its parts, and the oids of those
    of which the journal says that everindex built them."""
    with translate_errors("reading the indexes of the declared tables"):
        has_journal = connection.execute("SELECT to_regclass('everindex_meta.journal') IS NOT NULL").fetchone()
        journal = JOURNAL if has_journal == (True,) else _NO_JOURNAL
        rows = connection.execute(
            sql.SQL("SELECT {built_here}, i.* FROM ({indexes}) AS i ORDER BY NOT i.is_partitioned, i.name").format(
                built_here=BUILT_HERE.format(journal=journal), indexes=sql.SQL(indexes_query(OF_TABLE_AND_PARTITIONS))
            ),
            {"schema": spec.schema, "table": spec.table},
        ).fetchall()
    found = catalog_indexes(row[1:] for row in rows)
    return found, frozenset(index.oid for index, row in zip(found, rows, strict=True) if row[0])


def _has_our_name(index: CatalogIndex, specs: Sequence[IndexSpec], also: Sequence[str]) -> bool:
    names = {
        generation
        for name in (*(spec.name for spec in specs), *also)
        for generation in (name, next_name(name), previous_name(name), aside_name(name))
    }
    return index.name in names or has_child_name(index.name, index.table)


def _is_of_concern(index: CatalogIndex, specs: Sequence[IndexSpec], also: Sequence[str]) -> bool:
    """True for an index that could be mistaken for ours: a vector index, or one with our name."""
    return (
        " USING hnsw " in index.definition or " USING ivfflat " in index.definition or _has_our_name(index, specs, also)
    )


def _returned(
    here: IndexSpec, found: dict[tuple[str, str], AdoptedIndex], there: dict[tuple[str, str], CatalogIndex]
) -> bool:
    """True when a generation of ours replaced an index of the application, which still exists as the previous one."""
    theirs = found.get((here.schema, here.name))
    serving, kept = there.get((here.schema, here.name)), there.get((here.schema, previous_name(here.name)))
    if theirs is None or serving is None or kept is None:
        return False
    return _what(serving.definition) != _what(theirs.definition) == _what(kept.definition)


def _told_as_theirs(index: CatalogIndex, was: AdoptedIndex, *, is_returned: bool) -> str:
    if is_returned or _what(index.definition) == _what(was.definition):
        return f"index {index.name}: it existed before everindex"
    return (
        f"index {index.name}: it existed before everindex, as  {was.definition} ; now it is  {index.definition} , and stays "
        "so until you rebuild it"
    )


def _words(index: CatalogIndex) -> str | None:
    """The text of others in its comment, in which a line of ours is the last one."""
    words, _, last = (index.comment or "").rpartition("\n")
    return (words or None) if last.startswith((PREVIOUS, SERVING, BEGINNING)) else index.comment


def _what(definition: str) -> str:
    """A definition without the name of the index."""
    return definition.partition(" ON ")[2]


def _own_schema(connection: Connection) -> OwnSchema | None:
    with translate_errors("reading schema everindex_meta"):
        row = connection.execute(
            """
            SELECT ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
                         WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') ORDER BY 1),
                   ARRAY(SELECT e.extname::text FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid ORDER BY 1)
            FROM pg_catalog.pg_namespace n WHERE n.nspname = 'everindex_meta'
            """
        ).fetchone()
    return None if row is None else OwnSchema(tables=tuple(row[0]), extensions=tuple(row[1]))


def _warnings(connection: Connection) -> list[str]:
    warnings = []
    keeper = holder_of(connection, "keeper")
    if keeper is not None:
        warnings.append(f"everindex is running here, {keeper}: stop it first, or it may build the index again")
    if current_settings().attached:
        warnings.append("EVERINDEX_ATTACHED is set: unset it, or the next start attaches again")
    return warnings


def _drop(conninfo: str, connection: Connection, spec: IndexSpec, index: CatalogIndex, reporter: Reporter) -> None:
    """Drops an index online; that of a partitioned table under a short lock."""
    deployment = Deployment(conninfo=conninfo, spec=spec, reporter=reporter, deadline=time.monotonic() + WAIT_SECONDS)
    with (
        advisory_lock(conninfo, "build", wait_seconds=WAIT_SECONDS),
        translate_errors(f"dropping index {index.schema}.{index.name}"),
    ):
        wait_for_table(deployment, connection, index.schema, index.table)
        drop_generation(deployment, connection, index.schema, index.name, is_partitioned=index.is_partitioned)
    reporter.say(f"dropped index {index.schema}.{index.name}")


def drop_schema(connection: Connection, own: OwnSchema) -> None:
    """Drops the schema in one transaction, and never with CASCADE, since a view of others on our tables is theirs."""
    try:
        with translate_errors("dropping schema everindex_meta"), connection.transaction():
            for extension in own.extensions:
                connection.execute(sql.SQL("DROP EXTENSION {}").format(sql.Identifier(extension)))
            if own.tables:
                names = sql.SQL(", ").join(sql.Identifier("everindex_meta", table) for table in own.tables)
                connection.execute(sql.SQL("DROP TABLE {}").format(names))
            connection.execute("DROP SCHEMA everindex_meta")
    except StatementFailed as exc:
        cause = exc.__cause__
        if not isinstance(cause, psycopg.errors.DependentObjectsStillExist):
            raise
        detail = (cause.diag.message_detail or exc.why).splitlines()[0]
        raise StatementFailed(
            "schema everindex_meta was not dropped, but the indexes were.",
            why=f"{detail}.",
            next_step="drop or move what depends on it, then run  everindex detach  again.",
        ) from exc


def _drop_text(index: CatalogIndex) -> str:
    return drop_statement(index.schema, index.name, concurrently=not index.is_partitioned).as_string(None)
