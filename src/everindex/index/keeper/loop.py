"""The keeper's loop: one leader among all replicas observes the declared indexes on a timer and deploys what is missing.

A round runs at the start and then on a timer, and does what a deploy would do: the catalog says what is missing. A separate
session holds its lock, so that another replica takes over from a keeper that dies. No error ends the loop.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

import psycopg

from everindex.errors import (
    DeployStopped,
    EverindexError,
    GenerationUnproven,
    IndexDefinitionDiffers,
    LockNotObtained,
    NotMigrated,
    ServerUnreachable,
)
from everindex.index.activity.size_history import note_size
from everindex.index.catalog.drift import is_rejected
from everindex.index.catalog.index_parts import size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.deploy.local_policy import policy_here
from everindex.index.deploy.warm import warm_in_background
from everindex.index.journal import record
from everindex.index.keeper.index_record import IndexRecord
from everindex.index.keeper.round import Finding, KeptIndex, Role, Round
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import KEEP, DeployPolicy
from everindex.index.plan.steps import WaitForBuild
from everindex.index.recall.query_sample import NO_SEARCH_QUERIES, SearchQueries
from everindex.index.recall.shortfall import SHORTFALL_NEXT, shortfall_sentence, standing_shortfall
from everindex.index.reporter import Reporter, in_background
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.locks import holder_of, try_lock

log = logging.getLogger(__name__)


#: How often a keeper that does not lead tries to take the lead: one statement that takes no time.
FOLLOWER_SECONDS = 5.0
#: How long a deploy of the keeper waits for other builders before it leaves them until the next round.
PATIENCE_SECONDS = 20.0
#: The longest pause after failures, either of the connection or of a build that fails repeatedly.
LONGEST_CONNECT_PAUSE_SECONDS = 30.0
LONGEST_RETRY_PAUSE_SECONDS = 3600.0
#: A keeper whose machine disappears holds its lock for about a minute at most.
KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}

#: Errors that are reported but deliberately left to a person; they do not count as failures of the keeper.
_LEFT_ALONE = (IndexDefinitionDiffers, GenerationUnproven, NotMigrated)


@dataclass(slots=True)
class _Failures:
    """How many times in a row healing one index has failed, and when it is tried again (monotonic clock)."""

    count: int = 0
    retry_at: float = 0.0
    finding: Finding | None = None
    kept: IndexRecord = field(default_factory=IndexRecord)


class PeriodicTask(Protocol):
    """A task that the leader runs in each round, in addition to the declared indexes."""

    @property
    def index(self) -> str: ...

    def __call__(self, stop: threading.Event) -> KeptIndex | None:
        """Runs the task; None when there is nothing to report. Raises EverindexError."""


class Keeper:
    """Maintains the indexes that `declared(connection)` names; `run` returns only when it is asked to stop."""

    def __init__(
        self,
        conninfo: str,
        declared: Callable[[Connection], Iterable[IndexSpec]],
        *,
        interval_seconds: float = 60.0,
        policy: DeployPolicy = KEEP,
        recall_seconds: float = 5.0,
        recall_share: float = 0.01,
        warm_seconds: float = 0.0,
        reason_to_wait: Callable[[Connection], str | None] = lambda connection: None,
        on_round: Callable[[Round], None] = lambda round_: None,
        reporter: Reporter | None = None,
        tasks: Sequence[PeriodicTask] = (),
        search_queries: Callable[[Connection, IndexSpec, Observed], SearchQueries] = lambda *_: NO_SEARCH_QUERIES,
    ) -> None:
        """`recall_seconds` per measurement and `recall_share` of all time limit the cost of measuring; 0 seconds means never.
        `policy` is that of its deploys; the default leaves a valid index with another definition unchanged. A newly built
        index is warmed for `warm_seconds`. While `reason_to_wait` returns a reason, nothing is changed. `search_queries` returns
        queries of real searches, to measure recall with in addition to stored rows."""
        self._conninfo = conninfo
        self._declared = declared
        self._interval_seconds = interval_seconds
        self._policy = policy
        self._recall_seconds = recall_seconds
        self._recall_share = recall_share
        self._warm_seconds = warm_seconds
        self._warming: list[threading.Thread] = []
        self._reason_to_wait = reason_to_wait
        self._on_round = on_round
        self._reporter = reporter or in_background()
        self._tasks = tasks
        self._search_queries = search_queries
        self._failures: dict[str, _Failures] = {}
        self._told: dict[str, str] = {}
        self._leads = False

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set; then ends within seconds, even in the middle of a build. Raises nothing."""
        failures = 0
        while not stop.is_set():
            try:
                with connect(self._conninfo, application_name="everindex keeper") as connection:
                    self._prepare(connection)
                    self._tell("", None)
                    while not stop.is_set():
                        round_ = self._round(connection, stop)
                        failures = 0
                        self._on_round(round_)
                        seconds = self._interval_seconds
                        if round_.role != "leads":
                            # A session keeps the defaults that it started with, so a new session is needed to find out
                            # whether the database is writable again.
                            if round_.role == "waits" and not self._leads:
                                break
                            seconds = min(seconds, FOLLOWER_SECONDS)
                        stop.wait(seconds * random.uniform(0.9, 1.1))  # jitter, not security
            except (EverindexError, psycopg.Error) as exc:
                self._tell("", f"{exc.slug}: {exc.what}" if isinstance(exc, EverindexError) else type(exc).__name__)
            except Exception:
                log.exception("keeper: internal error; it continues", extra={"event": "keeper-failed"})
            self._leads = False
            failures += 1
            pause = min(0.5 * 2 ** min(failures - 1, 10), LONGEST_CONNECT_PAUSE_SECONDS)
            stop.wait(pause * random.uniform(0.7, 1.3))  # jitter, not security

    def once(self, stop: threading.Event | None = None) -> Round:
        """One round, whichever keeper leads: the lock of builders prevents two simultaneous builds. Raises ServerUnreachable
        and similar errors."""
        with connect(self._conninfo, application_name="everindex keeper") as connection:
            self._prepare(connection)
            round_ = self._round(connection, stop or threading.Event(), asks_who_leads=False)
        for thread in self._warming:
            thread.join(self._warm_seconds)
        return round_

    # --- a round -----------------------------------------------------------------------------------------------------

    def _prepare(self, connection: Connection) -> None:
        lift_time_limits(connection)  # idle between rounds, and the lock ends with the session
        for name, value in KEEPALIVES.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))

    def _round(self, connection: Connection, stop: threading.Event, *, asks_who_leads: bool = True) -> Round:
        started = time.monotonic()
        role, reason = self._role(connection, asks_who_leads=asks_who_leads)
        self._tell("role", None if reason is None else f"keeper {role}: {reason}", level=logging.INFO)
        if role != "leads":
            return Round(role=role, reason=reason, seconds=time.monotonic() - started)
        kept = []
        for spec in self._declared(connection):
            if stop.is_set():
                break
            kept.append(self._keep(connection, spec, stop))
        for task in self._tasks:
            done = None if stop.is_set() else self._do(task, stop)
            if done is not None:
                kept.append(done)
        return Round(role="leads", indexes=tuple(kept), seconds=time.monotonic() - started)

    def failures_of(self, index: str) -> int:
        """How often in a row keeping an index ("schema.name") has been tried in vain."""
        failures = self._failures.get(index)
        return 0 if failures is None else failures.count

    def _role(self, connection: Connection, *, asks_who_leads: bool) -> tuple[Role, str | None]:
        row = connection.execute(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only') = 'on'"
        ).fetchone()
        if row is not None and any(row):
            return "waits", "this server is read-only" + (" (a standby)" if row[0] else "")
        if asks_who_leads and not self._leads:
            if not try_lock(connection, "keeper"):
                return "follows", f"{_without_age(holder_of(connection, 'keeper') or 'another keeper')} leads"
            self._leads = True
            log.info("keeper leads: this process maintains the declared indexes", extra={"event": "keeper-leads"})
        reason = self._reason_to_wait(connection)
        if reason is not None:
            return "waits", reason
        loader = holder_of(connection, "aside")
        if loader is not None:
            return "waits", f"{_without_age(loader)} is loading rows with the index set aside, and builds it afterwards"
        return "leads", None

    def _keep(self, connection: Connection, spec: IndexSpec, stop: threading.Event) -> KeptIndex:
        failures = self._failures.setdefault(spec.qualified_name, _Failures())
        done = self._tried(
            failures, spec.qualified_name, spec.name, lambda: self._bring(connection, spec, failures.kept, stop)
        )
        assert done is not None  # _bring always returns a result
        return done

    def _do(self, task: PeriodicTask, stop: threading.Event) -> KeptIndex | None:
        failures = self._failures.setdefault(f"task {task.index}", _Failures())
        return self._tried(failures, task.index, task.index, lambda: task(stop))

    def _tried(
        self, failures: _Failures, key: str, index: str, work: Callable[[], KeptIndex | None]
    ) -> KeptIndex | None:
        """Runs `work` on one index; failures are retried after increasingly long pauses, and reported once."""
        if time.monotonic() < failures.retry_at:
            return KeptIndex(index=index, outcome="left", finding=failures.finding)
        try:
            done = work()
        except DeployStopped as exc:
            log.info("%s %s", exc.what, exc.next_step, extra={"event": "keeper-deploy-stopped"})
            return KeptIndex(index=index, outcome="left")
        except ServerUnreachable:
            raise
        except EverindexError as exc:
            done = KeptIndex(index=index, outcome="left", finding=_finding(index, exc))
        finding = None if done is None else done.finding
        if finding is not None and finding.is_failure:
            pause = min(self._interval_seconds * (2 ** min(failures.count, 20) - 1), LONGEST_RETRY_PAUSE_SECONDS)
            failures.count += 1
            failures.retry_at = time.monotonic() + pause
            failures.finding = finding
        else:
            failures.count = 0
        if finding is None:
            self._tell(key, None)
        else:
            self._tell(key, finding.text, same=finding.slug)
        return done

    def _bring(self, connection: Connection, spec: IndexSpec, kept: IndexRecord, stop: threading.Event) -> KeptIndex:
        """Does what this index needs now: nothing, a deploy, or a rebuild on evidence. Raises what deploying raises."""
        observed = observe(connection, spec)
        policy = policy_here(connection, self._policy)
        plan = make_plan(spec, observed, policy=policy, now=datetime.now(UTC))
        if plan.steps:
            if isinstance(plan.steps[0], WaitForBuild):
                return KeptIndex(index=spec.name, outcome="being-built")
            done = self._deploy(spec, stop, rebuild_because=None)
            if done.did:
                record(connection, spec, "keeper: healed", outcome=done.outcome, did=list(done.did))
                log.info(
                    "keeper: index %s %s: %s",
                    spec.qualified_name,
                    done.outcome,
                    "; ".join(done.did),
                    extra={"event": "keeper-healed", "index": spec.qualified_name, "outcome": done.outcome},
                )
            return _kept(spec, done, finding=_below_floor(connection, spec, observe(connection, spec)))
        finding = None
        if plan.remarks:
            finding = Finding(index=spec.name, slug="left", text="; ".join(plan.remarks), is_failure=False)
        found = plan.situation.current
        if finding is not None or found is None or not found.is_valid:
            return KeptIndex(index=spec.name, outcome="already-there", finding=finding)
        return self._on_evidence(connection, spec, observed, found, kept, stop)

    def _on_evidence(
        self,
        connection: Connection,
        spec: IndexSpec,
        observed: Observed,
        found: ObservedIndex,
        kept: IndexRecord,
        stop: threading.Event,
    ) -> KeptIndex:
        """Checks the quality of an index that serves and is as declared."""
        kept.look_at(connection, spec, found)
        note_size(
            connection, spec, estimated_rows=observed.estimated_rows, index_bytes=size_of(observed, found),
            table_bytes=observed.table_bytes,
        )  # fmt: skip
        evidence = kept.size_evidence(connection, spec, observed, found)
        if evidence is None and self._recall_seconds > 0:
            kept.measure_if_due(
                connection,
                spec,
                observed,
                seconds=self._recall_seconds,
                share=self._recall_share,
                search_queries=lambda: self._search_queries(connection, spec, observed),
            )
            evidence = kept.recall_evidence(spec)
        if evidence is None:
            return KeptIndex(index=spec.name, outcome="already-there", finding=_below_floor(connection, spec, observed))
        if is_rejected(spec, observed, found):
            text = f"{evidence.sentence}: a rebuild was tried and did not help"
            finding = Finding(index=spec.name, slug="generation-unproven", text=text, is_failure=False)
            return KeptIndex(index=spec.name, outcome="left", finding=finding)
        log.info(
            "keeper: index %s is being rebuilt: %s",
            spec.qualified_name,
            evidence.sentence,
            extra={"event": "keeper-rebuild", "index": spec.qualified_name, "because": evidence.sentence},
        )
        record(connection, spec, "keeper: evidence", kind=evidence.kind, sentence=evidence.sentence)
        done = self._deploy(spec, stop, rebuild_because=evidence.sentence)
        kept.note_rebuilt(connection, spec, evidence)
        return _kept(spec, done, because=evidence.sentence)

    def _deploy(self, spec: IndexSpec, stop: threading.Event, *, rebuild_because: str | None) -> Deployed:
        done = deploy(
            self._conninfo,
            spec,
            reporter=self._reporter,
            wait_seconds=PATIENCE_SECONDS,
            policy=replace(self._policy, rebuild_because=rebuild_because),
            stop=stop,
        )
        if done.outcome in ("built", "rebuilt", "replaced") and self._warm_seconds > 0:
            self._warming = [
                *(thread for thread in self._warming if thread.is_alive()),
                warm_in_background(self._conninfo, spec, max_seconds=self._warm_seconds, stop=stop),
            ]
        return done

    # --- reporting ---------------------------------------------------------------------------------------------------

    def _tell(self, key: str, text: str | None, *, level: int = logging.WARNING, same: str | None = None) -> None:
        """Logs a condition once, until it changes, and once when it ends. `same` identifies a text whose numbers differ every
        time."""
        if text is None:
            if self._told.pop(key, None) is not None and level >= logging.WARNING:
                log.info(
                    "keeper: the reported problem with %s is resolved",
                    key or "the server",
                    extra={"event": "keeper-resolved"},
                )
        elif (same or text) != self._told.get(key):
            self._told[key] = same or text
            log.log(
                level,
                "%s",
                text if text.startswith("keeper") else f"keeper: {text}",
                extra={"event": "keeper-role" if key == "role" else "keeper-finding"},
            )


