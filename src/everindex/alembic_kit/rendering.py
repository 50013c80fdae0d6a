"""Rendering of vector index operations in revision files, with every argument that the definition needs.

A revision is frozen: an omitted argument would change with a later default, so operator class, m and ef_construction are
always written. script.py.mako needs no change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation

from everindex.alembic_kit.operations import (
    DEFAULT_RECALL_FLOOR,
    AlterVectorIndexOp,
    CreateVectorIndexOp,
    DropVectorIndexOp,
    VectorIndexOp,
)
from everindex.index.spec import IndexSpec
from everindex.index.spec_json import to_json

#: Alembic writes pgvector's column types with their module, but does not import it.
VECTOR_TYPES = "pgvector.sqlalchemy"
_Renderer = Callable[[AutogenContext, Any], "list[str] | str"]


def render_create(context: AutogenContext, operation: CreateVectorIndexOp) -> list[str]:
    """`op.create_vector_index(…)`, with a comment if it repairs an index."""
    arguments = [*_definition(operation), *_policy(operation.spec)]
    if operation.replaces:
        arguments.append("replace=True")
    comment = [] if operation.repairs is None else [f"{operation.spec.name}: {operation.repairs}; it is rebuilt"]
    return _call(context, "create_vector_index", arguments, comments=comment)


def render_alter(context: AutogenContext, operation: AlterVectorIndexOp) -> list[str]:
    """`op.alter_vector_index(…)`, with the differences as comments and `existing_…` for what is changed."""
    arguments = [*_definition(operation), *_policy(operation.spec)]
    if operation.existing is not None:
        for name in ("column", "opclass", "m", "ef_construction", "expression", "predicate", "dimensions"):
            before = getattr(operation.existing, name)
            if before != getattr(operation.spec, name):
                arguments.append(f"existing_{name}={before!r}")
    comments = [f"{operation.spec.name}: {reason}" for reason in operation.because]
    return _call(context, "alter_vector_index", arguments, comments=comments)


def render_drop(context: AutogenContext, operation: DropVectorIndexOp) -> list[str]:
    """`op.drop_vector_index(…)`, with the definition for reversing it."""
    comments = [f"{operation.spec.name}: {reason}" for reason in operation.because]
    return _call(context, "drop_vector_index", _definition(operation), comments=comments)


def with_vector_imports(known: _Renderer) -> _Renderer:
    """Wraps a renderer of Alembic so that it adds `import pgvector.sqlalchemy` if its text needs it."""

    def render(context: AutogenContext, operation: MigrateOperation) -> list[str] | str:
        rendered = known(context, operation)
        if f"{VECTOR_TYPES}." in (rendered if isinstance(rendered, str) else "\n".join(rendered)):
            context.imports.add(f"import {VECTOR_TYPES}")
        return rendered

    return render


def _definition(operation: VectorIndexOp) -> list[str]:
    spec = operation.spec
    arguments = [repr(str(spec.name)), repr(str(spec.table))]
    if spec.column is not None:
        arguments.append(repr(str(spec.column)))
    if operation.schema is not None:
        arguments.append(f"schema={str(operation.schema)!r}")
    arguments += [f"opclass={spec.opclass!r}", f"m={spec.m}", f"ef_construction={spec.ef_construction}"]
    for name in ("expression", "predicate", "dimensions"):
        if getattr(spec, name) is not None:
            arguments.append(f"{name}={getattr(spec, name)!r}")
    return arguments


def _policy(spec: IndexSpec) -> list[str]:
    arguments = [] if spec.recall_floor == DEFAULT_RECALL_FLOOR else [f"recall_floor={spec.recall_floor!r}"]
    if (build := to_json(spec).get("build")) is not None:
        arguments.append(f"build={build!r}")
    return arguments


def _call(context: AutogenContext, name: str, arguments: list[str], *, comments: list[str]) -> list[str]:
    prefix = context.opts.get("alembic_module_prefix") or ""
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    return [*lines, f"{prefix}{name}({', '.join(arguments)})"]
