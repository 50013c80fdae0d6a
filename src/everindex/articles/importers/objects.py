"""The rows of a JSONL, Parquet or Arrow source for any collection, whatever its members are called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from everindex.articles.importers.detect import UTF8_BOM, detect_columnar
from everindex.articles.importers.lines import TOO_LONG, bounded_lines
from everindex.articles.importers.opening import open_source
from everindex.articles.model import RowProblem


def read_objects(source: str) -> Iterator[tuple[int, dict[str, Any]] | RowProblem]:
    """(line, object) for each line of a file (or of standard input, `-`), gzip or not, and a RowProblem for each line that is
    none; in memory of one line, at most 10 MB. Of a Parquet or Arrow file the rows, by number. Raises SourceUnreadable with
    the first `next()`, ExtraMissing."""
    with open_source(source) as opened:
        columnar = detect_columnar(source, opened.head)
        if columnar is not None:
            # Imported here, since pyarrow is an extra.
            from everindex.articles.importers.columnar import columnar_objects

            yield from columnar_objects(opened, columnar)
            return
        number = 0
        for number, data in bounded_lines(opened):
            if data is None:
                yield opened.problem(number, f"the line is {TOO_LONG}")
                continue
            if number == 1:
                data = data.removeprefix(UTF8_BOM)
            if not data.strip():
                continue
            try:
                row = json.loads(data.decode("utf-8"))
            except UnicodeDecodeError as exc:
                yield opened.problem(number, f"not UTF-8: byte 0x{data[exc.start]:02x} at column {exc.start + 1}")
            except (ValueError, RecursionError) as exc:
                yield opened.problem(number, f"not JSON: {exc}" if isinstance(exc, ValueError) else "nested too deeply")
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    yield opened.problem(number, f"not an object, but {type(row).__name__}")
        yield from opened.problem_at_end(number + 1)
