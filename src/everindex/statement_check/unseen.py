"""Reasons when a plan contains no distance: the search is in a function's body, on another server, or nothing is read."""

from __future__ import annotations

from everindex.statement_check.functions import WrittenFunction, called_in
from everindex.statement_check.plan import Plan
from everindex.statement_check.prepared_check import PreparedCheck
from everindex.statement_check.reason import Reason


def why_no_distance(prepared: PreparedCheck, plan: Plan) -> Reason:
    """The reason for a plan without a distance."""
    functions = called_in(prepared.caller, plan)
    if functions:
        return _body(functions)
    if any(node.kind == "Foreign Scan" for node in plan.nodes):
        return foreign(plan)
    if reads_nothing(plan):
        return Reason(
            slug="nothing-is-read",
            why="PostgreSQL reads no table at all: with these values the conditions of the statement contradict each other, no "
            "partition is left, or row security has no policy that lets the role see a row.",
            next_step="check with values that match rows (--param NAME=VALUE), as the role of the application (--role ROLE).",
        )
    operators = ", ".join(sorted({operator.name for operator in prepared.extension.operators}))
    return Reason(
        slug="no-distance",
        why=f"its plan contains no distance ({operators}).",
        next_step="a vector index serves ORDER BY column <=> vector LIMIT k.",
    )


def reads_nothing(plan: Plan) -> bool:
    """Whether the result is known to be empty before anything is read."""
    empty = [node for node in plan.nodes if node.kind == "Result" and not node.facts.get("Plans")]
    return not plan.scans and any(str(node.facts.get("One-Time Filter")) == "false" for node in empty)


def _body(functions: list[WrittenFunction]) -> Reason:
    # The function that searches, if any, is one that returns rows.
    function = sorted(functions, key=lambda one: not one.returns_set)[0]
    if function.language == "sql":
        why = (
            f"the body of {function.name}() is not part of the plan: PostgreSQL shows the body of a LANGUAGE sql function only "
            f"if it can inline it, but here {function.why_not_inlined}."
        )
        way = (
            "declare it STABLE, without SECURITY DEFINER, SET and STRICT, if that is correct for it; or check its body"
        )
    else:
        why = (
            f"the body of {function.name}() is not visible: a function of LANGUAGE {function.language} is planned when it runs, "
            "statement by statement, and EXPLAIN shows only the call."
        )
        way = "check the statement of its body"
    made = "".join(f" --set {setting}" for setting in function.settings)
    as_owner = " as the function's owner (--role), whose rights it has" if function.is_security_definer else ""
    return Reason(
        slug="body-of-a-function",
        why=why,
        next_step=f'{way}{as_owner}: everindex check "SELECT … ORDER BY … LIMIT …"{made}, with its arguments as parameters; '
        "auto_explain with auto_explain.log_nested_statements = on logs the plan of each statement.",
    )


def foreign(plan: Plan) -> Reason:
    """The reason for the foreign tables of a plan."""
    names = ", ".join(
        dict.fromkeys(node.relation[1] for node in plan.nodes if node.kind == "Foreign Scan" and node.relation)
    )
    return Reason(
        slug="foreign-table",
        why=f"{names or 'a table'} is a foreign table: this plan does not show what its server does with the statement.",
        next_step="run everindex check on that server, with the statement as it arrives there (Remote SQL of EXPLAIN "
        "VERBOSE).",
    )


def foreign_of(plan: Plan, table: tuple[str, str]) -> Reason | None:
    """The reason when a distance is on a foreign table, which no index of this server can serve."""
    is_foreign = any(node.kind == "Foreign Scan" and node.relation == table for node in plan.nodes)
    return foreign(plan) if is_foreign else None
