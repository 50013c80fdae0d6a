"""The types of a rule and of its results: a check of one database with a severity, a reason and a fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from everindex.doctor.examined import Examined
from everindex.message_text import with_backticks

Severity = Literal["critical", "warning", "notice"]
"""critical: wrong or missing results, data at risk, or an index that does not serve. warning: already costs speed or memory,
or will. notice: worth knowing."""

#: A transaction, running or prepared, that has been open for longer than this holds up every concurrent build and VACUUM; a
#: coordinator finishes its prepared transactions within seconds.
LONG_OPEN_SECONDS = 300.0
#: Counters that are younger say nothing about usage: a weekly job may be the only user.
COUNTED_ENOUGH_SECONDS = 7 * 86400

Status = Literal["good", "finding", "unknown"]
"""unknown: could not be checked, because a privilege, a version or statistics are missing. It never counts as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """What to do about a finding."""

    statements: tuple[str, ...] = ()
    """SQL statements, each run separately outside any transaction, with quoted and qualified names."""

    is_safe: bool = False
    """True when `--fix` may run it: online, reversible, without loss, and without a decision that belongs to the operator."""

    advice: str = ""
    """What no statement can do, or what to consider before running one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """The result of one rule for one object (an index, a table, the server)."""

    status: Status
    sentence: str
    """A sentence with the user's own names and the numbers that were read."""

    about: str = ""
    """The quoted name of the index or table concerned; empty for the server."""

    fix: Fix | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check of a database. Its slug is also the name of its file (with underscores) and of its page docs/doctor/<slug>.md."""

    slug: str
    severity: Severity
    title: str
    """The healthy state in a few words, such as `no vector index is INVALID`."""

    reason: str
    """Why it matters, with its source."""

    check: Callable[[Examined], Iterable[RuleResult]]
    """Reads only. No result means that the rule does not apply here (no such table, no such index)."""


def good(sentence: str, *, about: str = "") -> RuleResult:
    return RuleResult(status="good", sentence=sentence, about=about)


def finding(sentence: str, *, about: str = "", fix: Fix | None = None) -> RuleResult:
    return RuleResult(status="finding", sentence=sentence, about=about, fix=fix)


def unknown(sentence: str, *, about: str = "") -> RuleResult:
    return RuleResult(status="unknown", sentence=sentence, about=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every result of every rule, worst first."""

    answers: tuple[tuple[Rule, RuleResult], ...]

    @property
    def findings(self) -> tuple[tuple[Rule, RuleResult], ...]:
        return tuple(pair for pair in self.answers if pair[1].status == "finding")

    @property
    def is_healthy(self) -> bool:
        """True when there is no critical finding and no warning. Unknown results do not count, but are shown."""
        return all(rule.severity == "notice" for rule, _ in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "is_healthy": self.is_healthy,
            "findings": len(self.findings),
            "answers": [
                {
                    "rule": rule.slug,
                    "severity": rule.severity,
                    "status": answer.status,
                    "sentence": with_backticks(answer.sentence),
                    "about": answer.about or None,
                    "reason": rule.reason,
                    "fix": None
                    if answer.fix is None
                    else {
                        "statements": list(answer.fix.statements),
                        "is_safe": answer.fix.is_safe,
                        "advice": answer.fix.advice and with_backticks(answer.fix.advice),
                    },
                }
                for rule, answer in self.answers
            ],
        }
