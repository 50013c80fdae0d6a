"""The scripts of bench/ name modules and functions that exist: nothing else runs most of them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from repository import REPOSITORY

SCRIPTS = sorted((REPOSITORY / "bench").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_a_script_imports_of_everindex_is_there(script: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "everindex":
            module = importlib.import_module(str(node.module))
            missing += [
                f"{node.module}.{name.name}"
                for name in node.names
                if not hasattr(module, name.name) and not _is_module(f"{node.module}.{name.name}")
            ]
    assert missing == []


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
