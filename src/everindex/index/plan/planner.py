"""The planner: from a declaration and the observed catalog to typed steps. Pure data; no driver, clock or logging.

Every plan satisfies the invariants of plan/invariants.py, which `make_plan` checks: above all, no serving index is dropped
before its successor is verified, our INVALID leftovers are removed before a build, and after all steps planning again gives
none. A plan does not say how long a step takes, and applies only to the catalog that it was made from (`Plan.digest`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from everindex.errors import IndexDefinitionDiffers
from everindex.index.catalog.drift import differences, index_digest, is_as_declared, is_rejected
from everindex.index.catalog.generations import has_child_name, next_name, previous_name, read_note
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import answers_declared, is_hidden, same_distance
from everindex.index.plan.ddl import create_text, rename_text
from everindex.index.plan.invariants import check_invariants
from everindex.index.plan.partitions import broken_parts, partition_steps
from everindex.index.plan.policy import DeployPolicy
from everindex.index.plan.preconditions import check_column
from everindex.index.plan.situation import Situation, situation_of
from everindex.index.plan.steps import Build, DropIndex, DropReason, Prove, Rename, Step, Swap, WaitForBuild
from everindex.index.spec import IndexSpec
from everindex.pg.reindex_leftovers import reindex_leftover


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps in order, and the state of the catalog that they were made from."""

    spec: IndexSpec
    steps: tuple[Step, ...]
    digest: str
    """Of declaration and catalog; a different digest at the time of applying means a different plan."""

    situation: Situation
    """The situation that it was made from."""

    remarks: tuple[str, ...] = ()
    """What is not done, and why."""


def make_plan(
    spec: IndexSpec,
    observed: Observed,
    *,
    policy: DeployPolicy,
    now: datetime | None = None,
    proven: frozenset[int] = frozenset(),
) -> Plan:
    """The plan from the observed to the declared state; without steps when nothing is left to do.

    `now` decides which previous generations have expired; without it, none. `proven` are the oids of new generations that
    have been proven since they were built. Raises TableNotFound (no table), ColumnMismatch, SpecIllegal and ExtensionTooOld
    (a column or server that cannot have the index), and IndexDefinitionDiffers when the name belongs to something else, or to
    another definition that may not be replaced.
    """
    check_column(spec, observed)
    steps: list[Step] = []
    remarks: list[str] = []
    situation = situation_of(spec, observed)
    current, successor = situation.current, situation.successor
    steps += _left_overs(spec, observed, policy)
    if successor is not None and not successor.is_valid and not successor.is_partitioned:
        steps.append(_wait_or_drop(spec, successor))
        successor = None
    stale: list[Step] = []
    if successor is not None and not is_as_declared(spec, observed, successor):
        stale, successor = _drop_whole(spec, observed, successor, "superseded"), None
    if current is None and observed.name_taken_by is not None:
        raise differs(spec, observed.name_taken_by, "the name belongs to something else")
    if current is None or not situation.serves:
        # If no index has the declared name, even an older declaration's successor may be the only one that serves: drop it last.
        steps += [*_make(situation, successor, policy), *stale]
    else:
        steps += stale
        differing = differences(spec, observed, current)
        if differing and policy.on_drift == "refuse":
            raise differs(spec, current.definition, "; ".join(differing))
        stays = not policy.retry_rejected and is_rejected(spec, observed, current)
        if differing and stays:
            remarks.append(
                f"index {spec.name} is left unchanged ({'; '.join(differing)}): the declared definition was rolled back "
                "or failed its acceptance test here; `everindex deploy` tries it again"
            )
            if successor is not None:
                steps += _drop_whole(spec, observed, successor, "superseded")
            steps += _expired(situation, now if policy.remove_leftovers else None)
        elif differing:
            steps += _replace(situation, current, successor, proven, policy, rebuilds=False)
        elif policy.rebuild_because is not None and not stays:
            steps += _replace(situation, current, successor, proven, policy, rebuilds=True)
        else:
            if current.is_partitioned and (not current.is_valid or broken_parts(observed, current)):
                steps += partition_steps(spec, observed, current)
            if successor is not None:
                steps += _drop_whole(spec, observed, successor, "superseded")
            steps += _expired(situation, now if policy.remove_leftovers else None)
    if policy.takes_others and not remarks:
        taken = {step.old for step in steps if isinstance(step, Rename)}
        taken |= {step.successor for step in steps if isinstance(step, Swap)}
        steps += [
            _drop(spec, index, "duplicate")
            for index in situation.duplicates
            # The index of a partition that is attached to its parent's cannot be dropped alone.
            if index.name not in taken and index.parent_oid is None
        ]
    steps = list(dict.fromkeys(steps))  # two generations with one definition can have the same leftover part
    check_invariants(situation, steps, policy=policy, proven=proven)
    return Plan(
        spec=spec, steps=tuple(steps), digest=_digest(spec, observed), remarks=tuple(remarks), situation=situation
    )


