"""The modules of everindex as syntax trees, parsed once for all tests of a process."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import everindex
from everindex.errors import ExtraMissing
from repository import REPOSITORY

SOURCE = REPOSITORY / "src" / "everindex"


@cache
def source_trees() -> dict[str, ast.Module]:
    """The tree of every module, by its path below src/everindex ("pg/locks.py")."""
    return {path.relative_to(SOURCE).as_posix(): parsed(path) for path in sorted(SOURCE.rglob("*.py"))}


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of one file. What a garbage collection runs in between may parse, too, which Python 3.11 takes for an error."""
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()


def all_modules() -> Iterator[ModuleType]:
    """Every module of everindex, imported; without the adapters whose extra is not installed."""
    for module in pkgutil.walk_packages(everindex.__path__, "everindex."):
        with suppress(ExtraMissing):
            yield importlib.import_module(module.name)
