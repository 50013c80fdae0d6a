"""The plan for a partitioned table: ON ONLY its parents, concurrently on each partition, then attach.

PostgreSQL has no CREATE INDEX CONCURRENTLY for a partitioned parent. Pure: from the observed state to steps.
"""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from everindex.errors import SpecIllegal
from everindex.index.catalog.drift import differences, is_as_declared
from everindex.index.catalog.generations import child_name
from everindex.index.catalog.observed import Observed, ObservedIndex, ObservedPartition
from everindex.index.plan.steps import Attach, Build, CreateOnParent, DropIndex, Reindex, Step, WaitForBuild
from everindex.index.spec import IndexSpec

#: Number of parts that are named in a sentence; the rest are counted.
NAMED = 3


def partition_steps(spec: IndexSpec, observed: Observed, there: ObservedIndex | None) -> list[Step]:
    """The remaining steps until the parent's index `spec.name` (`there`, if it exists) is valid with all its partitions.

    A partition's own index with the declared definition is attached instead of built. Raises SpecIllegal for a foreign table
    among the partitions, which cannot have an index; a foreign table that was added under a valid index is ignored.
    """
    for part in observed.partitions:
        if part.is_foreign and (there is None or not there.is_valid):
            raise SpecIllegal(
                f"index {spec.name!r} cannot be built on the partitioned table {spec.table}.",
                why=f"its partition {part.schema}.{part.table} is a foreign table, which cannot have an index.",
                next_step="detach that partition, or declare the index on the other partitions one by one.",
            )
    steps: list[Step] = []
    if there is None:
        steps.append(CreateOnParent(spec=spec))
    parents: dict[tuple[str, str], tuple[str, int | None]] = {
        (spec.schema, spec.table): (spec.name, None if there is None else there.oid)
    }
    attachments: list[Step] = []
    all_attached = there is not None
    for part in observed.partitions:
        if part.is_foreign:
            continue
        parent_name, parent_oid = parents[part.parent]
        mine, prepared = _index_of(spec, observed, part, parent_oid)
        steps += prepared
        name = _own_name(spec, part) if mine is None else mine.name
        if part.is_partitioned:
            parents[(part.schema, part.table)] = (name, None if mine is None else mine.oid)
        is_attached = mine is not None and parent_oid is not None and mine.parent_oid == parent_oid
        all_attached = all_attached and is_attached
        # Attaching an attached index again makes PostgreSQL check whether the parent is valid by now.
        if not is_attached or not mine or not mine.is_valid:
            attachments.append(
                Attach(parent_schema=part.parent[0], parent=parent_name, child_schema=part.schema, child=name)
            )
    if there is not None and all_attached and not steps:
        attachments = _look_again(spec, observed, there) or attachments
    # The deepest first: an index is attached to its parent when it is complete itself.
    return [*steps, *reversed(attachments)]


def _index_of(
    spec: IndexSpec, observed: Observed, part: ObservedPartition, parent_oid: int | None
) -> tuple[ObservedIndex | None, list[Step]]:
    """The partition's index for this parent, if it has one, and the steps before it can be attached."""
    own_name = _own_name(spec, part)
    target = replace(spec, schema=part.schema, table=part.table, name=own_name)
    fitting = [index for index in part.indexes if is_as_declared(spec, observed, index)]
    # Whatever its m, since a second one cannot be attached.
    attached = [index for index in part.indexes if index.parent_oid is not None and index.parent_oid == parent_oid]
    free = [index for index in fitting if index.parent_oid is None and (index.is_valid or part.is_partitioned)]
    found = next(iter([*attached, *sorted(free, key=lambda index: index.name != own_name)]), None)
    if found is not None:
        if found.is_valid or part.is_partitioned:
            return found, []
        if found.builder_pid is not None:
            return found, [WaitForBuild(schema=part.schema, name=found.name, pid=found.builder_pid)]
        return found, [Reindex(schema=part.schema, name=found.name)]
    if part.is_partitioned:
        return None, [CreateOnParent(spec=target)]
    steps: list[Step] = []
    unfinished = next((index for index in part.indexes if index.name == own_name), None)
    if unfinished is not None and unfinished.builder_pid is not None:
        steps.append(WaitForBuild(schema=part.schema, name=own_name, pid=unfinished.builder_pid))
    elif unfinished is not None:
        steps.append(DropIndex(schema=part.schema, name=own_name, why="invalid", definition=unfinished.definition))
    assert observed.dimensions is not None  # make_plan has checked the column
    steps.append(
        Build(
            spec=target,
            is_online=not part.is_empty,
            estimated_rows=part.estimated_rows,
            dimensions=observed.dimensions,
        )
    )
    return None, steps


