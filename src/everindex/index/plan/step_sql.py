"""The SQL of each step of a plan, for running it manually: complete, in order, in transactions where that matters.

It does what a deploy does, including comments and visibility to the planner. Not included are waiting for others, proving a
generation before it takes over, and the memory and workers of a build. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg import sql

from everindex.index.catalog.generations import (
    previous_note,
    read_note,
    serving_note,
    with_note,
    words_of_others,
)
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import answers_declared, is_hidden
from everindex.index.plan.ddl import (
    attach_statement,
    comment_statement,
    create_statement,
    drop_statement,
    reindex_statement,
    rename_statement,
    swap_statements,
    visibility_statement,
)
from everindex.index.plan.steps import (
    Attach,
    Build,
    CreateOnParent,
    DropIndex,
    Prove,
    Reindex,
    Rename,
    Step,
    Swap,
    WaitForBuild,
)
from everindex.index.spec import IndexSpec

BEGIN, COMMIT = sql.SQL("BEGIN"), sql.SQL("COMMIT")


def step_texts(step: Step, observed: Observed, *, spec: IndexSpec, now: datetime) -> list[str]:
    """The statements of a step of the plan for `spec`, each with its semicolon; empty for a step without SQL."""
    match step:
        case WaitForBuild() | Prove():
            composed: list[sql.Composable] = []
        case DropIndex():
            composed = [drop_statement(step.schema, step.name, concurrently=not step.is_partitioned)]
        case Rename():
            composed = _rename(step, observed)
        case Build():
            composed = [create_statement(step.spec, observed, concurrently=step.is_online)]
        case CreateOnParent():
            composed = [create_statement(step.spec, observed, concurrently=False, on_only=True)]
        case Attach():
            composed = [attach_statement(step)]
        case Reindex():
            composed = [reindex_statement(step)]
        case Swap():
            composed = _swap(step, observed, spec, now)
    return [_on_one_line(statement.as_string(None)) + ";" for statement in composed]


def _rename(step: Rename, observed: Observed) -> list[sql.Composable]:
    found = _named(observed, step.old)
    return [
        BEGIN,
        rename_statement(step.schema, step.old, step.new),
        comment_statement(step.schema, step.new, words_of_others(None if found is None else found.comment)),
        *([visibility_statement(step.schema, step.new, is_shown=True)] if step.is_hidden else []),
        COMMIT,
    ]


def _swap(step: Swap, observed: Observed, spec: IndexSpec, now: datetime) -> list[sql.Composable]:
    serving, successor = _named(observed, step.serving), _named(observed, step.successor)
    assert serving is not None  # the plan has observed it
    words = words_of_others(serving.comment)
    hides = observed.is_superuser and answers_declared(spec, observed, serving) and step.keep_seconds > 0
    keep_until = now + timedelta(seconds=step.keep_seconds)
    note = previous_note(keep_until=keep_until, is_hidden=hides, shortfall=read_note(serving.comment).shortfall)
    theirs = None if successor is None else words_of_others(successor.comment)
    shortfall = None if successor is None else read_note(successor.comment).shortfall
    return [
        BEGIN,
        *swap_statements(step.schema, step.serving, successor=step.successor, previous=step.previous),
        comment_statement(step.schema, step.serving, with_note(theirs or words, serving_note((), shortfall))),
        comment_statement(step.schema, step.previous, with_note(words, note)),
        *([visibility_statement(step.schema, step.previous, is_shown=False)] if hides else []),
        *(
            [visibility_statement(step.schema, step.serving, is_shown=True)]
            if successor is not None and is_hidden(successor)
            else []
        ),
        COMMIT,
        *(
            [drop_statement(step.schema, step.previous, concurrently=not serving.is_partitioned)]
            if step.keep_seconds <= 0
            else []
        ),
    ]


def _named(observed: Observed, name: str) -> ObservedIndex | None:
    return next((index for index in observed.indexes if index.name == name), None)


def _on_one_line(text: str) -> str:
    """A statement without line breaks: those in the text of a comment are written as escapes."""
    if "\n" not in text and "\r" not in text:
        return text
    beginning, _, literal = text.partition(" IS ")
    if not beginning.startswith("COMMENT ON INDEX") or "\\" in literal:
        return text
    escaped = literal.replace("\r", "\\r").replace("\n", "\\n")
    return f"{beginning} IS E{escaped}"
