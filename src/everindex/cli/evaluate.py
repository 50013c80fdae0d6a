"""`everindex evaluate FILE`: how well modes, models and re-rankers find what judged queries say is relevant."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everindex.articles.model import MAX_K, MODES, Mode
from everindex.articles.search.request.options import MAX_RERANK
from everindex.cli.collection_option import CollectionOption
from everindex.cli.measure import write_text
from everindex.cli.output import JsonOption, print_json, row_progress, say, tell
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError
from everindex.units import count_text

if TYPE_CHECKING:
    from everindex.articles.evaluation.report import Evaluation

#: Where nothing says how many candidates a re-ranker reads.
CANDIDATES = 50
#: Unknown keys that are printed; `--json` has all of them.
SHOWN_KEYS = 5


def evaluate(
    file: Annotated[
        Path, typer.Argument(help='Judged queries, {"query": TEXT, "relevant": [KEY, …]} a line; with --qrels a topic file.')
    ],
    qrels: Annotated[
        Path | None, typer.Option("--qrels", help="TREC judgements (query 0 key grade) for FILE of query<TAB>text lines.")
    ] = None,
    modes: Annotated[list[str] | None, typer.Option("--mode", help="Only this mode; can be repeated (all three).")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Compare another embedding model, too: static, local:DIRECTORY or local:NAME, or one of the endpoint; can be "
            "repeated. Embeds every text of the table in memory.",
        ),
    ] = None,
    rerankers: Annotated[
        list[str] | None,
        typer.Option("--reranker", help="Also re-rank by this cross-encoder (local:DIRECTORY or local:NAME); can be repeated."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--rerank", help=f"Number of candidates that a re-ranker reads ({CANDIDATES}); alone, for EVERINDEX_RERANK_MODEL.",
            min=1, max=MAX_RERANK,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="Measure the first k results.", min=1, max=MAX_K)] = 10,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Name of the system that the others are compared with (the first one).")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a drawing to this SVG file.")] = None,
    collection: CollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    from everindex.articles.evaluation.judgements import read_judgements
    from everindex.articles.evaluation.plot import svg_of
    from everindex.articles.evaluation.report import evaluate as run_evaluation
    from everindex.articles.evaluation.systems import systems_of

    judgements = read_judgements(file, qrels)
    with open_instance(wait) as instance:
        searched = instance if collection is None else instance.collection(collection)
        chosen = _rerankers(rerankers, candidates, instance.settings.rerank_model)
        systems = systems_of(_modes(modes), models or (), chosen, candidates=candidates or CANDIDATES)
        with row_progress("embedding") if models else nullcontext() as advance:
            found = run_evaluation(
                searched, judgements, systems, k=k, baseline=baseline, on_texts=advance,
                on_system=lambda system: tell(f"evaluating {system.name}"),
            )  # fmt: skip
    if plot is not None:
        write_text(plot, svg_of(found))
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    if found.unknown:
        raise typer.Exit(3)


def _modes(named: Sequence[str] | None) -> list[Mode]:
    """The modes of these names, each once; all of them where none is named. Raises UsageError."""
    unknown = [name for name in named or () if name not in MODES]
    if unknown:
        raise UsageError(
            f"there is no search mode {unknown[0][:40]!r}.",
            why=f"the modes are {', '.join(MODES)}.",
            next_step="name one of them, or leave --mode out for all.",
        )
    return [mode for mode in MODES if not named or mode in named]


def _rerankers(named: Sequence[str] | None, candidates: int | None, configured: str | None) -> list[str]:
    """Raises UsageError for candidates without anything that reads them."""
    if named:
        return list(named)
    if candidates is None:
        return []
    if configured is None:
        raise UsageError(
            "--rerank has no cross-encoder to evaluate.",
            why="neither --reranker nor EVERINDEX_RERANK_MODEL names one.",
            next_step="add  --reranker local:DIRECTORY.",
        )
    return [configured]


def _print(found: Evaluation) -> None:
    judgements = found.judgements
    queries, judged = count_text(len(judgements.queries), "query", "queries"), count_text(judgements.count, "judgement")
    say(f"{queries}, {judged}; the first {found.k} results, mean and 95 % interval")
    names = list(found.measured[0].estimates)
    width = max(len("system"), *(len(one.system.name) for one in found.measured))
    say(f"{'system':<{width}}  {'  '.join(f'{name:<20}' for name in names)}  median")
    for one in found.measured:
        cells = (f"{each.mean:.3f} ({each.low:.3f}–{each.high:.3f})" for each in one.estimates.values())
        say(f"{one.system.name:<{width}}  {'  '.join(f'{cell:<20}' for cell in cells)}  {one.median_ms:.0f} ms")
    if found.comparisons:
        say(f"compared with {found.baseline} by {found.first_measure}, on the same queries:")
    for each in found.comparisons:
        gain = each.difference
        verdict = ("better" if gain.mean > 0 else "worse") if each.is_clear else "no clear difference"
        say(
            f"{each.system:<{width}}  {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), p = {each.p:.3f}, better on "
            f"{each.better}, worse on {each.worse}: {verdict}"
        )
    _print_problems(found)


def _print_problems(found: Evaluation) -> None:
    if found.unknown:
        first = ", ".join(found.unknown[:SHOWN_KEYS]) + (", …" if len(found.unknown) > SHOWN_KEYS else "")
        tell(
            f"note: {count_text(len(found.unknown), 'judged key')} not in the table, and counted as not found: {first}"
        )
    if found.unfindable:
        tell(f"note: {count_text(found.unfindable, 'query', 'queries')} without any relevant key in the table")
    if found.judgements.unjudged:
        tell(f"note: {count_text(len(found.judgements.unjudged), 'query', 'queries')} without a relevant key left out")
    for one in found.measured:
        for notice, times in one.notices.items():
            tell(f"note: {one.system.name}, {count_text(times, 'query', 'queries')}: {notice}")
