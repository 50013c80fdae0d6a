"""The heads of the migrations, read from the files as text: Alembic takes longer to load than `everindex status` to run.

Only the simple case is handled: a line of files that each have `revision` and `down_revision` as literals, from one base to
one head. Everything else is left to Alembic, which reports what is wrong.
"""

from __future__ import annotations

import ast
from pathlib import Path


def only_head(versions: Path) -> str | None:
    """The head of the line of revisions in this directory; None if they do not form such a line."""
    before: dict[str, str | None] = {}
    for path in sorted(versions.glob("*.py")):
        try:
            values = _assigned(ast.parse(path.read_bytes()))
        except (OSError, SyntaxError, ValueError):
            return None
        revision, down = values.get("revision"), values.get("down_revision", "")
        if (
            not isinstance(revision, str)
            or revision in before
            or not (down is None or (isinstance(down, str) and down))
        ):
            return None
        before[revision] = down
    followed = list(before.values())
    heads = [revision for revision in before if revision not in followed]
    is_line = len(heads) == 1 and len(set(followed)) == len(followed) and {*followed} - {None} <= before.keys()
    return heads[0] if is_line else None


def revisions(versions: Path) -> frozenset[str]:
    """The revisions in the files, whether or not they form a line; a file that cannot be read is skipped."""
    found = set()
    for path in versions.glob("*.py"):
        try:
            revision = _assigned(ast.parse(path.read_bytes())).get("revision")
        except (OSError, SyntaxError, ValueError):
            continue
        if isinstance(revision, str):
            found.add(revision)
    return frozenset(found)


def _assigned(module: ast.Module) -> dict[str, object]:
    """The names to which the file assigns a literal. Raises ValueError if a relevant name gets any other expression."""
    values: dict[str, object] = {}
    for statement in module.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ):
                if name in ("revision", "down_revision", "branch_labels", "depends_on"):
                    values[name] = None if value is None else ast.literal_eval(value)
    return values
