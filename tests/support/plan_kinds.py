"""Every kind of plan there is, as data: how its starting state comes about, what is asked for, and what may serve after."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

import scene
from by_hand import run
from everindex.index.catalog.generations import previous_note
from everindex.index.deploy.drop import drop, drop_previous, rollback
from everindex.index.deploy.executor import deploy
from everindex.index.plan.policy import HEAL, MIGRATE, MIGRATE_CHANGED, DeployPolicy
from everindex.index.reporter import Reporter
from everindex.index.spec import BuildPolicy, IndexSpec
from scene import SPEC

OLD = replace(SPEC, m=8, ef_construction=32)
OLDEST = replace(SPEC, m=4, ef_construction=16)
HALF = replace(SPEC, opclass="halfvec_cosine_ops")
#: What cannot reach its floor, and takes over all the same where nothing serves.
COARSE = replace(SPEC, m=4, ef_construction=8, recall_floor=1.0)
OWNER = "owner_of_items"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A starting state and an order; whatever interrupts the order, healing ends with one index of `may_serve`."""

    name: str
    prepare: Callable[[str], None]
    """From `items` or `parts` with rows and no vector index to the starting state."""

    spec: IndexSpec = SPEC
    policy: DeployPolicy = HEAL
    act: Callable[..., Any] = deploy
    heal: Callable[..., Any] = deploy
    may_serve: tuple[IndexSpec, ...] = ()
    """`spec` alone when empty."""

    ends_without: bool = False
    """True where what was asked for is that no index is left."""

    keeps_partitions: bool = False
    rows: int = 300
    role: str | None = None
    """A role without superuser, which owns the table."""

    table: str = "items"
    check: Callable[[str, Kind], None] | None = None
    """What has to be true afterwards, for an index that is not a vector index."""

    @property
    def least_hits(self) -> float:
        """Of an approximate index nearly all rows find themselves; of one that is to miss its floor, some do not."""
        return 0.5 if self.spec == COARSE else 0.9

    def connects_to(self, conninfo: str) -> str:
        return conninfo if self.role is None else make_conninfo(conninfo, user=self.role)

    def do(self, conninfo: str, *, reporter: Reporter | None = None) -> Any:
        """What is asked for."""
        options = {"policy": self.policy} if self.act is deploy else {}
        return self.act(self.connects_to(conninfo), self.spec, reporter=reporter, **options)

    def mend(self, conninfo: str, *, reporter: Reporter | None = None) -> Any:
        """What is done after the interruption, by nobody's hand: the same order, or what the keeper would do."""
        options = {"policy": self.policy if self.act is deploy else HEAL} if self.heal is deploy else {}
        return self.heal(self.connects_to(conninfo), self.spec, reporter=reporter, **options)

    @property
    def serves(self) -> tuple[IndexSpec, ...]:
        return self.may_serve or (self.spec,)


def create(spec: IndexSpec, *, name: str | None = None, table: str | None = None, how: str = "") -> str:
    """CREATE INDEX as somebody writes it by hand."""
    key = "embedding" if spec.key_type == "vector" else f"(embedding::{spec.key_type}({scene.DIMENSIONS}))"
    return (
        f"CREATE INDEX {how} {name or spec.name} ON {table or spec.table} USING hnsw ({key} {spec.opclass}) "
        f"WITH (m = {spec.m}, ef_construction = {spec.ef_construction})"
    )


def nothing(conninfo: str) -> None:
    """The starting state is the table alone."""


def made(*statements: str) -> Callable[[str], None]:
    return lambda conninfo: run(conninfo, *statements)


def deployed(*specs: IndexSpec) -> Callable[[str], None]:
    """Each after the other: the last one serves, the one before is kept."""

    def prepare(conninfo: str) -> None:
        for spec in specs:
            deploy(conninfo, spec, policy=MIGRATE_CHANGED)

    return prepare


def interrupted(statement: str) -> Callable[[str], None]:
    """What CREATE INDEX CONCURRENTLY really leaves when it is ended while it waits."""

    def prepare(conninfo: str) -> None:
        with (
            psycopg.connect(conninfo) as blocker,
            psycopg.connect(conninfo, autocommit=True) as builder,
            contextlib.suppress(psycopg.errors.QueryCanceled),
        ):
            blocker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            blocker.execute("SELECT count(*) FROM pg_class")
            builder.execute("SET statement_timeout = '700ms'")
            builder.execute(statement)
            raise AssertionError("the build was to wait for the blocker")

    return prepare


def both(*prepares: Callable[[str], None]) -> Callable[[str], None]:
    def prepare(conninfo: str) -> None:
        for each in prepares:
            each(conninfo)

    return prepare


def expired(conninfo: str) -> None:
    """The previous generation's time was over an hour ago."""
    deployed(OLD, SPEC)(conninfo)
    note = previous_note(keep_until=datetime.now(UTC) - timedelta(hours=1), is_hidden=True)
    run(conninfo, sql.SQL("COMMENT ON INDEX {} IS {}").format(sql.Identifier(f"{SPEC.name}__prev"), sql.Literal(note)))


def owned(*prepares: Callable[[str], None]) -> Callable[[str], None]:
    """The same with a table that belongs to a role without superuser."""

    def prepare(conninfo: str) -> None:
        both(*prepares)(conninfo)
        run(
            conninfo,
            f"DO $$ BEGIN CREATE ROLE {OWNER} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"GRANT CREATE ON SCHEMA public TO {OWNER}",
            f"ALTER TABLE items OWNER TO {OWNER}",
        )

    return prepare


