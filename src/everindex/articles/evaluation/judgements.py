"""Judged queries: texts, and the keys of what answers them, from JSON lines or from TREC's two files.

A file is read whole or refused with the faulty line. Whether a key is in the table is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everindex.errors import EverindexError, SourceUnreadable
from everindex.units import count_text

#: The greatest grade: nDCG weighs a grade g by g (trec_eval), and no scale in use is longer.
MAX_GRADE = 100
EXAMPLE = '{"query": "memory leak in the parser", "relevant": ["KEY", "KEY"]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuery:
    """One query and its judgements."""

    id: str
    text: str
    grades: Mapping[str, int]
    """Key as text → grade; 0 says that it was judged and is not relevant. At least one is above 0."""

    line: int

    @property
    def relevant(self) -> frozenset[str]:
        """The keys with a grade above 0."""
        return frozenset(key for key, grade in self.grades.items() if grade > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """The queries of a file, in its order."""

    queries: tuple[JudgedQuery, ...]
    unjudged: tuple[str, ...] = ()
    """Ids of TREC queries without a relevant document: no measure is defined for them, and they are left out."""

    @property
    def keys(self) -> frozenset[str]:
        """Every judged key."""
        return frozenset(key for query in self.queries for key in query.grades)

    @property
    def count(self) -> int:
        """How many keys are judged relevant, over all queries."""
        return sum(len(query.relevant) for query in self.queries)


def read_judgements(path: Path, qrels: Path | None = None) -> Judgements:
    """The judged queries of `path`: JSON lines, or with `qrels` a TREC topic file (`id<TAB>text`) whose judgements `qrels` has
    (`id iteration key grade`). Raises SourceUnreadable, naming the line."""
    lines = _lines(path)
    if qrels is not None:
        return _trec(path, lines, qrels, _lines(qrels))
    queries: list[JudgedQuery] = []
    for number, line in lines:
        queries.append(_json_query(path, number, line))
    _require_distinct(path, queries)
    if not queries:
        raise _refused(path, None, "it has no query", f"write one query a line: {EXAMPLE}")
    return Judgements(queries=tuple(queries))


def _json_query(path: Path, number: int, line: str) -> JudgedQuery:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise _refused(path, number, f"it is not JSON ({exc})") from None
    if not isinstance(found, dict):
        raise _refused(path, number, "it is not a JSON object")
    unknown = sorted(set(found) - {"query", "relevant", "id"})
    if unknown:
        raise _refused(path, number, f"it has the unknown member {unknown[0][:40]!r}")
    text = found.get("query")
    if not isinstance(text, str) or not text.strip():
        raise _refused(path, number, 'it has no text under "query"')
    grades = _grades(path, number, found.get("relevant"))
    return JudgedQuery(id=str(found.get("id", number)), text=text.strip(), grades=grades, line=number)


def _grades(path: Path, number: int, found: Any) -> dict[str, int]:
    if isinstance(found, (str, int)) and not isinstance(found, bool):
        found = [found]
    if isinstance(found, list):
        if not all(isinstance(key, (str, int)) and not isinstance(key, bool) for key in found):
            raise _refused(path, number, '"relevant" has something that is not a key: keys are texts or whole numbers')
        found = dict.fromkeys(map(str, found), 1)
    if not isinstance(found, dict):
        raise _refused(path, number, '"relevant" is neither a list of keys nor an object of keys with grades')
    for grade in found.values():
        if isinstance(grade, bool) or not isinstance(grade, int) or not 0 <= grade <= MAX_GRADE:
            raise _refused(path, number, f"the grade {grade!r} is not a whole number from 0 to {MAX_GRADE}")
    if not any(found.values()):
        raise _refused(path, number, "no key is relevant: nothing could be found, and no measure is defined for that")
    return {str(key): grade for key, grade in found.items()}


def _trec(path: Path, topics: Sequence[tuple[int, str]], qrels: Path, judged: Sequence[tuple[int, str]]) -> Judgements:
    grades: dict[str, dict[str, int]] = {}
    for number, line in judged:
        parts = line.split()
        if len(parts) != 4:
            raise _refused(qrels, number, f"it has {count_text(len(parts), 'column')}", "write  query 0 key grade")
        try:
            grade = int(parts[3])
        except ValueError:
            raise _refused(qrels, number, f"the grade {parts[3][:40]!r} is not a whole number") from None
        if grade > MAX_GRADE:
            raise _refused(qrels, number, f"the grade {grade} is above {MAX_GRADE}")
        # TREC's negative grades (junk, spam) are not relevant.
        grades.setdefault(parts[0], {})[parts[2]] = max(grade, 0)
    queries: list[JudgedQuery] = []
    unjudged: list[str] = []
    for number, line in topics:
        name, tab, text = line.partition("\t")
        if not tab or not text.strip():
            raise _refused(path, number, "it has no text after a tab", "write  query<TAB>text")
        if any(grades.get(name.strip(), {}).values()):
            queries.append(JudgedQuery(id=name.strip(), text=text.strip(), grades=grades[name.strip()], line=number))
        else:
            unjudged.append(name.strip())
    _require_distinct(path, queries)
    if not queries:
        raise _refused(path, None, f"no query of it is judged in {qrels}", "use the same ids in both files")
    return Judgements(queries=tuple(queries), unjudged=tuple(unjudged))


def _require_distinct(path: Path, queries: Sequence[JudgedQuery]) -> None:
    first_line: dict[str, int] = {}
    for query in queries:
        for what in (f"id {query.id}", f"text {query.text[:80]!r}"):
            if what in first_line:
                raise _refused(path, query.line, f"the {what} is already in line {first_line[what]}")
            first_line[what] = query.line


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number, from 1, and text of each line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        number = exc.object[: exc.start].count(b"\n") + 1
        raise _refused(path, number, "it is not UTF-8 text") from None
    except OSError as exc:
        raise SourceUnreadable(
            f"the queries in {path} cannot be read.", why=f"{exc.strerror or exc}.", next_step="name a file of queries."
        ) from None
    # Not splitlines: a query may hold a form feed or U+2028, which end no line of a file.
    return list(_numbered(text.split("\n")))


def _numbered(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.strip("\r")


def _refused(path: Path, line: int | None, why: str, next_step: str | None = None) -> EverindexError:
    at = f"{path}" if line is None else f"line {line} of {path}"
    return SourceUnreadable(
        f"{at} cannot be used as a judged query." if line is not None else f"{at} cannot be used as judged queries.",
        why=f"{why}.",
        next_step=f"{next_step or f'write one query a line: {EXAMPLE}'}.",
    )
