"""The invariants of every plan, and their check: a plan that breaks one is a fault of the planner and is never carried out.

1. A valid index is dropped only while another one serves under the declared name, or after one of an earlier step does.
2. The serving index gives up its name only to a successor that has been proven: in this plan, earlier in this deploy, or by
   having served before; or to a valid index of the declared definition.
3. An INVALID index is dropped, or its builder waited for, before anything is built under its name.
4. One build at a time: steps are taken one by one, and a plan builds each index once.
5. An index that another backend is building is waited for, never dropped.
6. What others made is dropped as a duplicate, or takes the declared name, only where the policy allows it.
7. An index is dropped once, and no later step uses it.
8. A part of a partitioned index is never dropped alone: PostgreSQL refuses that, and its parent needs it.

Not checked here, since it needs the catalog after the last step: planning again is then empty, and whatever step a deploy is
interrupted at, the next one reaches the same end. tests/campaigns/index/test_plan_properties.py does that on a server.
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
            why="the planner broke one of its own invariants for the state that it found; this is a fault of everindex.",
            next_step="nothing was changed. Report it with the output of  everindex doctor --json .",
        )


def broken_invariant(
    situation: Situation, steps: Sequence[Step], *, policy: DeployPolicy, proven: frozenset[int]
) -> str | None:
    """The first invariant that the steps break, in words; None where they keep all of them. Pure."""
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
                # Whatever comes of that build, what follows is planned anew before it is done.
                is_served = is_served or name == spec.name
            case DropIndex(schema=schema, name=name, why=why):
                index = found.get((schema, name))
                if index is None or (schema, name) in gone:
                    return f"it drops {name}, which is not there"
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
                    return f"it builds {step.spec.name}, which is there already"
                built.add(place)
                gone.discard(place)
                is_served = is_served or step.spec.name == spec.name
            case Prove(name=name):
                proofs.add(name)
            case Rename(schema=schema, old=old):
                if (schema, old) in gone or (schema, old) not in found:
                    return f"it renames {old}, which is not there"
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
                    return f"{name} takes over and is dropped before"
            case _:
                pass  # Attach and Reindex take nothing away
    return None
