"""The rollout of one operation over a fleet: inspect every target, then work wave by wave until the end or a closed gate.

One poisoned target is a result and never keeps the others from being worked on; what changes databases runs once at a time on
each real server. A stop ends what runs cleanly and lists what was not begun.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import psycopg

from everindex.errors import DeployStopped, EverindexError, InternalError, LockNotObtained, ServerUnreachable
from everindex.fleet.condition import CLOSED, UNCHANGEABLE, UNMIGRATABLE, Condition, inspect
from everindex.fleet.limits import Demand, read_room, remarks_of
from everindex.fleet.results import CHANGING, FleetReport, Outcome, TargetResult
from everindex.fleet.rollout_state import RolloutState
from everindex.fleet.schedule import Schedule
from everindex.fleet.targets import Target
from everindex.fleet.waves import make_waves, why_closed
from everindex.fleet.work import Orders, Work, digest_now, perform, serving_now
from everindex.pg.connections import connect
from everindex.pg.sqlstate import statement_error

#: How long a server that answered before may be away (a restart) before a target of it fails.
RETURN_SECONDS = 30.0

_TARGET: ContextVar[str | None] = ContextVar("everindex_fleet_target", default=None)


def target_of_record() -> str | None:
    """The name of the target that this thread works on, for its log records."""
    return _TARGET.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many targets are worked on at a time, and in which waves."""

    canaries: int
    wave_size: int
    budget: int
    workers: int
    per_server: int
    """Targets of one server at a time; of these, one is changed while the others are read and verified."""

    wait_seconds: float


