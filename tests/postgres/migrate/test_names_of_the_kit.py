"""The names that applications import of the kit: where docs/alembic-kit.md says that they are, today's and former paths."""

from __future__ import annotations

import importlib
import re

import pytest

import warm
from everindex.alembic_kit import env
from repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "alembic-kit.md").read_text()
#: Rows of the page's table: | `everindex.migrate.heads.require_single_head` | `everindex.alembic_kit.env.require_single_head` |
FORMER = re.findall(r"^\| `(everindex\.migrate\.[\w.]+)` \| `(everindex\.alembic_kit\.[\w.]+)` \|$", PAGE, re.MULTILINE)


def test_the_page_names_a_successor_for_every_former_module() -> None:
    kept = {
        path.stem
        for path in (REPOSITORY / "src" / "everindex" / "migrate").glob("*.py")
        if path.read_text().startswith('"""The former import path of ')
    }
    assert {former.split(".")[2] for former, _ in FORMER} == kept
    assert len(kept) == 5


@pytest.mark.parametrize(("former", "now"), FORMER)
def test_a_former_path_is_the_same_object_as_the_present_one(former: str, now: str) -> None:
    assert _at(former) is _at(now)


def test_the_page_names_what_env_exports() -> None:
    public = re.search(r"four names of `everindex\.alembic_kit\.env` \(([^)]*)\)", PAGE)
    assert public is not None
    assert sorted(re.findall(r"`(\w+)`", public[1])) == sorted(env.__all__)


@pytest.mark.parametrize("module", ["everindex.alembic_kit.heads", "everindex.migrate.heads"])
def test_the_gate_for_a_shell_answers_at_both_paths(module: str) -> None:
    done = warm.run(["-m", module, str(REPOSITORY / "alembic.ini")], timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "e0aa2eb4fa0a", "")


@pytest.mark.parametrize(
    "name",
    ["filter_indexes.create_filter_indexes", "requirements.embedding_dimensions", "requirements.require_pgvector"],
)
def test_copies_of_revisions_find_what_they_import(name: str) -> None:
    assert _at(f"everindex.migrate.{name}") is _at(f"everindex.migrate.frozen.{name}")


def _at(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
