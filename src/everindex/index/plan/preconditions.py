"""The preconditions of a plan: a table, a column and a server that can have the declared index. Pure; changes nothing."""

from __future__ import annotations

from everindex.errors import ExtensionTooOld, IndexDefinitionDiffers, TableNotFound
from everindex.index.catalog.key import DERIVED, mismatch
from everindex.index.catalog.observed import Observed
from everindex.index.spec import GENERATION_SUFFIXES, OLD_OPCLASSES, IndexSpec, check_dimensions, illegal


def check_column(spec: IndexSpec, observed: Observed) -> None:
    """Raises TableNotFound, ColumnMismatch, SpecIllegal or ExtensionTooOld when the column or the server cannot have it."""
    if spec.name.endswith(GENERATION_SUFFIXES):
        raise illegal(
            spec,
            f"its name ends with {' or '.join(GENERATION_SUFFIXES)}",
            "the generations of a declared index have such names.",
            "choose another index name.",
        )
    if not observed.table_exists:
        raise TableNotFound(
            f"there is no table {spec.schema}.{spec.table} in this database.",
            why=f"{observed.table_is} has that name, and only a table or a materialized view can have an index."
            if observed.table_is
            else "it is misspelt, in another schema or database, or not created yet.",
            next_step=f"correct table and schema in the declaration of index {spec.name}, or create the table first.",
        )
    if spec.column is not None and observed.column_type is None:
        raise TableNotFound(
            f"table {spec.schema}.{spec.table} has no column {spec.column}.",
            why="it is misspelt, or not created yet.",
            next_step=f"correct the column in the declaration of index {spec.name}, or add it to the table first.",
        )
    if spec.expression is None:
        assert observed.column_type is not None  # a spec without expression has a column
        if observed.column_type != spec.key_type and (observed.column_type, spec.key_type) not in DERIVED:
            raise mismatch(spec, observed.column_type)
        if spec.dimensions is not None and observed.dimensions not in (None, spec.dimensions):
            raise mismatch_of_width(spec, observed.dimensions)
    if observed.extension_version is not None and observed.extension_version < (0, 7):
        _require_old_opclass(spec, observed.extension_version)
    if spec.expression is None or observed.dimensions is not None:
        check_dimensions(spec, observed.dimensions)


def _require_old_opclass(spec: IndexSpec, version: tuple[int, ...]) -> None:
    if spec.opclass not in OLD_OPCLASSES:
        raise ExtensionTooOld(
            f"pgvector {'.'.join(map(str, version))} has no opclass {spec.opclass}.",
            why="pgvector 0.7.0 introduced HNSW for halfvec, bit and the l1 distance.",
            next_step="install a newer pgvector on the server and run  ALTER EXTENSION vector UPDATE , "
            "or declare an opclass of type vector.",
        )


def mismatch_of_width(spec: IndexSpec, found: int | None) -> IndexDefinitionDiffers:
    """The error for a column whose dimensions are not the declared ones."""
    return IndexDefinitionDiffers(
        f"column {spec.table}.{spec.column} has {found} dimensions, but {spec.dimensions} are declared.",
        why="vectors with other dimensions come from another model.",
        next_step="correct `dimensions` in the declaration, or change the column to those dimensions; nothing was changed.",
    )
