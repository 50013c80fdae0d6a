"""Which indexes is a command about? The application's own, or those of a file or a MetaData that `--declared` names."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everindex.articles.declared import DECLARED_INDEXES
from everindex.errors import UsageError
from everindex.index.declaration import read_declarations
from everindex.index.spec import IndexSpec
from everindex.index.tuned import declared_here
from everindex.pg.connections import Connection

if TYPE_CHECKING:
    from sqlalchemy import MetaData

DeclaredOption = Annotated[
    str | None,
    typer.Option(
        "--declared",
        metavar="FILE.json|MODULE:METADATA",
        help="The declared indexes of another application (default: that of the articles).",
    ),
]
IndexOption = Annotated[
    list[str] | None, typer.Option("--index", help="Only this declared index; may be given more than once.")
]


def declared_indexes(connection: Connection, declared: str | None, names: list[str] | None) -> tuple[IndexSpec, ...]:
    """The declarations that the command works on. Raises UsageError for a module, attribute or index that is not there,
    and SpecIllegal for a declaration that cannot be."""
    if declared is None:
        specs = tuple(declared_here(connection, spec) for spec in DECLARED_INDEXES)
    elif declared.endswith(".json") or os.path.exists(declared):
        specs = read_declarations(Path(declared))
    else:
        from everindex.migrate.declared_metadata import specs_of  # SQLAlchemy takes half a second to load

        specs = specs_of(_metadata(declared))
    unknown = set(names or ()) - {spec.name for spec in specs}
    if unknown:
        raise UsageError(
            f"no index {', '.join(sorted(unknown))} is declared.",
            why=f"declared are: {', '.join(spec.name for spec in specs) or 'none'}.",
            next_step="correct --index, or name another declaration with --declared.",
        )
    return tuple(spec for spec in specs if not names or spec.name in names)


def _metadata(text: str) -> MetaData:
    from sqlalchemy import MetaData

    module_name, _, attribute = text.partition(":")
    # As `python -m` does: an application's own package lies in the directory where the command is run.
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise UsageError(
            f"--declared {text} leads to nothing.",
            why=f"{exc}.",
            next_step="write MODULE:ATTRIBUTE of a SQLAlchemy MetaData (or of a declarative Base), or the path of a "
            ".json file.",
        ) from exc
    finally:
        sys.path.pop(0)
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, MetaData):
        raise UsageError(
            f"--declared {text} is not a MetaData.",
            why=f"it is a {type(metadata).__name__}.",
            next_step="name a SQLAlchemy MetaData or a declarative Base.",
        )
    return metadata
