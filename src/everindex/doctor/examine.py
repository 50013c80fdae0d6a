"""The examination of a database: rules run independently, and the result of a rule that cannot run is unknown, never good."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import cache

import psycopg

from everindex.doctor import rules
from everindex.doctor.compared_vectors import CompareVectors
from everindex.doctor.examined import Examined
from everindex.doctor.rule import Report, Rule, RuleResult, unknown
from everindex.errors import UsageError
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import statement_error

_SEVERITIES = ("critical", "warning", "notice")
_STATUSES = ("finding", "unknown", "good")


def examine(
    connection: Connection,
    declared: tuple[IndexSpec, ...] = (),
    *,
    slugs: Collection[str] = (),
    max_seconds: float = 2.0,
    compare_vectors: CompareVectors | None = None,
) -> Report:
    """Runs every rule, or those named, over one autocommit connection. Reads only; no statement runs longer than
    `max_seconds`. Rules about what a model makes run with `compare_vectors` only.

    Raises UsageError for a rule that does not exist, and ServerUnreachable or the like when the connection is lost.
    """
    rules = chosen_rules(slugs)
    examined = Examined(
        connection=connection,
        capabilities=look(connection),
        declared=declared,
        max_seconds=max_seconds,
        compare_vectors=compare_vectors,
    )
    return run_rules(examined, rules)


def run_rules(examined: Examined, rules: Collection[Rule]) -> Report:
    """The results of these rules, worst first: findings by severity, then unknown, then good results."""
    pairs = [(rule, answer) for rule in rules for answer in _run(rule, examined)]
    return Report(answers=tuple(sorted(pairs, key=_rank)))


def chosen_rules(slugs: Collection[str]) -> tuple[Rule, ...]:
    """The rules with these slugs; all rules when none is named. Raises UsageError for a slug that does not exist."""
    known = {rule.slug: rule for rule in all_rules()}
    for slug in slugs:
        if slug not in known:
            close = get_close_matches(slug, known, n=1, cutoff=0.5)
            raise UsageError(
                f"there is no rule {slug!r}.",
                why=f"the doctor has {len(known)} rules, but none with that name.",
                next_step=f"did you mean {close[0]}?" if close else "docs/doctor.md lists them all.",
            )
    return tuple(rule for slug, rule in known.items() if not slugs or slug in slugs)


def _run(rule: Rule, examined: Examined) -> Iterator[RuleResult]:
    try:
        yield from rule.check(examined)
    except psycopg.Error as exc:
        if examined.connection.closed:
            raise statement_error(exc, doing="examining the database") from exc
        yield unknown(f"{rule.title}: could not be checked, {_why(exc, examined)}")


def _why(exc: psycopg.Error, examined: Examined) -> str:
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return f"the server did not answer within {examined.max_seconds:g} s"
    text = exc.diag.message_primary or str(exc).strip().partition("\n")[0] or type(exc).__name__
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        return f'{text}; role "{examined.capabilities.role}" lacks the privilege'
    return f"{text} (SQLSTATE {exc.sqlstate})" if exc.sqlstate else text


def _rank(pair: tuple[Rule, RuleResult]) -> tuple[int, int, str, str]:
    rule, answer = pair
    # Severity orders findings only: good and unknown results have none.
    severity = _SEVERITIES.index(rule.severity) if answer.status == "finding" else 0
    return _STATUSES.index(answer.status), severity, rule.slug, answer.about


@cache
def all_rules() -> tuple[Rule, ...]:
    """The rules of all files in `everindex.doctor.rules`, by slug."""
    found = [
        importlib.import_module(f"{rules.__name__}.{module.name}").RULE
        for module in pkgutil.iter_modules(rules.__path__)
    ]
    return tuple(sorted(found, key=lambda rule: rule.slug))