def _below_floor(connection: Connection, spec: IndexSpec, observed: Observed) -> Finding | None:
    """The finding that the best possible build serves below its floor; it is reported, and not rebuilt automatically."""
    shortfall = standing_shortfall(connection, spec, observed)
    if shortfall is None:
        return None
    text = f"{shortfall_sentence(spec, shortfall)}; {SHORTFALL_NEXT}"
    return Finding(index=spec.name, slug="recall-below-floor", text=text, is_failure=False)


def _kept(spec: IndexSpec, done: Deployed, *, because: str | None = None, finding: Finding | None = None) -> KeptIndex:
    if done.remarks:
        finding = Finding(index=spec.name, slug="left", text="; ".join(done.remarks), is_failure=False)
    return KeptIndex(
        index=spec.name, outcome=done.outcome, did=done.did, warnings=done.warnings, because=because, finding=finding
    )


def _finding(index: str, exc: EverindexError) -> Finding:
    is_failure = not isinstance(exc, (*_LEFT_ALONE, LockNotObtained))
    text = f"{exc.slug}: {exc.what} {exc.why} {exc.next_step}"
    return Finding(index=index, slug=exc.slug, text=" ".join(text.split()), is_failure=is_failure)


def _without_age(holder: str) -> str:
    """A lock holder without its age, so that the same one is reported once."""
    return holder.split(", since")[0] + (")" if ", since" in holder else "")
