"""pg_index has one reader, `pg/index_catalog.py`: what else names it writes it, runs without everindex, or is frozen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from everindex.pg.index_catalog import CatalogIndex, catalog_indexes, indexes_query
from source_trees import SOURCE, source_trees

#: Modules with SQL that names pg_index, and why each does.
PERMITTED = {
    "pg/index_catalog.py": "the reader",
    "index/deploy/visibility.py": "writes indisvalid",
    "index/plan/ddl.py": "writes indisvalid",
    "alembic_kit/script.py": "SQL for psql, where no Python runs",
    "articles/collections/creation.py": "whether a key is unique, in the statement about the table of somebody else",
    "articles/search/keyword/index/observed.py": "the table, the role's rights and the index of the words in one round trip",
    "articles/search/keyword/index/script.py": "SQL for psql, where no Python runs",
    "articles/search/keyword/state.py": "one subquery of the statement that looks whether a search may rely on the index",
    "migrate/frozen/filter_indexes.py": "what revisions import does not change",
}


def test_pg_index_is_named_in_the_permitted_modules_only() -> None:
    named = {
        module
        for module, tree in source_trees().items()
        if NAME.search((SOURCE / module).read_text(encoding="utf-8")) and any(map(NAME.search, _texts(tree)))
    }
    assert named == set(PERMITTED)


NAME = re.compile(r"\bpg_index\b")


def _texts(tree: ast.Module) -> Iterator[str]:
    """Every text but docstrings, which stand alone as a statement."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_the_columns_of_the_query_are_the_fields_of_its_row_type() -> None:
    columns = re.findall(r' AS "(\w+)"', indexes_query("true", "size_bytes"))
    assert columns == list(CatalogIndex.__dataclass_fields__)


def test_a_row_of_another_query_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        catalog_indexes([(1, "public", "articles_idx")])