def partitioned(conninfo: str) -> None:
    """`items` again, as a partitioned table: two partitions, and a third that is partitioned itself."""
    run(
        conninfo,
        "ALTER TABLE items RENAME TO unpartitioned",
        f"CREATE TABLE items (id int, n int DEFAULT 0, embedding vector({scene.DIMENSIONS})) PARTITION BY RANGE (id)",
        "CREATE TABLE part_a PARTITION OF items FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE part_b PARTITION OF items FOR VALUES FROM (100) TO (200)",
        "CREATE TABLE part_c PARTITION OF items FOR VALUES FROM (200) TO (100000) PARTITION BY RANGE (id)",
        "CREATE TABLE part_c1 PARTITION OF part_c FOR VALUES FROM (200) TO (100000)",
        "INSERT INTO items SELECT * FROM unpartitioned",
        "DROP TABLE unpartitioned",
        "ANALYZE items",
    )


INDEX = SPEC.name
KINDS = (
    Kind(name="absent", prepare=nothing),
    Kind(name="absent-migration", prepare=nothing, policy=MIGRATE),
    Kind(name="empty-table", prepare=made("TRUNCATE items"), rows=0),
    Kind(name="invalid", prepare=interrupted(create(SPEC, how="CONCURRENTLY"))),
    Kind(name="drifted", prepare=made(create(OLD))),
    Kind(name="drifted-with-older-previous", prepare=deployed(OLDEST, OLD)),
    Kind(name="drifted-to-another-key", prepare=made(create(SPEC)), spec=HALF),
    Kind(
        name="below-the-floor-for-another-distance",
        prepare=made(create(replace(SPEC, opclass="vector_l2_ops"))),
        spec=COARSE,
    ),
    Kind(
        name="duplicate-beside-another-distance",
        prepare=made(create(replace(SPEC, opclass="vector_l2_ops")), create(SPEC, name="by_hand")),
    ),
    Kind(
        name="drifted-keeping-none",
        prepare=made(create(OLD)),
        spec=replace(SPEC, build=BuildPolicy(keep_previous_seconds=0)),
    ),
    Kind(
        name="drifted-with-unfinished-next",
        prepare=both(made(create(OLD)), interrupted(create(SPEC, name=f"{INDEX}__next", how="CONCURRENTLY"))),
    ),
    Kind(name="drifted-with-superseded-next", prepare=made(create(OLD), create(OLDEST, name=f"{INDEX}__next"))),
    Kind(name="drifted-with-finished-next", prepare=made(create(OLD), create(SPEC, name=f"{INDEX}__next"))),
    Kind(name="next-to-rename", prepare=made(create(SPEC, name=f"{INDEX}__next"))),
    Kind(
        name="hidden-previous-to-rename",
        prepare=both(deployed(SPEC, OLD), made(f"DROP INDEX {INDEX}")),
    ),
    Kind(
        name="invalid-with-previous",
        prepare=both(deployed(SPEC, OLD), made(f"DROP INDEX {INDEX}"), interrupted(create(OLD, how="CONCURRENTLY"))),
    ),
    Kind(name="rebuild", prepare=made(create(SPEC)), policy=replace(HEAL, rebuild_because="measured recall")),
    Kind(name="expired-previous", prepare=expired),
    Kind(
        name="duplicate-and-left-over",
        prepare=both(
            made(create(SPEC), create(SPEC, name="by_hand")),
            interrupted(create(SPEC, name=f"{INDEX}_ccnew", how="CONCURRENTLY")),
        ),
    ),
    Kind(name="duplicate-to-rename", prepare=made(create(SPEC, name="by_hand"), create(SPEC, name="by_hand_2"))),
    Kind(name="drifted-without-superuser", prepare=owned(made(create(OLD))), role=OWNER),
    Kind(name="partitioned", prepare=partitioned, keeps_partitions=True),
    Kind(
        name="partitioned-half-done",
        prepare=both(
            partitioned,
            made(create(SPEC, table="ONLY items"), create(SPEC, name="a_by_hand", table="part_a")),
            made(f"ALTER INDEX {INDEX} ATTACH PARTITION a_by_hand"),
            interrupted(create(SPEC, name="b_by_hand", table="part_b", how="CONCURRENTLY")),
            made(f"ALTER INDEX {INDEX} ATTACH PARTITION b_by_hand"),
        ),
        keeps_partitions=True,
    ),
    Kind(
        name="partitioned-drifted",
        prepare=both(partitioned, made(create(OLD))),
        keeps_partitions=True,
    ),
    Kind(
        name="partitioned-below-the-floor-for-another-distance",
        prepare=both(partitioned, made(create(replace(SPEC, opclass="vector_l2_ops")))),
        spec=COARSE,
        keeps_partitions=True,
    ),
    Kind(name="rollback", prepare=deployed(OLD, SPEC), act=rollback, may_serve=(SPEC, OLD)),
    Kind(name="forget", prepare=deployed(OLD, SPEC), act=drop_previous),
    Kind(name="drop-then-deploy", prepare=deployed(OLD, SPEC), act=drop, may_serve=(SPEC,)),
    Kind(name="drop-then-drop", prepare=deployed(OLD, SPEC), act=drop, heal=drop, ends_without=True),
)
BY_NAME = {kind.name: kind for kind in KINDS}
