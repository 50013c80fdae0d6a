"""Checks for a page that cannot wait seconds for them: run in the background, one at a time, and cached for minutes."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from everindex.errors import EverindexError
from everindex.index.recall.proof import Verification
from everindex.pg.sqlstate import statement_error

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofState:
    """The current knowledge. Before the first run ends, neither `verification` nor `error` is set."""

    is_running: bool
    verification: Verification | None = None
    error: EverindexError | None = None
    """Why the last run ended without a result."""

    finished_at: dt.datetime | None = None

    @property
    def age_seconds(self) -> float | None:
        """The age of the results."""
        return None if self.finished_at is None else (dt.datetime.now(dt.UTC) - self.finished_at).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        return {
            "running": self.is_running,
            "finished_at": self.finished_at.isoformat() if self.finished_at else None,
            "age_seconds": None if self.age_seconds is None else round(self.age_seconds, 1),
            "holds": self.verification.holds if self.verification else None,
            "proofs": self.verification.as_dict()["proofs"] if self.verification else [],
            "error": self.error.as_dict() if self.error else None,
        }


class BackgroundProofs:
    """Runs `verify` at most once at a time, in a thread that does not keep the process alive."""

    def __init__(self, verify: Callable[[], Verification], *, seconds: float) -> None:
        self._verify = verify
        self._seconds = seconds
        self._lock = threading.Lock()
        self._state = ProofState(is_running=False)
        self._finished = 0.0

    def state(self, catalog: str) -> ProofState:
        """The results for this state of the catalog (a recent `verification.read_state`); starts a run where there are
        none, or they are too old. Results of another state are void and not returned."""
        with self._lock:
            known = self._state
            is_void = known.verification is not None and known.verification.catalog != catalog
            if is_void and not known.is_running:
                known = self._state = ProofState(is_running=False)
            is_known = known.finished_at is not None and time.monotonic() - self._finished <= self._seconds
        if not is_known:
            self.start()
        now = self._state
        if now.verification is not None and now.verification.catalog != catalog:
            return ProofState(is_running=now.is_running)
        return now

    def start(self) -> None:
        """Starts a run unless one is running."""
        with self._lock:
            if self._state.is_running:
                return
            last = self._state
            self._state = ProofState(
                is_running=True, verification=last.verification, error=last.error, finished_at=last.finished_at
            )
        threading.Thread(target=self._run, name="everindex-verify", daemon=True).start()

    def _run(self) -> None:
        verification: Verification | None = None
        error: EverindexError | None = None
        try:
            verification = self._verify()
        except EverindexError as exc:
            error = exc
        except psycopg.Error as exc:
            error = statement_error(exc, doing="verifying the index")
        except Exception:
            log.exception("verification failed with an internal error", extra={"event": "verification-failed"})
            error = EverindexError(
                "the verification could not be finished.", why="it is an internal error; the log has the details.",
                next_step="run  everindex verify --debug  and report its output.",
            )  # fmt: skip
        with self._lock:
            self._finished = time.monotonic()
            self._state = ProofState(
                is_running=False, verification=verification, error=error, finished_at=dt.datetime.now(dt.UTC)
            )
