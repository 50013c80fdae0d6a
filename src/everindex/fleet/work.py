"""The work on one target: what each verb does there, and what the catalog and the measurements say afterwards.

It uses what the single commands use, and raises what they raise; `rollout` turns that into results.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from everindex.articles.collections.registry import all_collections
from everindex.articles.verification import verify as verify_collection
from everindex.errors import DeployStopped, UsageError
from everindex.fleet.condition import Condition
from everindex.fleet.results import CHANGING, Verb
from everindex.fleet.targets import Target
from everindex.fleet.tenants import TENANT_INDEXES, TENANT_ROWS, deploy_tenant, read_tenants
from everindex.index.catalog.index_parts import size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import declared_index, previous_generation
from everindex.index.deploy import drop as dropping
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.preview import preview_plan
from everindex.index.plan.policy import DEPLOY, HEAL
from everindex.index.recall.proof import Proof
from everindex.index.recall.verify import note_of_shortfall, prove_all, prove_index
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.migrate import runner
from everindex.migrate.standing import prove_revision, read_standing
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.units import count_text

#: How often a target that waits for another one looks whether it should stop.
POLL_SECONDS = 0.1

#: Alembic keeps the migration that runs in global variables (alembic.context, alembic.op): one at a time in a process.
_ALEMBIC = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What to do on every target."""

    verb: Verb
    declared: Callable[[Connection], Sequence[IndexSpec]]
    """The declared indexes of the database that is connected."""

    is_ours: bool = True
    """Whether the databases have articles and collections; otherwise they are those of another application."""

    floor: float = 0.95
    is_floor_requested: bool = False
    samples: int = 50
    max_seconds: float = 10.0
    verifies: bool = True
    """Whether deploy and heal end with a verification, whose recall counts."""

    lock_wait_seconds: float = 60.0
    give_up_after_seconds: float | None = None
    patience_seconds: float | None = None
    tenant_rows: int = TENANT_ROWS
    tenant_indexes: int = TENANT_INDEXES


@dataclass(slots=True, kw_only=True)
class Work:
    """One target while it is worked on, and what came of it so far."""

    orders: Orders
    target: Target
    condition: Condition
    stop: threading.Event
    building: threading.Lock = field(default_factory=threading.Lock)
    """Held while anything is changed: one for all targets of a real server."""

    waited_seconds: float = 0.0
    """For `building`, and for another migration of this process."""

    did: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    plans: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    digest: str | None = None
    vector_indexes: int = 0
    index_bytes: int = 0

    @property
    def conninfo(self) -> str:
        return self.condition.conninfo

    @property
    def recall(self) -> float | None:
        return min((proof.recall.recall for proof in self.proofs if proof.recall is not None), default=None)


def perform(work: Work) -> None:
    """Does the verb. Raises what the single commands raise, and DeployStopped once `stop` is set."""
    verb = work.orders.verb
    match verb:
        case "status":
            _status(work)
        case "plan":
            _plan(work)
        case "migrate":
            _migrate(work)
        case "deploy" | "heal":
            _deploy(work)
        case "verify":
            _verify(work)
        case "rollback":
            _rollback(work)
        case _:
            assert_never(verb)
    if verb in CHANGING:
        work.digest = digest_now(work)


def digest_now(work: Work) -> str:
    """The declarations and what the catalog has for them: while it is the same, what was proven still holds. Reads only."""
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        revision = read_standing(connection).words if work.orders.is_ours else ""
        about = [(spec, observe(connection, spec).state_digest) for spec in specs_of(work, connection)]
    return hashlib.sha256(repr((revision, about)).encode()).hexdigest()[:16]


def serving_now(work: Work) -> dict[str, int]:
    """The oid of the serving index for each declared one that has a previous generation: what a rollback would swap."""
    found = {}
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        for spec in specs_of(work, connection):
            observed = observe(connection, spec)
            serving = declared_index(spec, observed)
            if serving is not None and previous_generation(spec, observed) is not None:
                found[spec.name] = serving.oid
    return found


def specs_of(work: Work, connection: Connection) -> list[IndexSpec]:
    """The declared indexes of the target, with the limits of this rollout. Reads only."""
    given = {
        "give_up_after_seconds": work.orders.give_up_after_seconds,
        "wait_for_transactions_seconds": work.orders.patience_seconds,
    }
    limits = {name: value for name, value in given.items() if value is not None}
    found = [replace(spec, build=replace(spec.build, **limits)) for spec in work.orders.declared(connection)]
    if work.target.schema is not None and not work.orders.is_ours:
        found = [replace(spec, schema=work.target.schema) for spec in found]
    return found


def _status(work: Work) -> None:
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        _prove_catalog(work, connection)


def _prove_catalog(work: Work, connection: Connection) -> None:
    if work.orders.is_ours and all_collections(connection):
        work.proofs.append(prove_revision(connection))
    for spec in specs_of(work, connection):
        proof, observed = prove_index(connection, spec)
        work.proofs += [proof, *(note_of_shortfall(connection, spec, observed) if proof.holds else ())]


