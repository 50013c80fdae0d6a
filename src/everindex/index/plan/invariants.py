"""The invariants of every plan, and their check: a plan that breaks one is a bug in the planner and is never executed.

1. A valid index is dropped only while another one serves under the declared name, or after an earlier step made one serve.
2. The serving index gives up its name only to a successor that has been proven (in this plan, earlier in this deploy, or by
   having served before), or to a valid index with the declared definition.
3. Before anything is built under the name of an INVALID index, that index is dropped, or the plan waits for its builder.
4. One build at a time: steps are taken one by one, and a plan builds each index once.
5. If another backend is building an index, the plan waits for it and never drops it.
6. An index made by others is dropped as a duplicate, or gets the declared name, only if the policy allows it.
7. An index is dropped once, and no later step uses it.
8. A part of a partitioned index is never dropped alone: PostgreSQL refuses that, and its parent needs it.

Two properties need the catalog after the last step and are not checked here: planning again gives no steps, and after an
interruption at any step the next deploy reaches the same end. tests/campaigns/index/test_plan_properties.py checks them on a
server.
"""

from __future__ import annotations

from collections.abc import Sequence

from everindex.errors import InternalError
from everindex.index.plan.policy import DeployPolicy
from everindex.index.plan.situation import Situation
from everindex.index.plan.steps import Build, CreateOnParent, DropIndex, Prove, Rename, Step, Swap, WaitForBuild


def check_invariants(
    situation: Situation, steps: Sequence[Step], *, policy: DeployPolicy, proven: frozenset[int]
) -> None:
    """Raises InternalError for steps that break an invariant. Linear in steps and indexes."""
    broken = broken_invariant(situation, steps, policy=policy, proven=proven)
    if broken is not None:
        raise InternalError(
            f"the plan of index {situation.spec.qualified_name} is wrong: {broken}.",
            why="the planner broke one of its own invariants for the observed state; this is a bug in everindex.",
            next_step="nothing was changed. Report it with the output of  everindex doctor --json .",
        )


def broken_invariant(
    situation: Situation, steps: Sequence[Step], *, policy: DeployPolicy, proven: frozenset[int]
) -> str | None:
    """The first invariant that the steps break, in words; None if they break none. Pure."""
    spec, observed = situation.spec, situation.observed
    found = {(spec.schema, index.name): index for index in observed.indexes}
    found |= {(part.schema, index.name): index for part in observed.partitions for index in part.indexes}
    is_served = situation.serves
    proofs: set[str] = set()
    gone: set[tuple[str, str]] = set()
    dropped: set[int] = set()
    waited: set[tuple[str, str]] = set()
    built: set[tuple[str, str]] = set()
    for step in steps:
        match step:
            case WaitForBuild(schema=schema, name=name):
                waited.add((schema, name))
                # Whatever the result of that build, the following steps are planned again before they run.
                is_served = is_served or name == spec.name
            case DropIndex(schema=schema, name=name, why=why):
                index = found.get((schema, name))
                if index is None or (schema, name) in gone:
                    return f"it drops {name}, which does not exist"
                if index.builder_pid is not None:
                    return f"it drops {name}, which pid {index.builder_pid} is building"
                if index.is_valid and not is_served:
                    return f"it drops {name}, which is valid, before another index serves"
                if name == spec.name and index.is_valid:
                    return f"it drops {name}, which serves"
                if index.parent_oid is not None and index.parent_oid not in dropped:
                    return f"it drops {name}, which is attached to a partitioned index"
                if why == "duplicate" and not policy.takes_others:
                    return f"it drops {name}, which others made"
                gone.add((schema, name))
                dropped.add(index.oid)
            case Build() | CreateOnParent():
                place = (step.spec.schema, step.spec.name)
                if place in built:
                    return f"it builds {step.spec.name} twice"
                if place in found and place not in gone and place not in waited:
                    return f"it builds {step.spec.name}, which already exists"
                built.add(place)
                gone.discard(place)
                is_served = is_served or step.spec.name == spec.name
            case Prove(name=name):
                proofs.add(name)
            case Rename(schema=schema, old=old):
                if (schema, old) in gone or (schema, old) not in found:
                    return f"it renames {old}, which does not exist"
                if found[schema, old] in situation.duplicates and not policy.takes_others:
                    return f"it renames {old}, which others made"
                if situation.serves:
                    return f"it gives the name of {spec.name}, which serves, to {old}"
                is_served = True
            case Swap(successor=name):
                index = found.get((spec.schema, name))
                others = [situation.restorable, *situation.duplicates]
                is_proven = name in proofs or (index is not None and (index.oid in proven or index in others))
                if not is_proven or not situation.serves:
                    return f"{name} takes over without a proof"
                if index is not None and index in situation.duplicates and not policy.takes_others:
                    return f"{name} takes over, which others made"
                if (spec.schema, name) in gone:
                    return f"{name} takes over but is dropped before"
            case _:
                pass  # Attach and Reindex remove nothing
    return None