def _make(situation: Situation, successor: ObservedIndex | None, policy: DeployPolicy) -> list[Step]:
    """Steps when no index serves under the declared name: use one that is as declared, otherwise build."""
    spec, observed, current = situation.spec, situation.observed, situation.current
    steps: list[Step] = []
    if current is not None:
        if current.builder_pid is not None:
            return [WaitForBuild(schema=spec.schema, name=current.name, pid=current.builder_pid)]
        steps.append(_drop(spec, current, "invalid"))
    candidates = [
        index
        for index in (successor, situation.restorable, *(situation.duplicates if policy.takes_others else ()))
        if index is not None and is_as_declared(spec, observed, index) and can_serve(observed, index)
    ]
    if candidates:
        chosen = candidates[0]
        steps.append(Rename(schema=spec.schema, old=chosen.name, new=spec.name, is_hidden=is_hidden(chosen)))
        return steps
    return [*steps, *_build(spec, observed, None)]


def _replace(
    situation: Situation,
    current: ObservedIndex,
    successor: ObservedIndex | None,
    proven: frozenset[int],
    policy: DeployPolicy,
    *,
    rebuilds: bool,
) -> list[Step]:
    """Steps when an index serves but must be replaced: build its successor next to it, prove it, and swap."""
    spec, observed, previous, kept = situation.spec, situation.observed, situation.previous, situation.restorable
    steps: list[Step] = []
    name = next_name(spec.name)
    if kept is not None and not rebuilds and is_as_declared(spec, observed, kept):
        # It has served before: it was proven then, and writers have kept it up to date since.
        return [
            *([] if successor is None else _drop_whole(spec, observed, successor, "superseded")),
            _swap(spec, successor=kept.name),
        ]
    if not rebuilds and policy.takes_others and not _is_served_by(spec, observed, current):
        # The index with the declared name serves other searches; one that is as declared already serves under another name.
        beside = [index for index in situation.duplicates if index.parent_oid is None]
        if beside:
            return [
                *([] if successor is None else _drop_whole(spec, observed, successor, "superseded")),
                *([] if previous is None else _wait_or_drop_whole(spec, observed, previous, "displaced")),
                _swap(spec, successor=beside[0].name),
            ]
    if successor is None or not successor.is_valid:
        steps += _build(replace(spec, name=name), observed, successor)
    if successor is None or successor.oid not in proven:
        steps.append(Prove(name=name, floor=spec.recall_floor))
    if previous is not None:
        steps += _wait_or_drop_whole(spec, observed, previous, "displaced")
    return [*steps, _swap(spec, successor=name)]


def _is_served_by(spec: IndexSpec, observed: Observed, current: ObservedIndex) -> bool:
    """Whether the searches of the declaration use `current`, perhaps with another type."""
    return any(answers_declared(replace(spec, opclass=opclass), observed, current) for opclass in same_distance(spec))


def _swap(spec: IndexSpec, *, successor: str) -> Swap:
    return Swap(
        schema=spec.schema,
        serving=spec.name,
        successor=successor,
        previous=previous_name(spec.name),
        keep_seconds=spec.build.keep_previous_seconds,
    )


def can_serve(observed: Observed, kept: ObservedIndex) -> bool:
    """True when a previous generation can take over: it is visible, or the role may make it so."""
    return kept.is_valid or observed.is_superuser