def _plan(work: Work) -> None:
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        for spec in specs_of(work, connection):
            found = preview_plan(connection, spec, policy=DEPLOY, with_trial=False)
            builds = [step.estimate.disk_bytes for step in found.steps if step.estimate is not None]
            serving = declared_index(spec, found.observed)
            size = 0 if serving is None else size_of(found.observed, serving)
            work.index_bytes += max([size, *builds])
            work.vector_indexes = max(work.vector_indexes, len(found.observed.indexes) + len(builds))
            work.plans.append(found.as_dict())
            work.did += [f"{spec.name}: {step.step.sentence}" for step in found.steps]
        tenants = read_tenants(
            connection, work.target, min_rows=work.orders.tenant_rows, limit=work.orders.tenant_indexes
        )
        if tenants is not None:
            work.vector_indexes += len(tenants.earning)
            work.remarks.append(tenants.sentence)
            work.did += [
                f"build the index of {tenants.column} = {value!r} ({rows} rows)" for value, rows in tenants.earning
            ]


def _migrate(work: Work) -> None:
    with _alone(work, work.building), _alone(work, _ALEMBIC):
        runner.upgrade(
            work.conninfo, wait_seconds=work.orders.lock_wait_seconds, lock_wait_seconds=work.orders.lock_wait_seconds,
            stop=work.stop, reporter=_reporter(work),
        )  # fmt: skip
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        _prove_catalog(work, connection)
        standing = read_standing(connection)
        if standing.kind != work.condition.kind and standing.is_right:
            work.did.insert(0, f"migrated to {standing.words}")


def _deploy(work: Work) -> None:
    with _alone(work, work.building):
        _deploy_indexes(work)
        if work.orders.verb == "deploy":
            _deploy_tenants(work)
    if work.orders.verifies:
        _go_on(work)
        _verify(work)


def _deploy_indexes(work: Work) -> None:
    policy = HEAL if work.orders.verb == "heal" else DEPLOY
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        specs = specs_of(work, connection)
    for spec in specs:
        _go_on(work)
        done = deploy(
            work.conninfo, spec, reporter=_reporter(work), wait_seconds=work.orders.lock_wait_seconds, policy=policy,
            stop=work.stop,
        )  # fmt: skip
        work.did += [f"{spec.name}: {sentence}" for sentence in done.did]
        work.warnings += done.warnings


def _deploy_tenants(work: Work) -> None:
    if work.target.tenant_column is None:
        return
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        tenants = read_tenants(
            connection, work.target, min_rows=work.orders.tenant_rows, limit=work.orders.tenant_indexes
        )
    assert tenants is not None
    for value, rows in tenants.earning:
        _go_on(work)
        done = deploy_tenant(work.conninfo, tenants, value, reporter=_reporter(work))
        work.did.append(f"{tenants.column} = {value!r} has an index of its {count_text(rows, 'row')} ({done.outcome})")
    if tenants.left_out:
        work.warnings.append(tenants.sentence)


def _verify(work: Work) -> None:
    orders = work.orders
    if not orders.is_ours:
        with connect(work.conninfo, application_name="everindex verify") as connection:
            lift_time_limits(connection)
            for spec in specs_of(work, connection):
                floor = orders.floor if orders.is_floor_requested else spec.recall_floor
                work.proofs += prove_all(
                    connection,
                    replace(spec, recall_floor=floor),
                    samples=orders.samples,
                    max_seconds=orders.max_seconds,
                )
        return
    with connect(work.conninfo, application_name="everindex verify") as connection:
        work.orders.declared(connection)  # raises NothingDeclared for a database without any
        collections = all_collections(connection)
    for collection in collections:
        found = verify_collection(
            work.conninfo, collection, floor=orders.floor, is_floor_requested=orders.is_floor_requested,
            samples=orders.samples, max_seconds=orders.max_seconds,
        )  # fmt: skip
        work.proofs += found.proofs if len(collections) == 1 else found.of(collection.name).proofs
        work.warnings += [note.sentence for note in found.notes]


def _rollback(work: Work) -> None:
    with connect(work.conninfo, application_name="everindex fleet") as connection:
        specs = {spec.name: spec for spec in specs_of(work, connection)}
    ready = serving_now(work)
    if len(ready) > 1:
        raise UsageError(
            f"several indexes of target {work.target.name!r} have a previous generation.",
            why=f"they are {', '.join(sorted(ready))}; one is rolled back at a time.",
            next_step="name one with --index.",
        )
    for name in ready:
        with _alone(work, work.building):
            definition = dropping.rollback(
                work.conninfo, specs[name], reporter=_reporter(work), wait_seconds=work.orders.lock_wait_seconds
            )
        work.did.append(f"{name} serves as {definition}")


def _reporter(work: Work) -> Reporter:
    def say(text: str) -> None:
        if text.startswith("warning: "):
            work.warnings.append(text.removeprefix("warning: "))
        elif work.orders.verb == "migrate" and text.startswith("built index"):
            work.did.append(text)

    return Reporter(say=say, notice=lambda text: None)


@contextmanager
def _alone(work: Work, lock: threading.Lock) -> Iterator[None]:
    """Holds the lock. Raises DeployStopped if `stop` is set while it waits."""
    began = time.monotonic()
    while not lock.acquire(timeout=POLL_SECONDS):
        _go_on(work)
    work.waited_seconds += time.monotonic() - began
    try:
        _go_on(work)
        yield
    finally:
        lock.release()


def _go_on(work: Work) -> None:
    if work.stop.is_set():
        raise DeployStopped(
            f"the work on target {work.target.name!r} was stopped.",
            why="its process was asked to stop.",
            next_step="run the same command again: it continues.",
        )
