"""Are sentences found that stand only in the body of an article, and what do passages cost? By length of the passages.

The articles are the manual pages of this machine (or `--rows FILE.jsonl`, articles with `raw_text`): title and summary from NAME,
the rest as the body. The queries are sentences of bodies that stand in no other text: whole, their second half, and five of
their rarer words; none has a minus before a word, which would leave it out. Each is right when its article is among the first
ten. That is easier than what people ask; it tells whether what is stored can be found at all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from turns import summary, timed

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import MODES, Article
from everindex.articles.passages.splitter import Splitter
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

LEAST_CHARACTERS = 2_000
LENGTHS = (32, 64, 128, 256, 512)
SEED = 7
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\n+")
_WORD = re.compile(r"[A-Za-z][a-z]{2,}")
#: Macros of man pages whose arguments are text.
_TEXT_MACROS = {"B", "I", "BR", "RB", "IR", "RI", "BI", "IB", "SM", "SB", "IP", "TP", "Nm", "Fl", "Ar", "Nd"}


def manual_pages(folder: Path, count: int) -> Iterator[Article]:
    """Pages in the order of a shuffle that is always the same."""
    files = sorted(folder.glob("man[1-9]/*.gz"))
    random.Random(SEED).shuffle(files)
    seen = set()
    for file in files:
        if count == len(seen):
            return
        if file.is_symlink() or file.name.startswith("gcloud"):  # thousands, made from one template
            continue
        page = gzip.decompress(file.read_bytes()).decode(errors="replace")
        body = plain(page)
        name = re.search(r"^(\S[^\n]*?) +-+ +(.+?)$", body, re.MULTILINE)
        if name is None or len(body) < LEAST_CHARACTERS or (name[1], name[2]) in seen:
            continue
        seen.add((name[1], name[2]))
        text = body[name.end() :].strip()
        yield Article(uri=f"man:{file.name}", title=name[1], summary=name[2], category=file.parent.name, raw_text=text)


def plain(page: str) -> str:
    """The text of a page, without most of its mark-up."""
    lines = []
    for line in page.splitlines():
        if line.startswith(("'\\\"", '.\\"', "'")):
            continue
        if line.startswith("."):
            macro, _, rest = line[1:].strip().partition(" ")
            if macro in ("SH", "SS", "PP", "P", "LP", "Pp", "Sh"):
                lines.append(f"\n\n{rest.strip(chr(34))}\n" if rest else "\n\n")
            elif macro in _TEXT_MACROS:
                lines.append(rest.replace('"', "") + " ")
            continue
        lines.append(line + " ")
    text = "".join(lines)
    text = re.sub(r"\\f(\[\w*\]|\(..|.)|\\s[-+]?\d|\\[&/,|^%:]|\\\*\(?..?", "", text)
    text = text.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\").replace("\\ ", " ").replace("\\(bu", "")
    text = re.sub(r"\\\((..)|\\\[\w+\]", "", text)
    return re.sub(r"[ \t]+", " ", re.sub(r"\n{3,}", "\n\n", text)).strip()


def queries_of(articles: Sequence[Article], count: int) -> list[tuple[str, dict[str, str]]]:
    """(uri, kind → query): one sentence of each of `count` articles, which stands in no other text."""
    chooser = random.Random(SEED)
    words: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    of: dict[str, list[str]] = {}
    for article in articles:
        found = [" ".join(each.split()) for each in _SENTENCE.split(article.raw_text or "")]
        of[article.uri] = [
            each for each in found if 8 <= len(_WORD.findall(each)) <= 40 and each.endswith(".") and " -" not in each
        ]
        sentences.update(set(found))
        words.update({word.lower() for word in _WORD.findall(article.raw_text or "")})
    chosen = []
    for article in chooser.sample(list(articles), len(articles)):
        shown = {word.lower() for word in _WORD.findall(f"{article.title} {article.summary}")}
        own = [
            each
            for each in of[article.uri]
            if sentences[each] == 1
            and sum(word.lower() in shown for word in _WORD.findall(each)) * 2 < len(_WORD.findall(each))
        ]
        if not own:
            continue
        sentence = chooser.choice(own)
        parts = sentence.split()
        rare = sorted(set(_WORD.findall(sentence)), key=lambda word: (words[word.lower()], word))[:5]
        chosen.append(
            (
                article.uri,
                {
                    "the sentence": sentence,
                    "its second half": " ".join(parts[len(parts) // 2 :]),
                    "five of its words": " ".join(sorted(rare, key=sentence.index)),
                },
            )
        )
        if len(chosen) == count:
            break
    return chosen


def measured(instance: Instance, queries: Sequence[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Of each mode and kind the share of queries whose article is among the first ten, and the times."""
    for mode in MODES:
        for _, kinds in queries[:5]:
            instance.search(kinds["the sentence"], mode=mode)
    told: dict[str, Any] = {}
    for mode in MODES:
        of_mode: dict[str, Any] = {}
        seconds = []
        for kind in queries[0][1]:
            found = 0
            for uri, kinds in queries:
                took, answer = timed(lambda mode=mode, text=kinds[kind]: instance.search(text, mode=mode))
                seconds.append(took)
                found += uri in {hit.uri for hit in answer.hits}
            of_mode[kind] = round(found / len(queries), 4)
        told[mode] = of_mode | summary(seconds)
    print(json.dumps(told), file=sys.stderr)
    return told


