"""The actions of operators on one index: deploy, heal, roll back and tune, run in the background, and their cancellation.

At most one runs at a time in this process; between processes the lock of builders decides, as for the commands. A deploy runs
only the plan that was confirmed: its digest is compared with the catalog again before the first step.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never, get_args

import psycopg

from everindex.articles.searchable import Searchable
from everindex.errors import EverindexError, LockNotObtained, UsageError
from everindex.index.activity.progress import Progress
from everindex.index.activity.running_builds import running_builds
from everindex.index.catalog.adopted import adopted_here
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.observe import in_search_path, observe
from everindex.index.catalog.roles import previous_generation
from everindex.index.deploy import drop as dropping
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.preview import PlanPreview, preview_plan
from everindex.index.plan.policy import DEPLOY, HEAL
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.index.tuning import curve_history
from everindex.index.tuning.apply import apply_advice
from everindex.index.tuning.recommendation import advise
from everindex.index.tuning.survey_result import Budget
from everindex.pg.connections import connect
from everindex.pg.sqlstate import statement_error, translate_errors

log = logging.getLogger(__name__)

Action = Literal["deploy", "heal", "rollback", "tune"]
ACTIONS: tuple[Action, ...] = get_args(Action)
#: How long an action waits for another builder before it gives up: somebody looks at the page.
WAIT_SECONDS = 30.0
#: What tuning from the page may spend.
TUNING = Budget(sample_rows=20_000, max_seconds=300.0)
#: Lines of a running action that the page shows.
MOST_LINES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionState:
    """The action that runs, or the last one."""

    action: Action
    started_at: dt.datetime
    ended_at: dt.datetime | None = None
    lines: tuple[str, ...] = ()
    """What it said, the latest last."""

    outcome: str | None = None
    error: EverindexError | None = None

    @property
    def is_running(self) -> bool:
        return self.ended_at is None

    def as_dict(self) -> dict[str, Any]:
        return {
            "action": self.action, "running": self.is_running, "started_at": self.started_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(), "lines": list(self.lines),
            "outcome": self.outcome, "error": None if self.error is None else self.error.as_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What an action would do, shown before it is started."""

    action: Action
    index: str
    preview: PlanPreview | None = None
    """Of a deploy or heal."""

    sentences: tuple[str, ...] = ()
    """Of the others."""

    is_possible: bool = True

    @property
    def digest(self) -> str:
        return "" if self.preview is None else self.preview.plan.digest


