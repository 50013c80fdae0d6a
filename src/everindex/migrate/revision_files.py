"""The heads of the migrations, read from its files as text: Alembic takes longer to load than `everindex status` to run.

Only the plain case is answered: a line of files that each say `revision` and `down_revision` as a literal, from one base to
one head. Everything else is left to Alembic, which says what is wrong.
"""

from __future__ import annotations

import ast
from pathlib import Path


def only_head(versions: Path) -> str | None:
    """The head of the line of revisions in this directory; None where they are no such line."""
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
    """The revisions that the files say, whether they are a line or not; a file that cannot be read is passed over."""
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
    """The names that the file gives a literal to. Raises ValueError for another expression after one that counts."""
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
