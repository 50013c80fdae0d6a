"""The adapters stand apart: nothing imports them or their frameworks, and without its extra each says what to install."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from everindex.errors import EverindexError, ExtraMissing
from source_trees import source_trees

#: Adapter → the packages of its framework.
FRAMEWORKS = {"langchain": "langchain_core", "llamaindex": "llama_index", "mcp": "mcp"}
#: Where an adapter is not a module.
MODULES = {"mcp": "everindex.mcp.server"}
#: Modules that may name an adapter: commands load theirs when they are called.
STARTERS = {"cli/mcp.py"}


@cache
def imports() -> dict[str, list[str]]:
    """What each module imports; walked once for all adapters."""
    return {path: list(imported(tree)) for path, tree in source_trees().items()}


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module


@pytest.mark.parametrize("adapter", FRAMEWORKS)
def test_a_framework_is_imported_by_its_adapter_alone(adapter: str) -> None:
    packages = FRAMEWORKS[adapter], f"everindex.{adapter}"
    found = [
        f"{path}: {name}"
        for path, names in imports().items()
        if path.removesuffix(".py").split("/")[0] != adapter and path not in STARTERS
        for name in names
        if any(name == package or name.startswith(f"{package}.") for package in packages)
    ]
    assert found == []


@pytest.mark.parametrize("adapter", FRAMEWORKS)
def test_without_its_extra_an_adapter_says_what_to_install(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [FRAMEWORKS[adapter], *(name for name in sys.modules if name.startswith(f"{FRAMEWORKS[adapter]}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed, also where it is
    monkeypatch.delitem(sys.modules, MODULES.get(adapter, f"everindex.{adapter}"), raising=False)
    with pytest.raises(ExtraMissing) as missing:
        importlib.import_module(MODULES.get(adapter, f"everindex.{adapter}"))
    assert isinstance(missing.value, EverindexError)
    assert isinstance(missing.value, ImportError), "for those who try an import"
    assert missing.value.next_step == f"run  pip install 'everindex[{adapter}]'."
