"""Comparison and rendering of declared vector indexes for `alembic revision --autogenerate`.

Alembic compares an index by its name, columns and uniqueness. `register()` excludes HNSW indexes from that comparison and
compares their full definition: method, operator class, m and ef_construction, expression, predicate, validity. The generations
that a build or a replacement leaves next to the declared index are never dropped here.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, ops
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Index, MetaData, Table

from everindex.alembic_kit import implementations
from everindex.alembic_kit.engine_address import address_of
from everindex.alembic_kit.found_indexes import as_spec, found_indexes, is_expressible, is_left_over
from everindex.alembic_kit.metadata import declares_vector_index, index_of, name_of, spec_of
from everindex.alembic_kit.operations import AlterVectorIndexOp, CreateVectorIndexOp, DropVectorIndexOp
from everindex.alembic_kit.rendering import VECTOR_TYPES, render_alter, render_create, render_drop, with_vector_imports
from everindex.alembic_kit.schema_translation import translated
from everindex.index.catalog.drift import differences
from everindex.index.catalog.effective_spec import as_tuned
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import declared_index
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from everindex.pg.index_catalog import CatalogIndex

#: A child of Alembic's own logger, so that its findings are shown along with Alembic's.
log = logging.getLogger("alembic.autogenerate.everindex")


@dataclass(slots=True)
class _Run:
    """The findings of one run of autogenerate: collected table by table, evaluated at the end."""

    tables: list[_ComparedTable] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ComparedTable:
    schema: str | None
    """As in Alembic: None for the default schema."""

    name: str
    declared: Table | None
    found: tuple[CatalogIndex, ...]
    ours: frozenset[str]
    """The names that are compared here and not by Alembic."""

    changes: ops.ModifyTableOps


_runs: WeakKeyDictionary[AutogenContext, _Run] = WeakKeyDictionary()


def register() -> None:
    """Adds comparison and rendering to Alembic; calling it again changes nothing.

    There is no entry point for this: a plugin that imports Alembic while Alembic is being imported breaks it (1.18 to 1.20).
    """
    implementations.register()
    if getattr(register, "is_done", False):
        return
    importlib.import_module(VECTOR_TYPES)  # makes SQLAlchemy reflect columns of these types
    for target, priority, function in (
        ("table", DispatchPriority.FIRST, _keep_away),
        ("table", DispatchPriority.LAST, _take_over),
        ("schema", DispatchPriority.LAST, _compare_all),
    ):
        comparators.dispatch_for(target, priority=priority, qualifier="postgresql", subgroup="everindex")(function)
    for operation, renderer in (
        (CreateVectorIndexOp, render_create),
        (AlterVectorIndexOp, render_alter),
        (DropVectorIndexOp, render_drop),
    ):
        renderers.dispatch_for(operation)(renderer)
    for kind in (ops.CreateTableOp, ops.AddColumnOp, ops.AlterColumnOp):
        known = renderers.dispatch(kind)
        renderers.dispatch_for(kind, replace=True)(with_vector_imports(known))
    register.is_done = True  # type: ignore[attr-defined]


def _keep_away(
    context: AutogenContext,
    changes: ops.ModifyTableOps,
    schema: str | None,
    table_name: str,
    conn_table: Table | None,
    metadata_table: Table | None,
) -> PriorityDispatchResult:
    """Runs before Alembic compares a table's indexes: hides the indexes that are compared here, and remembers the table.

    To compare them Alembic would have to read operator classes and casts, which it skips with a warning.
    """
    found: tuple[CatalogIndex, ...] = ()
    if conn_table is not None:
        assert context.connection is not None
        found = found_indexes(context.connection, _schema_here(context, schema), str(table_name))
    ours = {index.name for index in found if is_expressible(index) or is_left_over(index.name)}
    if metadata_table is not None:
        for index in metadata_table.indexes:
            if declares_vector_index(index):
                ours.add(str(name_of(index)))
            else:
                ours.discard(str(name_of(index)))
    run = _runs.setdefault(context, _Run())
    run.tables.append(
        _ComparedTable(
            schema=schema,
            name=str(table_name),
            declared=metadata_table,
            found=found,
            ours=frozenset(ours),
            changes=changes,
        )
    )

    def passes_name(name: object, kind: str, _parents: object) -> bool:
        return kind != "index" or str(name) not in ours

    def passes_object(item: Any, name: object, kind: str, is_reflected: bool, _compared: object) -> bool:
        # The existing index was hidden by its name, so the declared one would be reported as missing and created.
        return kind != "index" or is_reflected or not isinstance(item, Index) or str(name_of(item)) not in ours

    _add_filters(context, passes_name, passes_object)
    return PriorityDispatchResult.CONTINUE


def _take_over(context: AutogenContext, changes: ops.ModifyTableOps, *_: object) -> PriorityDispatchResult:
    """Runs after it: shows them again, and removes the creations of indexes that Alembic considered missing."""
    run = _runs[context]
    _remove_filters(context)
    ours = run.tables[-1].ours
    changes.ops[:] = [change for change in changes.ops if not _is_about(change, ours)]
    return PriorityDispatchResult.CONTINUE


def _add_filters(context: AutogenContext, passes_name: Callable[..., bool], passes_object: Callable[..., bool]) -> None:
    """Excludes what the filters reject from Alembic's comparison, until `_remove_filters`.

    Alembic 1.20 gives a comparator no way to leave an index to another comparator: `include_name` and `include_object` are read
    before the first one runs, and STOP ends the comparison of all indexes and unique constraints of the table. The two
    methods that it calls for each index are public, so these are replaced on this context, and not the lists behind them.
    """
    replaced: Any = context
    names, objects = context.run_name_filters, context.run_object_filters
    replaced.run_name_filters = lambda *asked: names(*asked) and passes_name(*asked)
    replaced.run_object_filters = lambda *asked: objects(*asked) and passes_object(*asked)


def _remove_filters(context: AutogenContext) -> None:
    """Restores the methods of the context's class."""
    del context.run_name_filters, context.run_object_filters


