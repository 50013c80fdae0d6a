"""The adapters of LangChain and LlamaIndex beside the frameworks' own stores for pgvector: same rows, calls, server and turns.

    make env-adapters
    python bench/adapters.py langchain --home DIRECTORY [--count 60000]

Each framework's store runs in an environment of its own (bench/requirements), the adapter in .venv-adapters; both are called
through the framework's interface, in turns, query by query. Prints JSON; see compare.py for what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from article_corpus import corpus_arguments, corpus_of, near
from asked import asked
from compare import OURS, K, System, measure, say, write_corpus
from compare_langchain import LANGCHAIN
from compare_llamaindex import LLAMAINDEX
from conditions import filtered, unfiltered
from environments import python_of

from everindex.pg.embedded import running as embedded

ROOT = Path(__file__).parents[1]
RAW = ROOT / "docs" / "measurements" / "adapters.json"
SYSTEMS = {"langchain": LANGCHAIN, "llamaindex": LLAMAINDEX}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("framework", choices=SYSTEMS)
    corpus_arguments(parser)
    parser.add_argument("--queries", type=int, default=200, help="query vectors")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is asked")
    parser.add_argument("--environments", type=Path, help="where the environments lie (below the home)")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-adapters" / "bin" / "python")
    parser.add_argument("--write", action="store_true", help=f"put the numbers into {RAW.name} beside the page")
    options = parser.parse_args()
    result = compare(SYSTEMS[options.framework], options)
    if options.write:
        kept = json.loads(RAW.read_text(encoding="utf-8")) if RAW.exists() else {}
        RAW.write_text(json.dumps(kept | {options.framework: result}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def compare(system: System, options: argparse.Namespace) -> dict[str, Any]:
    started, load = time.monotonic(), os.getloadavg()[0]
    options.home.mkdir(parents=True, exist_ok=True)
    options.home.chmod(0o755)
    corpus = corpus_of(options)
    queries = near(corpus.vectors, options.queries)
    folder = options.home / "corpus"
    write_corpus(corpus, queries, folder)
    theirs = python_of(system.name, options.environments or options.home / "environments")
    with embedded.running(options.home / "server") as conninfo, ExitStack() as open_subjects:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        subjects = {OURS: ("everindex_adapter.py", options.python, (options.framework,))}
        for variant in system.variants:
            subjects[variant.name] = (system.script, theirs, variant.arguments)
        running, stored = {}, {}
        for name, (script, python, arguments) in subjects.items():
            running[name] = open_subjects.enter_context(asked(python, script, str(folder), conninfo, *arguments))
            stored[name] = running[name].load()
            say(f"{name}: ready after {stored[name]['seconds']:.0f} s")
        found = [measure(running, corpus, queries, unfiltered(corpus), rounds=options.rounds)]
        # Without a filter everindex takes the beam that finds as much as the others; under filters it chooses, as for a caller.
        running[OURS].set_ef_search(0)
        found += [
            measure(running, corpus, queries, condition, rounds=options.rounds)
            for condition in filtered(corpus, clustered=(0.1,))
        ]
    return {
        "framework": options.framework,
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "rows": len(corpus.rows),
        "dimensions": corpus.vectors.shape[1],
        "k": K,
        "queries": len(queries),
        "rounds": options.rounds,
        "versions": {name: one["versions"] for name, one in stored.items()},
        "load_seconds": {name: round(one["seconds"], 1) for name, one in stored.items()},
        "conditions": found,
        "seconds": round(time.monotonic() - started),
    }


if __name__ == "__main__":
    main()
