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


@pytest.mark.parametrize(("mode", "most"), [("vector", 8), ("hybrid", 14)])
def test_a_search_crosses_few_files_and_the_architecture_names_them(
    read_only_instance: Instance, mode: str, most: int
) -> None:
    vector = read_only_instance.embed_query("memory leak in the parser")

    def search() -> None:
        if mode == "vector":
            assert read_only_instance.search_vector(vector).hits
        else:
            assert read_only_instance.search("memory leak in the parser", mode="hybrid").hits

    search()  # what is composed and read once is composed and read now
    files = files_entered(search)
    print(files)
    articles = [name for name in files if name.startswith("articles/")]
    assert len(articles) <= most, articles
