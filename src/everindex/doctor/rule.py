"""The types of a rule and of its results: a check of one database with a severity, a reason and a fix."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from everindex.doctor.examined import Examined
from everindex.message_text import with_backticks

Severity = Literal["critical", "warning", "notice"]
"""critical: wrong or missing answers, data in danger, or an index that does not serve. warning: will hurt, or hurts
already in speed or memory. notice: worth knowing."""

#: A transaction, running or prepared, that has been open for longer holds up every concurrent build and VACUUM; a coordinator
#: finishes what it prepared within seconds.
LONG_OPEN_SECONDS = 300.0
#: Counters that are younger say nothing about use: a weekly job may be the only user.
COUNTED_ENOUGH_SECONDS = 7 * 86400

Status = Literal["good", "finding", "unknown"]
"""unknown: could not be checked, for lack of a privilege, a version or statistics. It never reads as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """What to do about a finding."""

    statements: tuple[str, ...] = ()
    """SQL, each one a statement of its own outside any transaction, names quoted and qualified."""

    is_safe: bool = False
    """True when `--fix` may run it: online, reversible, nothing lost, no choice of the operator's in it."""

    advice: str = ""
    """What no statement can do, or what to think of before running one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What one rule says about one thing (an index, a table, the server)."""

    status: Status
    sentence: str
    """In the user's own names, with the figures that were read."""

    about: str = ""
    """The quoted name of the index or table that it is about; empty for the server."""

    fix: Fix | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check of a database. Its slug is also its file's name (with underscores) and that of its page docs/doctor/<slug>.md."""

    slug: str
    severity: Severity
    title: str
    """The good state in a few words, such as `no vector index is INVALID`."""

    reason: str
    """Why it matters, with its source."""

    check: Callable[[Examined], Iterable[RuleResult]]
    """Reads only. No result at all means that the rule does not apply here (no such table, no such index)."""


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
        """No finding that is critical or a warning. What is unknown does not count, and is shown."""
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


@cache
def all_rules() -> tuple[Rule, ...]:
    """The rule of every file of `everindex.doctor.rules`, by slug."""
    from everindex.doctor import rules

    found = [
        importlib.import_module(f"{rules.__name__}.{module.name}").RULE
        for module in pkgutil.iter_modules(rules.__path__)
    ]
    return tuple(sorted(found, key=lambda rule: rule.slug))
