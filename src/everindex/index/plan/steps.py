"""The steps of a plan: each as data with what it does, the lock it takes, and how it is reversed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everindex.index.spec import IndexSpec

ONLINE = "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on"
MOMENT = "ACCESS EXCLUSIVE for a moment, asked for again and again with a time limit: nobody waits long behind it"
DropReason = Literal["invalid", "left-over", "duplicate", "previous", "displaced", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForBuild:
    """Another backend is building this very index: wait for it to end."""

    schema: str
    name: str
    pid: int

    lock = "none"
    reverse = "nothing to take back"

    @property
    def sentence(self) -> str:
        return f"wait for pid {self.pid}, which is building index {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex:
    """DROP INDEX CONCURRENTLY of an index that serves no search and has no further use."""

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
        told = {
            "invalid": "which is INVALID: an interrupted build left it",
            "left-over": "which an interrupted rebuild left",
            "duplicate": "a duplicate: writers pay for it, and no search needs it",
            "previous": "the previous generation, whose time is over",
            "displaced": "the previous generation: one is kept, and the one that serves now takes its place",
            "superseded": "a generation that is not wanted any more",
        }
        return f"drop index {self.name}, {told[self.why]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """An index of the declared definition has another name: it gets the declared one, and nothing is built."""

    schema: str
    old: str
    new: str
    is_hidden: bool = False
    """True for a previous generation that has to be shown to the planner again."""

    lock = "SHARE UPDATE EXCLUSIVE on the index, for a moment"

    @property
    def reverse(self) -> str:
        return f"rename index {self.new} to {self.old}"

    @property
    def sentence(self) -> str:
        return f"rename index {self.old}, which is as declared, to {self.new}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """CREATE INDEX CONCURRENTLY; on a table without rows the plain statement, which is done at once."""

    spec: IndexSpec
    """What is built, under which name and on which table; of a partition, that of the partition."""

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
        how = "online" if self.is_online else "at once: the table is empty"
        return f"build index {self.spec.name} on {self.spec.schema}.{self.spec.table}, {how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOnParent:
    """CREATE INDEX ON ONLY a partitioned table: no data, not valid until every partition is attached."""

    spec: IndexSpec
    lock = "SHARE on the partitioned table, for a moment, asked for again and again with a time limit"

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
        return f"none alone: PostgreSQL detaches no index; dropping {self.parent} drops both"

    @property
    def sentence(self) -> str:
        return f"attach index {self.child} to {self.parent}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindex:
    """REINDEX INDEX CONCURRENTLY of the INVALID index of a partition, which is attached and so cannot be dropped."""

    schema: str
    name: str
    lock = ONLINE
    reverse = "nothing to take back: the definition stays"

    @property
    def sentence(self) -> str:
        return f"rebuild index {self.name}, which is INVALID and attached, in its place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """The new generation is usable, and finds what it must, before it takes over."""

    name: str
    floor: float
    lock = "ACCESS SHARE; where the role may not hide the old generation, ACCESS EXCLUSIVE for moments"
    reverse = "nothing to take back"

    @property
    def sentence(self) -> str:
        return f"prove index {self.name}: the planner can use it, recall@10 at least {self.floor:.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """The new generation takes over the name; the old one is kept for a rollback. One short transaction."""

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
        kept = f"kept {self.keep_seconds / 86400:.1f} days as {self.previous}" if self.keep_seconds else "dropped then"
        return f"swap: {self.successor} takes the name {self.serving}; the old one is {kept}"


Step = WaitForBuild | DropIndex | Rename | Build | CreateOnParent | Attach | Reindex | Prove | Swap
