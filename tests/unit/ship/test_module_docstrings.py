"""The first line of every module: a statement of what the module is, never a question."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from source_trees import source_trees


def first_lines() -> Iterator[tuple[str, str]]:
    for module, tree in source_trees().items():
        docstring = ast.get_docstring(tree) or ""
        yield module, docstring.partition("\n")[0]


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    faults = [
        f"{module}: {line or 'no docstring'}" for module, line in first_lines() if "?" in line or not line.endswith(".")
    ]
    assert faults == [], "a first line is one sentence with a full stop, and no question"


def test_no_two_modules_begin_with_the_same_line() -> None:
    of_line: dict[str, list[str]] = {}
    for module, line in first_lines():
        of_line.setdefault(line, []).append(module)
    assert [modules for modules in of_line.values() if len(modules) > 1] == []
