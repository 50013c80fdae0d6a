"""Each line of the log is one event with a name, and docs/logs.md describes each and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import everindex
from repository import REPOSITORY

SOURCE = Path(everindex.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def calls() -> Iterator[tuple[str, ast.Call, ast.Module]]:
    """Every call of a logger in the source."""
    for path in sorted(SOURCE.rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(module):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and (node.func.value.id in ("log", "logger") or node.func.value.id.endswith("_log"))
            ):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node, module


def names_of(node: ast.Call, module: ast.Module) -> set[str]:
    """The values of `event` in the call's `extra`, or in the dictionary of that name."""
    (extra,) = [keyword.value for keyword in node.keywords if keyword.arg == "extra"] or [None]
    if isinstance(extra, ast.Name):
        name = extra.id
        extra = next(
            each.value
            for each in ast.walk(module)
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.target.id == name
        )
    if not isinstance(extra, ast.Dict):
        return set()
    for key, value in zip(extra.keys, extra.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "event":
            chosen = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
            return {str(each.value) for each in chosen if isinstance(each, ast.Constant)}
    return set()


def test_every_line_of_the_log_has_the_name_of_its_event() -> None:
    without = [where for where, node, module in calls() if not names_of(node, module)]
    assert without == [], 'pass extra={"event": "name-of-what-happened"}, and describe it in docs/logs.md'


def test_every_event_is_documented_with_its_level_and_nothing_else_is() -> None:
    written: dict[str, set[str]] = {}
    for _, node, module in calls():
        assert isinstance(node.func, ast.Attribute)
        for name in names_of(node, module):
            assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
            written.setdefault(name, set()).add(node.func.attr.replace("exception", "error"))
    page = (REPOSITORY / "docs" / "logs.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `([a-z-]+)` \| (debug|info|warning|error) \|", page, flags=re.MULTILINE))
    assert described.keys() == written.keys()
    for name, levels in written.items():
        assert levels in ({described[name]}, {"log"}), name
