"""The policy of a deploy: what it may do besides building the declared index. Presets cover the ways in which it is run.

`on_drift` and `remove_leftovers` have no defaults, so that they are always a conscious choice; the rest is off by default. A
policy never permits what the plan's invariants forbid, such as dropping a serving index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

OnDrift = Literal["replace", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployPolicy:
    """What the planner may do, and what it should do again."""

    on_drift: OnDrift
    """A valid index with another definition under the declared name is replaced by a new generation, or is an error."""

    remove_leftovers: bool
    """Whether leftovers are removed as well: a duplicate is dropped, or gets the declared name if that is free; leftovers of an
    interrupted REINDEX and an expired previous generation are dropped."""

    spare_others: bool = False
    """Whether indexes made by others are left alone, whatever `remove_leftovers` says: for tables of an application with its
    own migrations."""

    retry_rejected: bool = False
    """Whether a definition that was rolled back, or that did not reach its recall, is built again."""

    rebuild_because: str | None = None
    """Evidence against the serving index, such as a measured recall: it is replaced by one with the same definition."""

    @property
    def takes_others(self) -> bool:
        """Whether an index that others made may be dropped, or take the declared name."""
        return self.remove_leftovers and not self.spare_others


#: `everindex deploy`, `plan` and `tune`: the user requests the declared definition now.
DEPLOY = DeployPolicy(on_drift="replace", remove_leftovers=True, retry_rejected=True)

#: `everindex heal`: as DEPLOY, but rejected definitions remain rejected.
HEAL = DeployPolicy(on_drift="replace", remove_leftovers=True)

#: The keeper: replicas of two releases may declare two definitions, and must not replace each other's index.
KEEP = DeployPolicy(on_drift="refuse", remove_leftovers=True)

#: A migration that creates the declared index: it touches nothing else.
MIGRATE = DeployPolicy(on_drift="refuse", remove_leftovers=False)

#: A migration that changes the declared index: as MIGRATE, but the index that serves under its name is replaced.
MIGRATE_CHANGED = replace(MIGRATE, on_drift="replace", retry_rejected=True)
