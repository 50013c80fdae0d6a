"""Published revisions and what they import are frozen: their text, and from where they import."""

from __future__ import annotations

import ast
import hashlib
import sys
from pathlib import Path

import pytest

from repository import REPOSITORY

FROZEN_MODULES = REPOSITORY / "src" / "everindex" / "migrate" / "frozen"
#: What frozen modules may ask of today's code: it decides whether a revision may run, and not what it writes.
TODAYS = {"everindex.errors", "everindex.pg", "everindex.settings"}
#: SHA-256 of each file's text, by the file's name.
DIGESTS = {
    "1745b4f22f68_article_analysis_cache": "c77423057042e128163d7b2d200260df6baf40b83413045afab97491f4e96b92",
    "8eadb2079747_add_pgvector_support": "b14d72ca844d50890b17b4e85f9141cb1244ac7943cd9ac9af8cf08d63a1d6ec",
    "b6a5ff4214f5_add_incident_status_table": "39c3e9668be43d6d4720490b8e284f85235a7fc269746ef82b4efccdf59c866c",
    "d8d9cdcec340_initial_postgresql_schema": "0198d6bb45820219ff5a4eb4c71b612f178ab4edf332c499d901c91f1f6b5b1b",
    "e0aa2eb4fa0a_add_hnsw_vector_index": "aa028f479aea14770d9b182812918182f1c6ab3f6a3bd996588b8112b36503b4",
    "filter_indexes": "7552733f1e871e96057c5fb3493df5ac3e45606a964c2e580feb8cf3d749162d",
    "requirements": "eeb79c7d27e9d1e4647a4d42c28f90a85237753da085646e5d70dff2d7476163",
}
CHANGED = """{path} is not the file that was published.
A revision that ran somewhere cannot be changed: databases that have it would differ from those that get it now.
- Undo the change (git checkout {path}), and write a new revision for what is to be different:  alembic revision -m "…"
- A new revision or frozen module is added to DIGESTS in {test}, once it is published:  sha256sum {path}
- A change of form only (an import path, a comment) leaves the SQL of  everindex migrate --sql  and of
  everindex migrate --sql --down head:base  as it was: compare both before and after, then change the digest."""


def _frozen() -> list[Path]:
    modules = [path for path in FROZEN_MODULES.glob("*.py") if path.name != "__init__.py"]
    return sorted([*(REPOSITORY / "alembic" / "versions").glob("*.py"), *modules])


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_every_revision_and_every_frozen_module_is_held() -> None:
    assert sorted(path.stem for path in _frozen()) == sorted(DIGESTS)


@pytest.mark.parametrize("path", _frozen(), ids=lambda path: path.stem)
def test_a_published_revision_and_what_it_imports_are_as_they_were_published(path: Path) -> None:
    text = path.read_text(encoding="utf-8")  # whatever line ends a checkout has
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == DIGESTS.get(path.stem), CHANGED.format(path=_name(path), test=_name(Path(__file__)))


@pytest.mark.parametrize("path", _frozen(), ids=lambda path: path.stem)
def test_nothing_that_may_change_decides_what_a_revision_writes(path: Path) -> None:
    is_module = path.parent == FROZEN_MODULES
    allowed = {"alembic", "sqlalchemy", "everindex.migrate.frozen"} | (TODAYS if is_module else set())
    for module in _imported(path):
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or any(f"{module}.".startswith(f"{each}.") for each in allowed), (
            f"{_name(path)} imports {module}, which may change: put what it needs into the revision or into migrate/frozen"
        )


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found
