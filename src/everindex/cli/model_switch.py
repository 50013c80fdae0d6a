"""`everindex model plan | switch | rollback | drop`: changing the embedding model without a gap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from everindex.cli.output import is_terminal, print_json, reporter, row_progress, say, tell
from everindex.cli.waiting import open_instance
from everindex.errors import UsageError
from everindex.units import size_text

if TYPE_CHECKING:
    from everindex.articles.model_switch.cutting import Cut
    from everindex.articles.model_switch.planning import SwitchPlan
    from everindex.articles.model_switch.switching import JudgeAnswers
    from everindex.articles.model_switch.verdict import Verdict

#: Prices are of so many tokens.
TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOptions:
    """The options of `everindex model plan` and `switch`, as they were given."""

    dimensions: int | None
    price: float | None
    most_cost: float | None
    texts_per_second: float | None
    window: str | None
    judged: Path | None
    least_overlap: float
    most_slower: float
    keep_days: float
    is_agreed: bool


def run_verb(verb: str, name: str, options: SwitchOptions, *, wait: float | None, as_json: bool) -> None:
    """Runs one of the verbs. Raises UsageError, and what `ModelSwitch` raises."""
    match verb:
        case "plan":
            _plan(name, options, wait=wait, as_json=as_json)
        case "switch":
            _switch(name, options, wait=wait, as_json=as_json)
        case "rollback":
            with open_instance(wait) as instance:
                _show_cut(instance.model_switch.rollback(), as_json=as_json)
        case _:
            if not name.isdecimal():
                raise UsageError(
                    f"{name[:40]!r} is not the number of a generation.",
                    why="everindex model  lists the generations of vectors by number.",
                    next_step="run  everindex model drop 1  (or another number).",
                )
            with open_instance(wait) as instance:
                done = instance.model_switch.drop(int(name))
            print_json({"dropped": int(name), "did": done}) if as_json else say(done)


def _plan(name: str, options: SwitchOptions, *, wait: float | None, as_json: bool) -> None:
    with open_instance(wait) as instance:
        plan = instance.model_switch.plan(
            name, dimensions=options.dimensions, price=options.price, texts_per_second=options.texts_per_second
        )
    if as_json:
        print_json(plan.as_dict())
    else:
        _show_plan(plan)
    if not plan.can_end:
        raise typer.Exit(3)


def _switch(name: str, options: SwitchOptions, *, wait: float | None, as_json: bool) -> None:
    from everindex.articles.model_switch.filling import Limits
    from everindex.articles.model_switch.switching import KEEP_HOURS
    from everindex.articles.model_switch.verdict import Thresholds

    queries, judge_answers = _judged(options.judged)
    limits = Limits(
        texts_per_second=options.texts_per_second, most_tokens=_most_tokens(options), window=window_of(options.window)
    )

    def confirm(verdict: Verdict) -> bool:
        if not as_json:
            _show_verdict(verdict)
        if options.is_agreed:
            return True
        if not is_terminal():
            return False
        return typer.confirm("let the new model serve?", default=False, err=True)

    with open_instance(wait) as instance:
        thresholds = Thresholds(
            least_recall=instance.settings.recall_floor,
            least_overlap=options.least_overlap,
            most_slower=options.most_slower,
        )
        with reporter() as reporting, row_progress("embedding") if not as_json else nullcontext() as advance:
            done = instance.model_switch.run(
                name, dimensions=options.dimensions, limits=limits, thresholds=thresholds, queries=queries,
                judge_answers=judge_answers, confirm=confirm, reporter=reporting, on_rows=advance or (lambda rows: None),
                say=tell, keep_hours=options.keep_days * 24 if options.keep_days else KEEP_HOURS,
            )  # fmt: skip
    if as_json:
        print_json(done.as_dict())
    elif done.cut is not None:
        say(f"{done.filled.texts} texts embedded, {done.filled.failed} without a vector")
        _show_cut(done.cut, as_json=False)
    else:
        say(f"the old model serves: {done.stopped}")
        say(
            f"run  everindex model switch {name}  to continue"
            + ("" if options.is_agreed else " (--yes answers the question)")
        )
    if done.cut is None:
        raise typer.Exit(3)


def _judged(path: Path | None) -> tuple[Sequence[str], JudgeAnswers | None]:
    """The queries of a file of judged queries, and the function that compares answers to them."""
    if path is None:
        return (), None
    from everindex.articles.evaluation.judgements import read_judgements
    from everindex.articles.evaluation.measures import measure
    from everindex.articles.model_switch.verdict import K

    judgements = read_judgements(path)

    def ndcg(answers: Mapping[str, Sequence[str]]) -> float:
        rankings = {query.id: answers.get(query.text, ()) for query in judgements.queries}
        return float(measure(judgements.queries, rankings, k=K)[f"nDCG@{K}"].mean())

    return [query.text for query in judgements.queries], lambda old, new: (ndcg(old), ndcg(new))


def _most_tokens(options: SwitchOptions) -> int | None:
    if options.most_cost is None:
        return None
    if options.price is None:
        raise UsageError(
            "--most-cost needs a price.",
            why="what a text costs is known from its tokens and their price.",
            next_step="add  --price P , the price of a million tokens in the same currency.",
        )
    return int(options.most_cost / options.price * TOKENS) if options.price > 0 else None


def window_of(text: str | None) -> tuple[dt.time, dt.time] | None:
    """The hours of `HH:MM-HH:MM`. Raises UsageError."""
    if text is None:
        return None
    begins, dash, ends = text.partition("-")
    try:
        if not dash:
            raise ValueError
        return dt.time.fromisoformat(begins.strip()), dt.time.fromisoformat(ends.strip())
    except ValueError:
        raise UsageError(
            f"{text[:40]!r} is not a time window.",
            why="it has the form HH:MM-HH:MM, in UTC.",
            next_step="give for example  --window 22:00-06:00.",
        ) from None


# --- output ------------------------------------------------------------------------------------------------------------


def _show_plan(plan: SwitchPlan) -> None:
    from everindex.articles.model_switch.planning import LOCKS

    lines: list[tuple[str, str]] = [
        ("model", f"{plan.model}, {plan.dimensions} dimensions as {plan.vector_type}"),
        ("texts", f"{plan.texts}, of which {plan.left} lack a vector of it"),
        ("tokens", f"about {plan.tokens:,}" + ("" if plan.cost is None else f", {plan.cost:.2f} at the stated price")),
        (
            "embedding",
            "not known: no text was embedded"
            if plan.embed_seconds is None
            else f"about {_duration(plan.embed_seconds)}, at {plan.texts_per_second:.0f} texts a second measured now",
        ),
        ("disk", f"{size_text(plan.table_bytes)} of vectors and {size_text(plan.index_bytes)} of index"),
        ("memory", f"{size_text(plan.memory_bytes)} of maintenance_work_mem keep the build fast"),
        ("build", f"about {_duration(plan.build_seconds)} on one processor (an assumption, not a measurement)"),
    ]
    for what, value in lines:
        say(f"{what:<10} {value}")
    say("locks")
    for lock in LOCKS:
        say(f"  {lock}")
    for refusal in plan.refusals:
        say(f"✗ {refusal.what} {refusal.why}")
        say(f"  next: {refusal.next_step}")
    if plan.can_end:
        say("nothing was changed;  everindex model switch  does it")


def _show_verdict(verdict: Verdict) -> None:
    rows = [("", "measure", "old", "new", "threshold")]
    rows += [("✓" if each.holds else "✗", each.measure, each.old, each.new, each.threshold) for each in verdict.lines]
    widths = [max(len(row[number]) for row in rows) for number in range(5)]
    say(f"{verdict.queries} queries: {verdict.source}")
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    say("verdict: go" if verdict.is_go else "verdict: no go")
    for note in verdict.notes:
        tell(f"note: {note}")


def _show_cut(cut: Cut, *, as_json: bool) -> None:
    if as_json:
        print_json(cut.as_dict())
        return
    say(
        f"generation {cut.after} serves ({cut.model or 'model unknown'}); writers waited {cut.locked_ms:.0f} ms at most"
    )
    if cut.coverage.lacking:
        say(
            f"{cut.coverage.lacking} of {cut.coverage.rows} articles have no vector in it yet:  everindex embed  makes them"
        )
    say(f"generation {cut.before} is kept:  everindex model rollback  goes back to it")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
