"""Tests use the public names of everindex: none reads, imports or patches a private one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from repository import REPOSITORY
from source_trees import parsed

#: Private names of the standard library, where it has no public way.
OF_PYTHON = {"os._exit", "atexit._run_exitfuncs"}
_PATCHES = {"setattr", "delattr", "getattr"}


def test_no_test_touches_a_private_name() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {name}"
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for line, name in sorted(_private_names(parsed(path)))
    ]
    assert found == [], "give the module a public seam, and use that"


def test_each_way_to_touch_a_private_name_is_noticed() -> None:
    text = """
from everindex.pg.pooler import _ROUTES
import everindex.pg.pooler as pooler
pooler._ROUTES.clear()
monkeypatch.setattr(pooler, "_ROUTES", {})
monkeypatch.setattr("everindex.pg.pooler._ROUTES", {})
class Own:
    def public(self):
        return self._own, self.__class__
"""
    assert [name for _, name in _private_names(ast.parse(text))] == ["_ROUTES"] * 4


def _private_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if _is_private(name) and ast.unparse(node) not in OF_PYTHON:
                yield node.lineno, name
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] == "everindex":
                yield from ((node.lineno, alias.name) for alias in node.names if _is_private(alias.name))
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called)) if called in _PATCHES:
                yield from ((node.lineno, name) for name in _names_given(node) if _is_private(name))


def _names_given(call: ast.Call) -> Iterator[str]:
    """The last part of each name among the arguments: "everindex.pg.pooler._ROUTES" patches _ROUTES."""
    for argument in call.args[:2]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value.rpartition(".")[2]


def _is_private(name: str) -> bool:
    return re.fullmatch(r"_[A-Za-z]\w*", name) is not None