def sizes(instance: Instance) -> dict[str, Any]:
    with instance.connection() as connection:
        row = connection.execute(
            "SELECT pg_relation_size('everindex_meta.article_passage'), pg_relation_size("
            "'everindex_meta.article_passage_embedding_hnsw_idx'), pg_relation_size("
            "'everindex_meta.article_passage_words_idx')"
        ).fetchone()
    assert row is not None
    return dict(zip(("table_bytes", "vector_index_bytes", "words_index_bytes"), row, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where the server lies")
    parser.add_argument("--pages", type=Path, default=Path("/usr/share/man"), help="manual pages")
    parser.add_argument("--rows", type=Path, help="articles as JSON lines, with raw_text")
    parser.add_argument("--count", type=int, default=1000, help="articles")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--tokens", type=int, nargs="*", default=LENGTHS, help="lengths of passages")
    options = parser.parse_args()
    if options.rows:
        articles = [Article(**json.loads(line)) for line in options.rows.open(encoding="utf-8")][: options.count]
    else:
        articles = list(manual_pages(options.pages, options.count))
    queries = queries_of(articles, options.queries)
    options.home.mkdir(parents=True, exist_ok=True)
    options.home.chmod(0o755)
    told: dict[str, Any] = {
        "date": str(date.today()), "articles": len(articles), "queries": len(queries),
        "characters": sum(len(article.raw_text or "") for article in articles),
    }  # fmt: skip
    with embedded.running(options.home / "server", settings={}) as conninfo:
        runner.upgrade(conninfo, wait_seconds=0)
        with connect_instance(
            conninfo, settings=Settings(EVERINDEX_PASSAGES="off", EVERINDEX_SLOW_QUERY_MS=10_000)
        ) as instance:
            instance.upsert(articles)
            told["model"] = instance.embedder.model
            told["without passages"] = measured(instance, queries)
        for tokens in options.tokens:
            with connect_instance(
                conninfo, settings=Settings(EVERINDEX_PASSAGE_TOKENS=tokens, EVERINDEX_SLOW_QUERY_MS=10_000)
            ) as instance:
                splitter = Splitter(instance.embedder, passage_tokens=tokens)
                cut_seconds, _ = timed(lambda s=splitter: [s.cut(article.raw_text or "") for article in articles])
                started = time.perf_counter()
                report = instance.embed_missing().passages
                told[f"{tokens} tokens"] = {
                    "passages": report.passages,
                    "cut_seconds": round(cut_seconds, 2),
                    "embed_and_index_seconds": round(time.perf_counter() - started, 2),
                    **sizes(instance),
                    **measured(instance, queries),
                }
    json.dump(told, sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
