"""What would have to be done? From declaration and observation to typed steps: pure data, no driver, clock or logging."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.errors import ColumnMismatch, IndexDefinitionDiffers, NotMigrated, SpecIllegal
from everindex.index.catalog import Observed
from everindex.index.drift import declared_index, differences
from everindex.index.spec import IndexSpec, check_dimensions
from everindex.index.statements import create_text, rename_text


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForBuild:
    """Another backend is building this very index: wait for it to end. Takes no lock."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropInvalid:
    """DROP INDEX CONCURRENTLY of an index that serves nobody. SHARE UPDATE EXCLUSIVE: readers and writers go on."""

    name: str
    is_ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """CREATE INDEX CONCURRENTLY. SHARE UPDATE EXCLUSIVE: readers and writers go on; reverse: drop."""

    estimated_rows: int
    dimensions: int


Step = WaitForBuild | DropInvalid | Build


def make_plan(spec: IndexSpec, observed: Observed) -> tuple[Step, ...]:
    """The steps from what is there to what is declared; empty when the declared index is there and valid.

    Raises NotMigrated (no table), ColumnMismatch and SpecIllegal (a column that cannot carry the index), and
    IndexDefinitionDiffers when the name belongs to something else that serves: that is never touched here.
    """
    dimensions = _usable_width(spec, observed)
    build = Build(estimated_rows=observed.estimated_rows, dimensions=dimensions)
    found = declared_index(spec, observed)
    if found is None:
        if observed.name_taken_by is not None:
            raise _differs(spec, observed.name_taken_by, "the name belongs to something else")
        return (build,)
    if not found.is_valid:
        if found.builder_pid is not None:
            return (WaitForBuild(pid=found.builder_pid),)
        return (DropInvalid(name=found.name, is_ready=found.is_ready), build)
    differing = differences(spec, found)
    if differing:
        raise _differs(spec, found.definition, "; ".join(differing))
    return ()


def _usable_width(spec: IndexSpec, observed: Observed) -> int:
    if not observed.table_exists:
        raise NotMigrated(
            f"there is no table {spec.schema}.{spec.table} in this database.",
            why="the chain has not been applied here, or to another schema.",
            next_step="run  everindex migrate  first.",
        )
    if observed.column_type is None:
        raise NotMigrated(
            f"table {spec.schema}.{spec.table} has no column {spec.column}.",
            why="revision 8eadb2079747 adds it, and has not been applied here.",
            next_step="run  everindex migrate  first.",
        )
    if observed.column_type != spec.key_type:
        raise ColumnMismatch(
            f"column {spec.table}.{spec.column} has type {observed.column_type}.",
            why=f"opclass {spec.opclass} indexes columns of type {spec.key_type} only.",
            next_step=f"ALTER TABLE {spec.table} ALTER COLUMN {spec.column} TYPE {spec.key_type}(N) "
            f"USING {spec.column}::{spec.key_type}(N)  with the width of your model; nothing was changed here.",
        )
    if observed.is_partitioned:
        raise SpecIllegal(
            f"index {spec.name!r} cannot be built online on the partitioned table {spec.table}.",
            why="PostgreSQL has no CREATE INDEX CONCURRENTLY for a partitioned parent.",
            next_step="create the index on each partition concurrently, then on the parent, which attaches them at once.",
        )
    check_dimensions(spec, observed.dimensions)
    assert observed.dimensions is not None  # check_dimensions refuses None
    return observed.dimensions


def _differs(spec: IndexSpec, found: str, why: str) -> IndexDefinitionDiffers:
    return IndexDefinitionDiffers(
        f"{spec.qualified_name!r} exists with another definition; it was not touched.\n"
        f"  found:    {found}\n  declared: {create_text(spec)}",
        why=f"{why}.",
        next_step=f"rename what bears the name (an index: {rename_text(spec)}), then run the same command again: the "
        "declared index is built beside it; drop the old one when `everindex verify` is content.",
    )
