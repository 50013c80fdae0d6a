"""The declared indexes that a command works on: those of the articles and collections, or those of another application.

Configured by `--declared`, otherwise EVERINDEX_DECLARED, otherwise `declared` under `[tool.everindex]` in the
pyproject.toml of the working directory; an empty value means the articles. Without any of these, the articles'
indexes are used in a database that has the article schema, and those of its collections; in any other, nothing is declared.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from everindex.articles.collections.registry import declared_indexes as indexes_here
from everindex.cli.given_declaration import remember
from everindex.errors import NothingDeclared, SettingInvalid, UsageError
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.observe import in_search_path
from everindex.index.spec import IndexSpec
from everindex.index.spec_json import read_declarations
from everindex.migrate.standing import has_article_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.settings import read_settings

PAGE = "docs/your-own-table.md"


def _configured(given: str | None) -> str | None:
    """The value of the option or of its configuration; None for the articles."""
    remember(given)
    if given is None:
        given = read_settings().declared
    if given is None:
        given = _of_pyproject(Path("pyproject.toml"))
    return given or None


DeclaredOption = Annotated[
    str | None,
    typer.Option(
        "--declared",
        metavar="FILE.json|MODULE:BASE",
        callback=_configured,
        help="The declared indexes of another application (default: EVERINDEX_DECLARED, `declared` of "
        "\\[tool.everindex] in pyproject.toml, or the articles' declaration).",  # escaped: Rich reads it as markup
    ),
]
IndexOption = Annotated[list[str] | None, typer.Option("--index", help="Only this declared index; can be repeated.")]


def declared_indexes(
    connection: Connection, declared: str | None, names: list[str] | None, collection: str | None = None
) -> tuple[IndexSpec, ...]:
    """The declarations that the command works on: of one `collection` only, if it is named. Raises UsageError for a missing
    module, attribute or index, SpecIllegal for an invalid declaration, NothingDeclared where the articles would be meant
    but are not in the database, and CollectionNotFound."""
    if declared is not None and collection is not None:
        raise UsageError(
            "--declared and --collection cannot be combined.",
            why="the index of a collection is declared with it, and no other application's.",
            next_step="leave one of them out.",
        )
    if declared is None:
        specs = tuple(effective_spec(connection, spec) for spec in indexes_here(connection, collection))
        if not specs:
            raise nothing_declared(connection)
    elif declared.endswith(".json") or os.path.isfile(declared):
        specs = read_declarations(Path(declared))
    else:
        specs = _of_metadata(connection, declared)
    if not specs:
        raise UsageError(
            f"--declared {declared} declares no HNSW index.",
            why="none of its tables has an Index with postgresql_using='hnsw', or the list of the file is empty.",
            next_step=f"declare one ({PAGE} shows how), and import the modules that define the other models in this "
            f"one.",
        )
    unknown = set(names or ()) - {spec.name for spec in specs}
    if unknown:
        raise UsageError(
            f"no index {', '.join(sorted(unknown))} is declared.",
            why=f"the declared indexes are: {', '.join(spec.name for spec in specs)}.",
            next_step="correct --index, or name another declaration with --declared."
            if collection is None
            else "correct --index, or leave out --collection.",
        )
    return tuple(spec for spec in specs if not names or spec.name in names)


def require_article_schema(connection: Connection) -> None:
    """Raises NothingDeclared for a database without the articles."""
    if not has_article_schema(connection):
        raise nothing_declared(connection)


def nothing_declared(connection: Connection) -> NothingDeclared:
    """The error, with a suggested declaration for the first vector column by schema and name. Reads only."""
    with translate_errors("looking for a table with vectors"):
        row = connection.execute(
            "SELECT n.nspname, c.relname, a.attname, t.typname FROM pg_catalog.pg_attribute a "
            "JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE t.typname IN ('vector', 'halfvec') AND a.attnum > 0 AND NOT a.attisdropped "
            "AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%' "
            "ORDER BY c.reltuples DESC, 1, 2, a.attnum LIMIT 1"
        ).fetchone()
    if row is None:
        next_step = (
            f"create a table with vectors and declare its index: {PAGE} does both in five minutes. (For the articles "
            f"of "
            "everindex:  everindex up .)"
        )
    else:
        schema, table, column, kind = row
        declaration = {
            "name": f"{table}_{column}_idx",
            "schema": schema,
            "table": table,
            "column": column,
            "opclass": f"{kind}_cosine_ops",
        }
        next_step = (
            f"write  {json.dumps(declaration, ensure_ascii=False)}  into index.json (opclass: the one that your "
            f"searches use) and run  "
            f"everindex deploy --declared index.json , or name your models:  --declared package.module:Base ; {PAGE} "
            f"takes "
            "five minutes."
        )
    return NothingDeclared(
        "no index is declared for this database.",
        why="it has no everindex article schema, and neither --declared nor EVERINDEX_DECLARED nor [tool.everindex] in "
        "./pyproject.toml names another declaration.",
        next_step=next_step,
    )


def _of_metadata(connection: Connection, declared: str) -> tuple[IndexSpec, ...]:
    from everindex.alembic_kit.metadata import specs_of
    from everindex.cli.declared_module import metadata_of  # SQLAlchemy takes half a second to load

    metadata = metadata_of(declared)
    bare = {str(table.name) for table in metadata.tables.values() if table.schema is None}
    return tuple(
        in_search_path(connection, spec) if spec.table in bare and spec.schema == "public" else spec
        for spec in specs_of(metadata)
    )


def _of_pyproject(path: Path) -> str | None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        # Other tools report a broken file; a project that does not configure everindex there must not fail because of
        # it.
        if not _names_everindex(path):
            return None
        raise SettingInvalid(
            f"[tool.everindex] of {path} cannot be read.",
            why=f"{exc.strerror if isinstance(exc, OSError) else exc}.",
            next_step="correct the file, or name the declaration with --declared.",
        ) from None
    tools = document.get("tool")
    table = tools.get("everindex", {}) if isinstance(tools, dict) else {}
    declared = table.get("declared") if isinstance(table, dict) else table
    if declared is not None and not isinstance(declared, str):
        raise SettingInvalid(
            f"[tool.everindex] of {path} cannot be used.",
            why=f"declared is {declared!r}; it must be a string.",
            next_step='write  declared = "package.module:Base" .',
        )
    return declared


def _names_everindex(path: Path) -> bool:
    try:
        return "[tool.everindex]" in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