def _is_about(change: MigrateOperation, names: frozenset[str]) -> bool:
    return isinstance(change, ops.CreateIndexOp | ops.DropIndexOp) and str(change.index_name) in names


def _compare_all(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Adds the operations on vector indexes: creations and alterations after the tables' changes, and drops after these.

    So a successor exists before its predecessor is dropped. Only an index whose column or table is dropped is dropped first.
    """
    run = _runs.pop(context, _Run())
    first: list[MigrateOperation] = []
    made: list[MigrateOperation] = []
    dropped: list[MigrateOperation] = []
    for table in run.tables:
        declared = _declared(context, table)
        for spec in declared:
            before, after = _compare_declared(context, table, spec)
            first += before
            made += after
        loses_columns = any(isinstance(change, ops.DropColumnOp) for change in table.changes.ops)
        drops = _drops(context, table, {spec.name for spec in declared})
        (first if loses_columns or table.declared is None else dropped).extend(drops)
    for change in (*first, *made, *dropped):
        _tell(change)
    upgrade_ops.ops[:] = [*first, *upgrade_ops.ops, *made, *dropped]
    return PriorityDispatchResult.CONTINUE


def _tell(change: MigrateOperation) -> None:
    """Logs a line like those of Alembic for its findings."""
    match change:
        case CreateVectorIndexOp(repairs=None):
            log.info("Detected added vector index %r on %r", *change.named, extra={"event": "autogenerate-added"})
        case CreateVectorIndexOp():
            log.info("Detected invalid vector index %r on %r", *change.named, extra={"event": "autogenerate-invalid"})
        case AlterVectorIndexOp():
            log.info(
                "Detected changed vector index %r on %r: %s",
                *change.named,
                "; ".join(change.because),
                extra={"event": "autogenerate-changed"},
            )
        case DropVectorIndexOp():
            log.info("Detected removed vector index %r on %r", *change.named, extra={"event": "autogenerate-removed"})


def _declared(context: AutogenContext, table: _ComparedTable) -> list[IndexSpec]:
    """The declarations on the table that the filters of env.py let through, by name."""
    if table.declared is None:
        return []
    found = {index.name for index in table.found}
    specs = []
    for index in table.declared.indexes:
        spec = spec_of(index)
        if spec is None:
            continue
        spec = replace(spec, schema=_schema_here(context, table.schema))
        reflected = index_of(spec, _stand_in(table)) if spec.name in found else None
        if context.run_object_filters(index, spec.name, "index", False, reflected):
            specs.append(spec)
    return sorted(specs, key=lambda spec: spec.name)


def _compare_declared(
    context: AutogenContext, table: _ComparedTable, spec: IndexSpec
) -> tuple[list[MigrateOperation], list[MigrateOperation]]:
    """The operations for one declared index, before and after the changes of the tables."""
    schema = None if table.declared is None else table.declared.schema
    existing = next((index for index in table.found if index.name == spec.name), None)
    if existing is None:
        return [], [CreateVectorIndexOp(spec, schema=schema)]
    if _column_changes_type(table, spec) and (found := as_spec(existing)) is not None:
        # PostgreSQL would rebuild it under ACCESS EXCLUSIVE, and an index on a cast still with the old dimensions.
        because = ("the type of its column changes",)
        return [DropVectorIndexOp(found, schema=schema, because=because)], [CreateVectorIndexOp(spec, schema=schema)]
    if differing := differing_from(context, spec):
        alteration = AlterVectorIndexOp(
            spec,
            schema=schema,
            existing=_before(spec, existing, differing),
            existing_definition=existing.definition,
            because=tuple(differing),
        )
        return [], [alteration]
    if not existing.is_valid and not existing.is_being_built:
        repairs = "it is INVALID: an interrupted build left it, every write maintains it and no search uses it"
        return [], [CreateVectorIndexOp(spec, schema=schema, repairs=repairs)]
    return [], []


def _column_changes_type(table: _ComparedTable, spec: IndexSpec) -> bool:
    """True when Alembic changes the type of the indexed column; for an expression, that of any column that it names."""
    return any(
        isinstance(change, ops.AlterColumnOp)
        and change.modify_type is not None
        and (change.column_name == spec.column or change.column_name in (spec.expression or ""))
        for change in table.changes.ops
    )


def _before(spec: IndexSpec, existing: CatalogIndex, differing: list[str]) -> IndexSpec | None:
    """The existing definition, with the text of the declaration where it means the same, otherwise with that of the catalog."""
    found = as_spec(existing)
    if found is None:
        return None
    found = replace(
        found, recall_floor=spec.recall_floor, ef_search=spec.ef_search, candidates=spec.candidates, build=spec.build
    )
    if not any(phrase.startswith("predicate is") for phrase in differing):
        found = replace(found, predicate=spec.predicate)
    if not any(phrase.startswith(("column is", "expression is")) for phrase in differing):
        found = replace(found, column=spec.column, expression=spec.expression, dimensions=spec.dimensions)
    return found


def _drops(context: AutogenContext, table: _ComparedTable, declared: set[str]) -> list[MigrateOperation]:
    kept = set() if table.declared is None else {str(name_of(index)) for index in table.declared.indexes}
    changes: list[MigrateOperation] = []
    for index in table.found:
        if index.name in declared | kept or is_left_over(index.name) or index.is_being_built or index.is_attached:
            continue
        spec = as_spec(index)
        if spec is None:
            continue
        names: Any = {"table_name": table.name, "schema_name": table.schema}
        if not context.run_name_filters(index.name, "index", names):
            continue
        if context.run_object_filters(index_of(spec, _stand_in(table)), index.name, "index", True, None):
            because = () if index.is_valid else ("it is INVALID: an interrupted build left it",)
            changes.append(DropVectorIndexOp(spec, schema=table.schema, because=because))
    return changes


def differing_from(context: AutogenContext, spec: IndexSpec) -> list[str]:
    """How the index of that name differs from its declaration, one phrase each. The server compares expressions, since only it
    can tell whether two are the same. A definition that `everindex tune` chose in this database is not a difference."""
    with connect(address_of(context.migration_context), application_name="everindex autogenerate") as connection:
        observed = observe(connection, spec)
        found = declared_index(spec, observed)
        differing = [] if found is None else differences(spec, observed, found)
        if found is None or not differing or (tuned := as_tuned(connection, spec)) == spec:
            return differing
        return differing if differences(tuned, observe(connection, tuned), found) else []


def _stand_in(table: _ComparedTable) -> Table:
    """A separate table object to which an index of the catalog can be attached for the filters of env.py."""
    columns = [] if table.declared is None else [Column(column.name, column.type) for column in table.declared.c]
    return Table(table.name, MetaData(), *columns, schema=table.schema)


def _schema_here(context: AutogenContext, schema: str | None) -> str:
    """The schema in this database of objects that the metadata has in `schema` (None: without one)."""
    named = translated(schema, context.migration_context)
    if named is not None:
        return named
    assert context.connection is not None
    return context.connection.dialect.default_schema_name or "public"