class Observer(Protocol):
    """Whoever shows the progress; called in the caller's thread."""

    def inspected(self, targets: int, servers: int) -> None: ...
    def begun(self, name: str) -> None: ...
    def ended(self, result: TargetResult) -> None: ...
    def tick(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class _Rollout:
    orders: Orders
    pace: Pace
    state: RolloutState
    observer: Observer
    stop: threading.Event
    conditions: dict[str, Condition]
    results: dict[str, TargetResult]
    works: dict[str, Work]
    building: dict[str | None, threading.Lock]
    """One lock for each real server."""

    closed: str | None = None


def run(
    targets: Sequence[Target],
    orders: Orders,
    *,
    pace: Pace,
    state: RolloutState,
    observer: Observer,
    stop: threading.Event,
) -> FleetReport:
    """Works on every target. Raises nothing of a target's; RolloutRefused and the errors of the state file come before."""
    began, started = datetime.now(UTC), time.monotonic()
    rollout = _Rollout(
        orders=orders, pace=pace, state=state, observer=observer, stop=stop, conditions={}, results={}, works={},
        building={},
    )  # fmt: skip
    _inspect_all(rollout, targets)
    is_changing = orders.verb in CHANGING
    waves = make_waves(targets, canaries=pace.canaries, size=pace.wave_size) if is_changing else (tuple(targets),)
    has_canaries = is_changing and (pace.canaries > 0 or any(target.is_canary for target in targets))
    for number, wave in enumerate(waves, 1):
        _run_wave(rollout, wave, number, is_canary_wave=has_canaries and number == 1)
        if rollout.closed is not None or stop.is_set():
            break
    is_interrupted = stop.is_set()
    why = "the command was interrupted" if is_interrupted else f"the gate is closed: {rollout.closed}"
    results = tuple(rollout.results.get(one.name) or _not_begun(rollout, one, why) for one in targets)
    if is_changing and not is_interrupted and not any(one.is_bad or one.outcome == "not-begun" for one in results):
        state.finish()
    return FleetReport(
        verb=orders.verb, began=began, seconds=time.monotonic() - started, results=results, closed=rollout.closed,
        is_interrupted=is_interrupted, remarks=_limits(rollout) if orders.verb == "plan" and not is_interrupted else (),
    )  # fmt: skip


def _inspect_all(rollout: _Rollout, targets: Sequence[Target]) -> None:
    """Fills `conditions`; the second name of a target is a duplicate."""
    pool = ThreadPoolExecutor(max_workers=rollout.pace.workers, thread_name_prefix="everindex-fleet-inspect")

    def look(target: Target) -> Condition | None:
        if rollout.stop.is_set():
            return None
        return inspect(target, wait_seconds=rollout.pace.wait_seconds, is_ours=rollout.orders.is_ours)

    with pool:
        found = list(pool.map(look, targets))
    first: dict[tuple[str, int, str | None], str] = {}
    # A role may read the identifier in one database of a server and not in another.
    known = {one.started: one.server for one in found if one is not None and one.server != one.started}
    for target, condition in zip(targets, found, strict=True):
        if condition is None:
            continue
        condition = replace(condition, server=known.get(condition.started, condition.server))
        same = None if condition.identity is None else first.setdefault(condition.identity, target.name)
        if same is not None and same != target.name:
            condition = replace(
                condition,
                kind="duplicate",
                sentence=f"it is the same database and schema as target {same!r}, which is worked on.",
                next_step="remove one of the two targets.",
            )
        rollout.conditions[target.name] = condition
        rollout.building.setdefault(condition.server, threading.Lock())
    rollout.observer.inspected(len(targets), len({one.server for one in rollout.conditions.values()} - {None}))


def _run_wave(rollout: _Rollout, wave: Sequence[Target], number: int, *, is_canary_wave: bool) -> None:
    schedule: Schedule[Target, TargetResult] = Schedule(
        [target for target in wave if target.name in rollout.conditions],
        lambda target: _work_on(rollout, target, number),
        workers=rollout.pace.workers,
        server_of=lambda target: rollout.conditions[target.name].server,
        per_server=rollout.pace.per_server,
    )
    for event in schedule.events():
        if event is None:
            rollout.observer.tick()
        elif event[1] is None:
            rollout.observer.begun(event[0].name)
        else:
            result = event[1]
            rollout.results[result.name] = result
            rollout.observer.ended(result)
            if rollout.orders.verb in CHANGING:
                rollout.closed = rollout.closed or why_closed(
                    rollout.results.values(), wave=number, is_canary_wave=is_canary_wave, budget=rollout.pace.budget
                )
        if rollout.closed is not None or rollout.stop.is_set():
            schedule.close()


def _work_on(rollout: _Rollout, target: Target, wave: int) -> TargetResult:
    """The result of one target; raises nothing."""
    started = time.monotonic()
    _TARGET.set(target.name)
    condition = rollout.conditions[target.name]
    work = Work(
        orders=rollout.orders,
        target=target,
        condition=condition,
        stop=rollout.stop,
        building=rollout.building[condition.server],
    )
    rollout.works[target.name] = work
    try:
        result = _closed_result(rollout, work) or _resumed(rollout, work)
        if result is None:
            result = _performed(rollout, work)
    except DeployStopped as exc:
        result = _failure(work, exc, outcome="stopped")
    except LockNotObtained as exc:
        result = _failure(work, exc, outcome="stopped" if rollout.stop.is_set() else "failed")
    except EverindexError as exc:
        result = _failure(work, exc)
    except psycopg.Error as exc:
        result = _failure(work, statement_error(exc, doing=f"working on target {target.name!r}"))
    except Exception as exc:
        # Its text is not shown: that of a library may hold an address.
        result = _failure(
            work,
            InternalError(
                "unexpected error in everindex.",
                why=f"{type(exc).__name__}.",
                next_step="run  everindex  for this database alone with --debug, and report its output.",
            ),
        )
    result = replace(result, wave=wave, seconds=time.monotonic() - started - work.waited_seconds)
    if rollout.orders.verb in CHANGING and result.outcome not in ("stopped", "skipped"):
        try:
            rollout.state.end(result)
        except OSError as exc:
            return replace(result, warnings=(*result.warnings, f"the state file was not written: {exc.strerror}"))
    return result


def _closed_result(rollout: _Rollout, work: Work) -> TargetResult | None:
    """The result of a target whose condition does not allow the operation; None if it does."""
    verb, condition = rollout.orders.verb, work.condition
    shut = CLOSED
    if verb in CHANGING:
        shut = UNMIGRATABLE if verb == "migrate" and rollout.orders.is_ours else UNCHANGEABLE
    elif condition.kind in UNCHANGEABLE - CLOSED - {"read-only"}:
        return _result(work, "failed", condition.sentence, condition.next_step, slug=condition.slug)
    if condition.kind not in shut:
        return None
    outcome: Outcome = "skipped" if condition.kind == "duplicate" else "failed"
    return _result(work, outcome, condition.sentence, condition.next_step, slug=condition.slug)


def _resumed(rollout: _Rollout, work: Work) -> TargetResult | None:
    """The result of a target that is done already, as the catalog proves; None if there is work."""
    name = work.target.name
    if rollout.orders.verb == "rollback" and name in rollout.state.begun:
        before, now = rollout.state.begun[name].get("serving", {}), serving_now(work)
        swapped = [index for index, oid in before.items() if now.get(index) not in (None, oid)]
        if swapped:
            work.digest = digest_now(work)
            return _result(work, "done", f"{', '.join(swapped)} was rolled back before this command was continued.")
    record = rollout.state.records.get(name)
    if record is None or record.outcome not in ("done", "unchanged") or record.digest is None:
        return None
    if digest_now(work) != record.digest:
        return None
    return replace(
        record, kind=work.condition.kind, outcome="unchanged", sentence="done before, and the catalog is the same."
    )


def _performed(rollout: _Rollout, work: Work) -> TargetResult:
    if rollout.orders.verb in CHANGING:
        facts = {"serving": serving_now(work)} if rollout.orders.verb == "rollback" else {}
        rollout.state.begin(work.target.name, facts)
    try:
        perform(work)
    except ServerUnreachable as exc:
        if rollout.stop.is_set() or rollout.orders.verb == "rollback":
            raise
        connect(work.conninfo, wait_seconds=RETURN_SECONDS, application_name="everindex fleet").close()
        work.warnings.append(f"the server was away for a while ({exc.why.rstrip('.')}); the work was done again")
        work.proofs.clear()
        work.plans.clear()
        perform(work)
    return _result_of_work(work)


def _result_of_work(work: Work) -> TargetResult:
    bad = [proof for proof in work.proofs if proof.holds is False]
    if bad:
        return _result(work, "finding", f"{bad[0].sentence}.", bad[0].next_step, slug=f"proof-{bad[0].name}")
    recall = "" if work.recall is None else f"the lowest recall@10 is {work.recall:.3f}"
    match work.orders.verb:
        case "plan":
            if work.did:
                return _result(work, "finding", f"{'; '.join(work.did)}.", "run  everindex fleet deploy .")
            return _result(work, "unchanged", "; ".join(["nothing to do", *work.remarks]) + ".")
        case "status" | "verify":
            return _result(work, "done", "; ".join(filter(None, ["in order", recall])) + ".")
        case _:
            outcome: Outcome = "done" if work.did else "unchanged"
            said = work.did or [
                "it has no previous generation" if work.orders.verb == "rollback" else "nothing was left to do"
            ]
            return _result(work, outcome, "; ".join(filter(None, [*said, recall])) + ".")


def _failure(work: Work, exc: EverindexError, *, outcome: Outcome = "failed") -> TargetResult:
    if isinstance(exc, LockNotObtained):
        work.condition = replace(work.condition, kind="busy")
    return _result(work, outcome, f"{exc.what} {exc.why}", exc.next_step, slug=exc.slug)


def _result(
    work: Work, outcome: Outcome, sentence: str, next_step: str | None = None, *, slug: str | None = None
) -> TargetResult:
    return TargetResult(
        name=work.target.name, where=work.target.where, kind=work.condition.kind, outcome=outcome,
        sentence=sentence,
        next_step=next_step, slug=slug, server=work.condition.server, did=tuple(work.did), warnings=tuple(work.warnings),
        proofs=tuple(proof.as_dict() for proof in work.proofs), plans=tuple(work.plans), recall=work.recall,
        digest=work.digest,
    )  # fmt: skip


def _not_begun(rollout: _Rollout, target: Target, why: str) -> TargetResult:
    condition = rollout.conditions.get(target.name)
    return TargetResult(
        name=target.name, where=target.where, kind="unknown" if condition is None else condition.kind, outcome="not-begun",
        sentence=f"not begun: {why}.", server=None if condition is None else condition.server,
    )  # fmt: skip


def _limits(rollout: _Rollout) -> tuple[str, ...]:
    """What the plan asks of each server beyond its limits, by one more connection to each."""
    said: list[str] = []
    by_server: dict[str, list[Work]] = {}
    for work in rollout.works.values():
        if work.condition.server is not None and work.condition.kind not in CLOSED:
            by_server.setdefault(work.condition.server, []).append(work)
    for server, works in by_server.items():
        demand = Demand(
            targets=len(works), at_once=1, vector_indexes=max(work.vector_indexes for work in works),
            index_bytes=sum(work.index_bytes for work in works),
        )  # fmt: skip
        try:
            with connect(works[0].conninfo, application_name="everindex fleet") as connection:
                said += remarks_of(read_room(connection), demand, server=server)
        except EverindexError as exc:
            said.append(f"server {server}: its limits could not be read: {exc.what}")
    return tuple(said)