def _build(spec: IndexSpec, observed: Observed, there: ObservedIndex | None) -> list[Step]:
    if observed.is_partitioned:
        return partition_steps(spec, observed, there)
    assert observed.dimensions is not None  # check_column refuses None
    return [
        Build(
            spec=spec,
            is_online=not observed.is_empty,
            estimated_rows=observed.estimated_rows,
            dimensions=observed.dimensions,
        )
    ]


def _left_overs(spec: IndexSpec, observed: Observed, policy: DeployPolicy) -> list[Step]:
    """Drops the leftovers of a failed REINDEX CONCURRENTLY of the declared index, or of a partition's: INVALID and useless."""
    if not policy.remove_leftovers:
        return []
    places = [(spec.schema, observed.indexes), *((part.schema, part.indexes) for part in observed.partitions)]
    return [
        _drop(replace(spec, schema=schema), index, "left-over")
        for schema, indexes in places
        for index in indexes
        if not index.is_valid
        and index.builder_pid is None
        and (leftover := reindex_leftover(index.name)) is not None
        and (not policy.spare_others or leftover.index == spec.name)
        and is_as_declared(spec, observed, index)
    ]


def _wait_or_drop(spec: IndexSpec, found: ObservedIndex, why: DropReason = "invalid") -> Step:
    if found.builder_pid is not None:
        return WaitForBuild(schema=spec.schema, name=found.name, pid=found.builder_pid)
    return _drop(spec, found, why)


def _wait_or_drop_whole(spec: IndexSpec, observed: Observed, found: ObservedIndex, why: DropReason) -> list[Step]:
    if found.builder_pid is not None:
        return [WaitForBuild(schema=spec.schema, name=found.name, pid=found.builder_pid)]
    return _drop_whole(spec, observed, found, why)


def _drop_whole(spec: IndexSpec, observed: Observed, found: ObservedIndex, why: DropReason) -> list[Step]:
    """Drops an index with all its parts. Attached indexes of partitions are dropped with the parent's; parts that were built
    for it but never attached, because the declaration changed during the build, would remain for ever. They are dropped
    first: without the parent they could no longer be recognised."""
    steps: list[Step] = []
    if found.is_partitioned:
        steps += [
            _drop(replace(spec, schema=part.schema), index, "left-over")
            for part in observed.partitions
            for index in part.indexes
            if index.parent_oid is None
            and index.builder_pid is None
            and has_child_name(index.name, part.table)
            and index_digest(index) == index_digest(found)
            and not is_as_declared(spec, observed, index)
        ]
    return [*steps, _drop(spec, found, why)]


def _expired(situation: Situation, now: datetime | None) -> list[Step]:
    spec, observed, previous = situation.spec, situation.observed, situation.previous
    if previous is None:
        return []
    if not previous.is_valid and not previous.is_partitioned and not is_hidden(previous):
        # Left by an interrupted DROP INDEX CONCURRENTLY: it can no longer serve.
        return [_wait_or_drop(spec, previous)]
    if now is None:
        return []
    until = read_note(previous.comment).keep_until
    is_over = until is not None and until <= now
    return _wait_or_drop_whole(spec, observed, previous, "previous") if is_over else []


def _drop(
    spec: IndexSpec,
    found: ObservedIndex,
    why: DropReason,
) -> DropIndex:
    return DropIndex(
        schema=spec.schema,
        name=found.name,
        why=why,
        definition=found.definition,
        is_partitioned=found.is_partitioned,
    )


def _digest(spec: IndexSpec, observed: Observed) -> str:
    return f"{spec.definition_digest}-{observed.digest}"


def differs(spec: IndexSpec, found: str, why: str) -> IndexDefinitionDiffers:
    """The error for a name that belongs to something else, or to another definition."""
    return IndexDefinitionDiffers(
        f"{spec.qualified_name!r} exists with another definition; it was not changed.\n"
        f"  found:    {found}\n  declared: {create_text(spec)}",
        why=f"{why}.",
        next_step=f"run  everindex deploy , which builds the declared index next to it, tests it and swaps the two; or "
        f"rename the existing one yourself (an index: {rename_text(spec)}).",
    )
