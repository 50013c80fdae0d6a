"""What the tests of rules share: a database with a bad state in it, a rule asked, its own fix carried out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from by_hand import run
from everindex.doctor.examine import chosen_rules, run_rules
from everindex.doctor.examined import Examined
from everindex.doctor.rule import RuleResult
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look
from everindex.pg.connections import connect


def answers(
    conninfo: str,
    slug: str,
    *,
    declared: tuple[IndexSpec, ...] = (),
    first: Iterable[str] = (),
    capabilities: dict[str, Any] | None = None,
    now: datetime | None = None,
    **arguments: Any,
) -> list[RuleResult]:
    """What the rule says, on a session that ran `first`; `capabilities` and `now` stand in for what the server said."""
    (rule,) = chosen_rules([slug])
    with connect(conninfo) as connection:
        for statement in first:
            connection.execute(statement)
        examined = Examined(
            connection=connection, capabilities=replace(look(connection), **(capabilities or {})), declared=declared
        )
        if now is not None:
            examined.now = now
        report = run_rules(examined, [replace(rule, check=partial(rule.check, **arguments))])
    return [answer for _, answer in report.answers]


def the_finding(conninfo: str, slug: str, **given: Any) -> RuleResult:
    """The one finding of the rule; fails where there is none, or another one."""
    found = [answer for answer in answers(conninfo, slug, **given) if answer.status == "finding"]
    assert len(found) == 1, found
    return found[0]


def is_good(conninfo: str, slug: str, **given: Any) -> None:
    """The rule applies, and everything that it says is good."""
    said = answers(conninfo, slug, **given)
    assert {answer.status for answer in said} == {"good"}, said


def good_after_its_fix(conninfo: str, slug: str, finding: RuleResult, **given: Any) -> None:
    """Carries out the statements of the finding's fix, those of a session in the session that then asks."""
    assert finding.fix is not None
    assert finding.fix.statements
    of_the_session = [line for line in finding.fix.statements if line.startswith("SET ")]
    run(conninfo, *(line for line in finding.fix.statements if line not in of_the_session))
    is_good(conninfo, slug, first=of_the_session, **given)


def make_items(
    conninfo: str, *, rows: int = 300, dimensions: int = 8, options: str = "m = 4, ef_construction = 8"
) -> None:
    """Table `items` with an HNSW index `items_idx` and statistics."""
    run(
        conninfo,
        "CREATE EXTENSION IF NOT EXISTS vector",
        f"CREATE TABLE items (id int PRIMARY KEY, embedding vector({dimensions}))",
        f"INSERT INTO items SELECT n, ARRAY(SELECT random() + 0 * n FROM generate_series(1, {dimensions}))::vector "
        f"FROM generate_series(1, {rows}) AS n",
        f"CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops) WITH ({options})",
        "ANALYZE items",
    )
