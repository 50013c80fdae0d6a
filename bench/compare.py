"""The speed of everindex beside another system: same rows, graph, ef_search and machine, in turns, query by query."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from article_corpus import Corpus, corpus_arguments, corpus_of, instance_with, near
from asked import Asked, Found, asked
from conditions import Condition, filtered, unfiltered
from environments import python_of
from exact import Exact, exact, unit
from turns import summary, turns

from everindex.articles.instance import Instance

K = 10
OURS = "everindex"
RAW = Path(__file__).parents[1] / "docs" / "measurements" / "compare.json"
#: The planner's settings of PostgreSQL as it comes, for --server default. The embedded server is told of the machine.
DEFAULTS = {"random_page_cost": "4", "effective_cache_size": "4GB", "work_mem": "4MB", "jit": "on"}
#: Where everindex finds less than the other at 40.
BEAMS = (50, 60, 80, 100, 120, 160, 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the other system."""

    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Another system: its environment, its script, the ways to run it, and whether it uses our server."""

    name: str
    script: str
    variants: tuple[Variant, ...]
    is_on_our_server: bool


def main(system: System) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument("--queries", type=int, default=200, help="query vectors")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is asked")
    parser.add_argument("--environments", type=Path, help="where the environments lie (below the home)")
    parser.add_argument(
        "--server",
        choices=("configured", "default"),
        default="configured",
        help="whether the server's planner knows the machine, as everindex configures it, or PostgreSQL comes as it is",
    )
    parser.add_argument("--write", action="store_true", help=f"put the numbers into {RAW.name} beside the page")
    options = parser.parse_args()
    result = compare(system, options)
    if options.write:
        kept = json.loads(RAW.read_text(encoding="utf-8")) if RAW.exists() else {}
        name = system.name if options.server == "configured" else f"{system.name}, server at defaults"
        RAW.write_text(json.dumps(kept | {name: result}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def compare(system: System, options: argparse.Namespace) -> dict[str, Any]:
    started, load = time.monotonic(), os.getloadavg()[0]
    corpus = corpus_of(options)
    queries = near(corpus.vectors, options.queries)
    folder = options.home / "corpus"
    write_corpus(corpus, queries, folder)
    python = python_of(system.name, options.environments or options.home / "environments")
    settings = DEFAULTS if options.server == "default" else None
    with instance_with(corpus, options.home, settings=settings) as instance, ExitStack() as open_subjects:
        subjects = {OURS: ("everindex_search.py", Path(sys.executable), (instance.conninfo,))}
        data = instance.conninfo if system.is_on_our_server else str(options.home / system.name)
        for variant in system.variants:
            subjects[variant.name] = (system.script, python, (data, *variant.arguments))
        running = {}
        stored = {}
        for name, (script, interpreter, arguments) in subjects.items():
            running[name] = open_subjects.enter_context(asked(interpreter, script, str(folder), *arguments))
            stored[name] = running[name].load()
            say(f"{name}: ready after {stored[name]['seconds']:.0f} s")
        server = server_facts(instance)
        found = [
            measure(running, corpus, queries, condition, rounds=options.rounds)
            for condition in (unfiltered(corpus), *filtered(corpus, clustered=(0.1,)))
        ]
    return {
        "system": system.name,
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        "rows": len(corpus.rows),
        "dimensions": corpus.vectors.shape[1],
        "k": K,
        "queries": len(queries),
        "rounds": options.rounds,
        "server": server,
        "versions": {name: one["versions"] for name, one in stored.items()},
        "load_seconds": {name: round(one["seconds"], 1) for name, one in stored.items()},
        "conditions": found,
        "seconds": round(time.monotonic() - started),
    }


def write_corpus(corpus: Corpus, queries: np.ndarray, folder: Path) -> None:
    """What the subjects read: vectors and queries as .npy, rows as JSON lines in the order of the vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "queries.npy", queries)
    there = folder / "vectors.npy"
    if not there.exists() or np.load(there, mmap_mode="r").shape != corpus.vectors.shape:
        np.save(there, corpus.vectors)
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row, default=str) + "\n" for row in corpus.rows)


def measure(
    running: dict[str, Asked], corpus: Corpus, queries: np.ndarray, condition: Condition, *, rounds: int
) -> dict[str, Any]:
    """One condition: first every query untimed, for recall and warm pages, then in turns."""
    truth = exact(corpus.vectors[condition.passing], queries, k=K)
    rows = {row["uri"]: number for number, row in enumerate(corpus.rows)}

    def recall(subject: Asked) -> tuple[list[float], list[Found]]:
        answers = [subject.search(number, condition.only) for number in range(len(queries))]
        return [
            truth.recall(number, likeness(corpus, rows, queries[number], answer.uris))
            for number, answer in enumerate(answers)
        ], answers

    first = {name: recall(subject) for name, subject in running.items()}
    if not condition.only:
        first[OURS] = equalised(running[OURS], first, recall)
    times: dict[str, list[float]] = {name: [] for name in running}
    names = list(running)
    for turn, name in turns(names, rounds * len(queries)):
        times[name].append(running[name].search(turn % len(queries), condition.only).seconds)
    result = {
        "condition": condition.name,
        "only": condition.only,
        "share": condition.share,
        "rows_passing": int(condition.passing.sum()),
        "subjects": {
            name: {
                **summary(times[name]),
                "recall_at_10": round(statistics.fmean(first[name][0]), 4),
                "short_answers": short(first[name][1], truth),
                **first[name][1][-1].told,
            }
            for name in names
        },
    }
    ours = result["subjects"][OURS]["median_ms"]
    result["times_as_long_as_everindex"] = {
        name: round(result["subjects"][name]["median_ms"] / ours, 2) for name in names if name != OURS
    }
    say(json.dumps({"condition": condition.name, **result["subjects"]}))
    return result


def equalised(ours: Asked, first: dict[str, Any], recall: Any) -> Any:
    """everindex's recall pass at the smallest beam at which it finds as much as the others; its beam stays so."""
    wanted = max(statistics.fmean(found) for name, (found, _) in first.items() if name != OURS)
    passed = first[OURS]
    for beam in BEAMS:
        if statistics.fmean(passed[0]) >= wanted:
            break
        ours.set_ef_search(beam)
        passed = recall(ours)
    return passed


def likeness(corpus: Corpus, rows: dict[str, int], query: np.ndarray, uris: list[str]) -> np.ndarray:
    """The true similarities of what was found, (n,) float32."""
    if len(set(uris)) < len(uris):
        raise RuntimeError(f"an answer holds a row twice: {uris}")
    return np.asarray(unit(corpus.vectors[[rows[uri] for uri in uris]]) @ unit(query), dtype=np.float32)


def short(answers: list[Found], truth: Exact) -> int:
    """How many answers have fewer rows than exist."""
    return sum(len(answer.uris) < truth.there(number) for number, answer in enumerate(answers))


def server_facts(instance: Instance) -> dict[str, str]:
    with instance.connection() as connection:
        names = ["server_version", "shared_buffers", *DEFAULTS]
        found = connection.execute(
            "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE name = ANY(%s)", (names,)
        ).fetchall()
        extension = connection.execute(
            "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'vector'"
        ).fetchone()
    return {name: str(value) for name, value in found} | {"pgvector": str(extension[0]) if extension else "none"}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
