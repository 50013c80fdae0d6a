"""The results of a fleet operation: one for each target, and the report of all; as data and as JSON, without any secret."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Literal, get_args

from everindex.message_text import with_backticks

Verb = Literal["status", "plan", "migrate", "deploy", "verify", "heal", "rollback"]
VERBS: tuple[Verb, ...] = get_args(Verb)
#: Those that change databases go out in waves; the others read.
CHANGING: frozenset[Verb] = frozenset({"migrate", "deploy", "heal", "rollback"})

Outcome = Literal["done", "unchanged", "finding", "failed", "skipped", "stopped", "not-begun"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """What came of one target."""

    name: str
    where: str
    kind: str
    """Its condition (`condition.Kind`) before the operation."""

    outcome: Outcome
    """unchanged: nothing was left to do; finding: a check failed, or there are steps to run; skipped: the same as another target;
    stopped: ended in the middle, cleanly; not-begun: the rollout ended before."""

    sentence: str
    next_step: str | None = None
    slug: str | None = None
    server: str | None = None
    wave: int = 0
    seconds: float = 0.0
    did: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    proofs: tuple[dict[str, Any], ...] = ()
    plans: tuple[dict[str, Any], ...] = ()
    recall: float | None = None
    """The lowest recall that was measured."""

    digest: str | None = None
    """Of declaration and catalog afterwards; a resumed rollout compares it."""

    @property
    def is_bad(self) -> bool:
        """Whether it uses up the error budget."""
        return self.outcome in ("failed", "finding")

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        for name in ("sentence", "next_step"):
            told[name] = None if told[name] is None else with_backticks(told[name])
        return told | {"seconds": round(self.seconds, 3)}

    def stored(self) -> dict[str, Any]:
        """As the state file has it."""
        return asdict(self)


def restored(stored: dict[str, Any]) -> TargetResult:
    """The result that `TargetResult.stored` wrote; keys of other releases are ignored."""
    known = {field.name for field in fields(TargetResult)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items() if name in known
    }
    return TargetResult(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """The results of all targets, in the order of the targets."""

    verb: Verb
    began: datetime
    seconds: float
    results: tuple[TargetResult, ...]
    closed: str | None = None
    """Why the rollout stopped before its end; None if it did not."""

    is_interrupted: bool = False
    remarks: tuple[str, ...] = ()
    """Limits of servers that the operation comes near to."""

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many targets have which outcome; outcomes of none are left out."""
        found = Counter(result.outcome for result in self.results)
        return {outcome: found[outcome] for outcome in OUTCOMES if found[outcome]}

    @property
    def servers(self) -> int:
        return len({result.server for result in self.results if result.server is not None})

    @property
    def exit_status(self) -> int:
        """0 done; 1 a target failed or the rollout stopped; 3 a finding, a duplicate or a limit; 130 interrupted."""
        if self.is_interrupted:
            return 130
        if self.closed is not None or any(one.outcome == "failed" for one in self.results):
            return 1
        return 3 if self.remarks or any(one.outcome in ("finding", "skipped") for one in self.results) else 0

    @property
    def summary(self) -> str:
        """One sentence: `100 targets on 2 servers: 99 done, 1 failed, in 41 s`."""
        told = ", ".join(f"{count} {outcome.replace('-', ' ')}" for outcome, count in self.counts.items())
        on = "" if not self.servers else f" on {self.servers} server{'' if self.servers == 1 else 's'}"
        many = len(self.results)
        return f"{many} target{'' if many == 1 else 's'}{on}: {told}, in {self.seconds:.1f} s"

    def as_dict(self) -> dict[str, Any]:
        return {
            "verb": self.verb,
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "exit_status": self.exit_status,
            "counts": self.counts,
            "servers": self.servers,
            "closed": self.closed,
            "interrupted": self.is_interrupted,
            "remarks": list(self.remarks),
            "targets": [result.as_dict() for result in self.results],
        }
