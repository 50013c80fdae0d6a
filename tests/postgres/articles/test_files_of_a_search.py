"""The files that one search enters on its way from the public API to the last statement that it sends.

docs/architecture.md draws them; a search that takes a longer way makes the next reader's walk longer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import everindex
from everindex.articles.instance import Instance

ROOT = Path(everindex.__file__).parent
ARCHITECTURE = ROOT.parents[1] / "docs" / "architecture.md"
SEND = "pg/roundtrip.py"


def files_entered(search: Callable[[], Any]) -> list[str]:
    """The files of everindex, in the order in which they are entered, up to the last statement that is sent."""
    entered: list[str] = []
    until_sent = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal until_sent
        if event != "call" or not frame.f_code.co_filename.startswith(str(ROOT)):
            return
        name = Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()
        if name not in entered:
            entered.append(name)
        if name == SEND:
            until_sent = len(entered)

    sys.setprofile(note)
    try:
        search()
    finally:
        sys.setprofile(None)
    return entered[:until_sent]


def drawn(heading: str) -> set[str]:
    """The files that docs/architecture.md draws below the sentence that begins with `heading`."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    block = text[text.index(heading) :].split("```text\n", 1)[1].split("```", 1)[0]
    return {f"articles/{line.split()[0]}" for line in block.splitlines()}


@pytest.mark.parametrize(
    ("mode", "most", "heading"), [("vector", 8, "By a vector, 8 files"), ("hybrid", 14, "By meaning and words (hybrid")]
)
def test_a_search_crosses_few_files_and_the_architecture_draws_them(
    read_only_instance: Instance, mode: str, most: int, heading: str
) -> None:
    text = "memory leak in the parser"
    vector = read_only_instance.embed_query(text)

    def search() -> None:
        if mode == "vector":
            assert read_only_instance.search_vector(vector).hits
        else:
            assert read_only_instance.search(text, mode="hybrid").hits

    search()  # what is composed and read once is composed and read now
    files = [name for name in files_entered(search) if name.startswith("articles/")]
    crossed = [name for name in files if not name.startswith("articles/embedding/")]
    assert len(crossed) <= most, crossed
    assert set(crossed) == drawn(heading)
