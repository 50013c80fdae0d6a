"""The steps of a plan, as data: what each does, the lock it takes, and how to reverse it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everindex.index.spec import IndexSpec

ONLINE = "SHARE UPDATE EXCLUSIVE on the table: reads and writes continue"
MOMENT = "ACCESS EXCLUSIVE for a moment, retried with a short lock timeout so that no session waits long behind it"
DropReason = Literal["invalid", "left-over", "duplicate", "previous", "displaced", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForBuild:
    """Another backend is building this index: wait for it to finish."""

    schema: str
    name: str
    pid: int

    lock = "none"
    reverse = "nothing to reverse"

    @property
    def sentence(self) -> str:
        return f"wait for pid {self.pid}, which is building index {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex:
    """DROP INDEX CONCURRENTLY of an index that serves no search and is no longer needed."""

    schema: str
    name: str
    why: DropReason
    definition: str
    """Its CREATE INDEX, as pg_get_indexdef prints it."""

    is_partitioned: bool = False

    @property
    def lock(self) -> str:
        # PostgreSQL: DROP INDEX CONCURRENTLY does not take the index of a partitioned table.
        return MOMENT if self.is_partitioned else ONLINE

    @property
    def reverse(self) -> str:
        return self.definition

    @property
    def sentence(self) -> str:
        reasons = {
            "invalid": "which is INVALID: an interrupted build left it",
            "left-over": "which an interrupted rebuild left",
            "duplicate": "a duplicate: every write maintains it, and no search needs it",
            "previous": "the previous generation, whose retention time has passed",
            "displaced": "the previous generation: only one is kept, and the current one takes its place",
            "superseded": "a generation that is no longer wanted",
        }
        return f"drop index {self.name}, {reasons[self.why]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """An index with the declared definition has another name: it gets the declared one, and nothing is built."""

    schema: str
    old: str
    new: str
    is_hidden: bool = False
    """True for a previous generation that must be shown to the planner again."""

    lock = "SHARE UPDATE EXCLUSIVE on the index, for a moment"

    @property
    def reverse(self) -> str:
        return f"rename index {self.new} to {self.old}"

    @property
    def sentence(self) -> str:
        return f"rename index {self.old}, which is as declared, to {self.new}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """CREATE INDEX CONCURRENTLY; on a table without rows the plain statement, which takes no time."""

    spec: IndexSpec
    """The index to build, with its name and table; for a partition, those of the partition."""

    is_online: bool
    estimated_rows: int
    dimensions: int

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def lock(self) -> str:
        return ONLINE if self.is_online else "SHARE on the empty table: writers wait for a moment"

    @property
    def reverse(self) -> str:
        return f"drop index {self.spec.name}"

    @property
    def sentence(self) -> str:
        how = "online" if self.is_online else "without waiting: the table is empty"
        return f"build index {self.spec.name} on {self.spec.schema}.{self.spec.table}, {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOnParent:
    """CREATE INDEX ON ONLY a partitioned table: no data, and not valid until every partition is attached."""

    spec: IndexSpec
    lock = "SHARE on the partitioned table, for a moment, retried with a short lock timeout"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def reverse(self) -> str:
        return f"drop index {self.spec.name}"

    @property
    def sentence(self) -> str:
        return f"create index {self.spec.name} on the partitioned table {self.spec.schema}.{self.spec.table} only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """ALTER INDEX … ATTACH PARTITION; the last one makes the parent's index valid."""

    parent_schema: str
    parent: str
    child_schema: str
    child: str
    lock = MOMENT

    @property
    def name(self) -> str:
        return self.child

    @property
    def reverse(self) -> str:
        return f"not possible alone: PostgreSQL cannot detach an index; dropping {self.parent} drops both"

    @property
    def sentence(self) -> str:
        return f"attach index {self.child} to {self.parent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindex:
    """REINDEX INDEX CONCURRENTLY of the INVALID index of a partition, which is attached and so cannot be dropped."""

    schema: str
    name: str
    lock = ONLINE
    reverse = "nothing to reverse: the definition stays the same"

    @property
    def sentence(self) -> str:
        return f"rebuild index {self.name}, which is INVALID and attached, in its place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Tests that the new generation is usable and accurate, before it takes over."""

    name: str
    floor: float
    lock = "ACCESS SHARE; if the role may not hide the old generation, ACCESS EXCLUSIVE for moments"
    reverse = "nothing to reverse"

    @property
    def sentence(self) -> str:
        return f"prove index {self.name}: the planner can use it, and recall@10 is at least {self.floor:.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Gives the new generation the name; the old one is kept for a rollback. One short transaction."""

    schema: str
    serving: str
    successor: str
    previous: str
    keep_seconds: float
    lock = "SHARE UPDATE EXCLUSIVE on both indexes, for a moment"
    reverse = "everindex rollback"

    @property
    def name(self) -> str:
        return self.serving

    @property
    def sentence(self) -> str:
        kept = (
            f"kept for {self.keep_seconds / 86400:.1f} days as {self.previous}" if self.keep_seconds else "then dropped"
        )
        return f"swap: {self.successor} takes the name {self.serving}; the old index is {kept}"


Step = WaitForBuild | DropIndex | Rename | Build | CreateOnParent | Attach | Reindex | Prove | Swap