def _own_name(spec: IndexSpec, part: ObservedPartition) -> str:
    """The name of the partition's index for this generation: that of an existing one, else the first that no part of another
    generation has. A rebuild on evidence has the same definition as the serving index, whose parts keep their names."""
    attached = {index.name for index in part.indexes if index.parent_oid is not None}
    names = [
        child_name(part.table, spec.name, spec.definition_digest, attempt) for attempt in range(len(part.indexes) + 1)
    ]
    free = [name for name in names if name not in attached]
    there = {index.name for index in part.indexes}
    return next((name for name in free if name in there), free[0])


def broken_parts(observed: Observed, found: ObservedIndex) -> tuple[tuple[ObservedPartition, ObservedIndex], ...]:
    """The partitions whose part of `found` is INVALID, with that part, at any depth: searches read them in full, even if the
    whole is valid (PostgreSQL marks the whole valid when the last part is attached, and never checks again)."""
    parents = {found.oid}
    broken = []
    for part in observed.partitions:  # parents come before their partitions
        for index in part.indexes:
            if index.parent_oid in parents:
                parents.add(index.oid)
                if not index.is_valid:
                    broken.append((part, index))
    return tuple(broken)


def broken_words(observed: Observed, found: ObservedIndex) -> str | None:
    """The same as text for people; None if the index is complete."""
    broken = broken_parts(observed, found)
    if not broken:
        return None
    named = ", ".join(f"{index.name} on {part.schema}.{part.table}" for part, index in broken[:NAMED])
    more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    return (
        f"{'its part' if len(broken) == 1 else 'its parts'} {named}{more} {'is' if len(broken) == 1 else 'are'} INVALID"
    )


def drifted_parts(spec: IndexSpec, observed: Observed, found: ObservedIndex) -> list[tuple[str, str]]:
    """Valid parts of `found` that were built with other options than declared (which does not prevent attaching), a sentence
    and an advice for each. They are not replaced automatically, since the whole serves."""
    parents = {found.oid}
    drifted = []
    for part in observed.partitions:  # parents come before their partitions
        for index in part.indexes:
            if index.parent_oid not in parents:
                continue
            parents.add(index.oid)
            differing = differences(spec, observed, index) if index.is_valid and not part.is_partitioned else []
            if differing:
                name = sql.Identifier(part.schema, index.name).as_string(None)
                drifted.append(
                    (
                        f"its part {index.name} on {part.schema}.{part.table} is not as declared: {'; '.join(differing)}",
                        f"ALTER INDEX {name} SET (m = {spec.m}, ef_construction = {spec.ef_construction}) ; "
                        f"REINDEX INDEX CONCURRENTLY {name} ;",
                    )
                )
    return drifted


def _look_again(spec: IndexSpec, observed: Observed, there: ObservedIndex) -> list[Step]:
    """Steps for an index that is INVALID although all its parts are attached and valid, at any depth: repeating any attachment
    makes PostgreSQL check again."""
    wholes = [(spec.schema, there)]
    wholes += [(part.schema, index) for part in observed.partitions for index in part.indexes if part.is_partitioned]
    again: list[Step] = []
    for schema, whole in wholes:  # parents before their partitions
        parts = [
            (part.schema, index)
            for part in observed.partitions
            for index in part.indexes
            if index.parent_oid == whole.oid
        ]
        if not whole.is_valid and parts and all(index.is_valid for _, index in parts):
            child_schema, child = parts[0]
            again.append(Attach(parent_schema=schema, parent=whole.name, child_schema=child_schema, child=child.name))
    return again
