"""The resident memory of `everindex serve` over articles with whole texts: at the start, and after searches of every kind.

    python bench/passages_memory.py --home DIRECTORY [--articles 1000]

The bodies are made of 20 summaries of the packaged sample each. The process has no extra. Linux. Starts a server of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from http_memory import resident_mb

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.articles.model import MODES, Article
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

ITEMS = 20
SEARCHES = 100
SEED = 7


def articles(count: int) -> tuple[list[Article], list[str]]:
    """Articles with bodies of ITEMS summaries, and the summaries."""
    read = (row.summary for row in read_source(str(sample_source())) if isinstance(row, Article))
    texts = [text for text in read if text and len(text) >= 60]
    chosen = random.Random(SEED)
    bodies = ("\n\n".join(chosen.sample(texts, ITEMS)) for _ in itertools.count())
    return [
        Article(
            uri=f"digest/{number}", title=f"Digest {number}", summary=texts[number % len(texts)], raw_text=next(bodies)
        )
        for number in range(count)
    ], texts


def served(conninfo: str, texts: list[str], home: Path) -> dict[str, float]:
    """Resident MB of a server after its start and after each kind of search."""
    environment = {**os.environ, "DATABASE_URL": conninfo, "EVERINDEX_KEEP": "off", "EVERINDEX_ACCESS": "local"}
    command = [str(Path(sys.executable).with_name("everindex")), "serve", "--port", "0"]
    log = home / "serve.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        while not (found := re.search(r"http://\S+", log.read_text(encoding="utf-8"))):
            if process.poll() is not None:
                raise SystemExit(log.read_text(encoding="utf-8"))
            time.sleep(0.2)
        told = {"at the start": resident_mb(process.pid)}
        for mode in MODES:
            for text in texts[:SEARCHES]:
                with urlopen(
                    f"{found[0]}/api/search?{urlencode({'q': text[:200], 'mode': mode})}", timeout=60
                ) as answer:
                    answer.read()
            told[f"after {SEARCHES} {mode}"] = resident_mb(process.pid)
        return {name: round(value, 1) for name, value in told.items()}
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--articles", type=int, default=1000)
    options = parser.parse_args()
    rows, texts = articles(options.articles)
    options.home.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"date": str(date.today()), "articles": len(rows)}
    with embedded.running(options.home / "server", settings={}) as conninfo:
        runner.upgrade(conninfo, wait_seconds=0)
        with connect_instance(conninfo, settings=Settings(EVERINDEX_PASSAGES="off")) as instance:  # type: ignore[call-arg]
            instance.upsert(rows)
        told["without passages, MB"] = served(conninfo, texts, options.home)
        with connect_instance(conninfo, settings=Settings()) as instance:
            told["passages"] = instance.embed_missing().passages.passages
        told["with passages, MB"] = served(conninfo, texts, options.home)
    json.dump(told, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
