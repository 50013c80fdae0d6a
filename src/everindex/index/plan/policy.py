"""The policy of a deploy: what it may do beside building the declared index. Four presets name the ways it is run.

`on_drift` and `remove_leftovers` have no defaults, so that nobody gets them by accident; the rest is off unless asked for. A
policy never permits what the plan's invariants forbid, such as dropping an index that serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

OnDrift = Literal["replace", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployPolicy:
    """What the planner may do, and what it is asked to do again."""

    on_drift: OnDrift
    """A valid index of another definition under the declared name: replaced by a new generation, or an error."""

    remove_leftovers: bool
    """Whether what others left is removed as well: a duplicate is dropped, or takes the declared name where that is free;
    what an interrupted REINDEX left and a previous generation whose time is over are dropped."""

    spare_others: bool = False
    """Whether what others made is left alone, whatever `remove_leftovers` says: on a table of an application that has
    migrations of its own."""

    retry_rejected: bool = False
    """Whether a definition is built again that was rolled back, or that did not reach its recall."""

    rebuild_because: str | None = None
    """Evidence against the serving index, such as a measured recall: it is replaced by one of the same definition."""

    @property
    def takes_others(self) -> bool:
        """Whether an index that others made may be dropped, or take the declared name."""
        return self.remove_leftovers and not self.spare_others


#: `everindex deploy`, `plan` and `tune`: somebody asks for the declared definition now.
DEPLOY = DeployPolicy(on_drift="replace", remove_leftovers=True, retry_rejected=True)

#: `everindex heal`: as DEPLOY, but what was rejected stays rejected.
HEAL = DeployPolicy(on_drift="replace", remove_leftovers=True)

#: The keeper: replicas of two releases declare two definitions, and must not replace each other's.
KEEP = DeployPolicy(on_drift="refuse", remove_leftovers=True)

#: A migration that creates the declared index: it touches nothing else.
MIGRATE = DeployPolicy(on_drift="refuse", remove_leftovers=False)

#: A migration that changes the declared index: MIGRATE, and what serves under its name is replaced.
MIGRATE_CHANGED = replace(MIGRATE, on_drift="replace", retry_rejected=True)