class IndexActions:
    """The actions on the index of one collection."""

    def __init__(self, searched: Searchable) -> None:
        self._searched = searched
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._state: ActionState | None = None

    @property
    def state(self) -> ActionState | None:
        """The running action, or the last one; None before the first."""
        state = self._state
        return None if state is None else replace(state, lines=tuple(self._lines))

    def confirmation(self, action: Action) -> Confirmation:
        """What the action would do now. Reads only. Raises what planning raises."""
        with connect(self._searched.direct_conninfo, application_name="everindex plan") as connection:
            spec = self._spec()
            match action:
                case "deploy" | "heal":
                    policy = DEPLOY if action == "deploy" else HEAL
                    preview = preview_plan(connection, spec, policy=policy, with_trial=False)
                    return Confirmation(
                        action=action, index=spec.qualified_name, preview=preview, is_possible=bool(preview.steps)
                    )
                case "rollback":
                    previous = previous_generation(spec, observe(connection, spec))
                    if previous is None:
                        return Confirmation(
                            action=action, index=spec.qualified_name, is_possible=False,
                            sentences=("There is no previous generation to roll back to.",),
                        )  # fmt: skip
                    return Confirmation(
                        action=action, index=spec.qualified_name,
                        sentences=(
                            f"The previous generation serves again: {previous.definition}.",
                            "The generation that serves now is kept as the previous one. Nothing is built; the names are "
                            "swapped in one short transaction (ACCESS EXCLUSIVE on the two indexes).",
                        ),
                    )  # fmt: skip
                case "tune":
                    return Confirmation(
                        action=action, index=spec.qualified_name,
                        sentences=(
                            f"Recall and latency are measured for this index and for others built on a sample, within "
                            f"{TUNING.max_seconds:g} seconds; searches continue.",
                            f"The cheapest configuration with recall of at least {spec.recall_floor:g} is stored, built "
                            "online beside the index that serves, proven, and swapped in.",
                        ),
                    )  # fmt: skip
                case _:
                    assert_never(action)

    def start(self, action: Action, *, digest: str) -> None:
        """Starts the action in a thread. Raises LockNotObtained while another one runs, UsageError without the digest of the
        plan that was confirmed."""
        if action in ("deploy", "heal") and not digest:
            raise UsageError(
                "the plan was not confirmed.", why="a deploy needs the digest of the plan that was shown.",
                next_step="open the action on the page again and confirm what it shows.",
            )  # fmt: skip
        with self._lock:
            if self._state is not None and self._state.is_running:
                raise LockNotObtained(
                    f"{self._state.action} is still running on this index.",
                    why=f"this process runs one action at a time; it began at {self._state.started_at:%H:%M:%S} UTC.",
                    next_step="wait until it has ended, or cancel it.",
                )
            self._stop.clear()
            self._lines.clear()
            self._state = ActionState(action=action, started_at=dt.datetime.now(dt.UTC))
        threading.Thread(target=self._run, args=(action, digest), name="everindex-action", daemon=True).start()

    def cancel(self, pid: int | None = None) -> bool:
        """Cancels the running action; with `pid`, the build that this backend runs on the table, whoever started it. Returns
        whether there was one. Raises PermissionDenied where the role may not."""
        if pid is None:
            is_running = self._state is not None and self._state.is_running
            self._stop.set()
            return is_running
        spec = self._spec()
        with connect(self._searched.direct_conninfo, application_name="everindex cancel") as connection:
            if pid not in {build.pid for build in running_builds(connection, spec)}:
                return False
            with translate_errors("cancelling the build"):
                row = connection.execute("SELECT pg_catalog.pg_cancel_backend(%s)", (pid,)).fetchone()
            return row is not None and bool(row[0])

    # --- inside ----------------------------------------------------------------------------------------------------

    def _spec(self) -> IndexSpec:
        table, _ = self._searched.engine.known()
        with connect(self._searched.direct_conninfo, application_name="everindex plan") as connection:
            declared = replace(table.index, recall_floor=self._searched.settings.recall_floor)
            return effective_spec(connection, declared)

    def _run(self, action: Action, digest: str) -> None:
        outcome: str | None = None
        error: EverindexError | None = None
        try:
            outcome = self._do(action, digest)
        except EverindexError as exc:
            error = exc
        except psycopg.Error as exc:
            error = statement_error(exc, doing=f"running {action}")
        except Exception:
            log.exception("an action failed with an internal error", extra={"event": "action-failed", "action": action})
            error = EverindexError(
                f"{action} ended with an internal error.", why="the log has the details.",
                next_step=f"run  everindex {action} --debug  and report its output.",
            )  # fmt: skip
        self._searched.invalidate()
        with self._lock:
            assert self._state is not None
            self._state = replace(self._state, ended_at=dt.datetime.now(dt.UTC), outcome=outcome, error=error)

    def _do(self, action: Action, digest: str) -> str:
        conninfo = self._searched.direct_conninfo
        reporter = Reporter(say=self._lines.append, notice=lambda text: None, progress=self._show)
        match action:
            case "deploy" | "heal":
                done = deploy(
                    conninfo, self._spec(), reporter=reporter, wait_seconds=WAIT_SECONDS, stop=self._stop,
                    policy=DEPLOY if action == "deploy" else HEAL, expected_digest=digest,
                )  # fmt: skip
                self._lines.extend(done.warnings)
                return done.outcome
            case "rollback":
                return f"serving again: {dropping.rollback(conninfo, self._spec(), reporter=reporter)}"
            case "tune":
                return self._tuned(conninfo, reporter)
            case _:
                assert_never(action)

    def _tuned(self, conninfo: str, reporter: Reporter) -> str:
        spec = self._spec()
        advice = advise(conninfo, spec, floor=spec.recall_floor, budget=TUNING, say=self._lines.append)
        with connect(conninfo, application_name="everindex tune") as connection:
            curve_history.keep(connection, advice.survey)
        if advice.choice is None or self._stop.is_set():
            return "measured; nothing was changed"
        table, _ = self._searched.engine.known()
        with connect(conninfo, application_name="everindex tune") as connection:
            in_code = adopted_here(connection, in_search_path(connection, table.index))
        applied = apply_advice(conninfo, in_code, advice, budget=TUNING, reporter=reporter, say=self._lines.append)
        return f"tuned, {applied.deployed.outcome}"

    def _show(self, progress: Progress) -> None:
        """The latest progress is one line, and not one for each reading."""
        share = "" if progress.share_done is None else f", {100 * progress.share_done:.0f} %"
        left = "" if progress.seconds_left is None else f", about {progress.seconds_left:.0f} s left"
        text = f"{progress.phase}{share}{left}"
        if self._lines and self._lines[-1].startswith(progress.phase):
            self._lines.pop()
        self._lines.append(text)
