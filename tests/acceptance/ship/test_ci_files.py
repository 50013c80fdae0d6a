"""The GitHub Action and the hooks of pre-commit, run as far as that is possible without GitHub and without a network."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from executed_page import blocks
from repository import REPOSITORY
from shipping import Shell

PAGE = REPOSITORY / "docs" / "in-ci.md"
BLOCKING = "CREATE INDEX i ON documents USING hnsw (embedding vector_cosine_ops);\n"


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
    return loaded


def steps(action: dict[str, Any]) -> list[dict[str, Any]]:
    return list(action["runs"]["steps"])


def test_the_action_is_valid_by_its_schema(lone_shell: Shell) -> None:
    lone_shell.succeed("check-jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml")


def test_no_input_is_written_into_a_script(action: dict[str, Any], lone_shell: Shell, tmp_path: Path) -> None:
    for number, step in enumerate(steps(action)):
        if "run" not in step:
            continue
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
        script = tmp_path / f"{number}.sh"
        script.write_text("#!/usr/bin/env bash\n" + step["run"])
        lone_shell.succeed("shellcheck", script)


def test_the_installing_step_installs_what_this_repository_locks(action: dict[str, Any]) -> None:
    install = next(step["run"] for step in steps(action) if "pip install" in step.get("run", ""))
    for name in re.findall(r'"\$GITHUB_ACTION_PATH/([^"]+)"', install):
        assert (REPOSITORY / name).is_file()
    locked = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert "\nhatchling==" in locked  # --no-build-isolation needs it
    assert all(step["if"] == "inputs.install == 'true'" for step in steps(action)[:-1])


def run_check(action: dict[str, Any], tmp_path: Path, **inputs: str) -> tuple[int, str, str]:
    """(Status, stdout, outputs) of the last step, with the inputs of a workflow over the defaults."""
    step = steps(action)[-1]
    given = {name: str(each.get("default", "")) for name, each in action["inputs"].items()} | inputs
    env = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], value)
        for name, value in step["env"].items()
    }
    outputs = tmp_path / "outputs"
    outputs.write_text("")
    # As the runner calls it: bash --noprofile --norc -eo pipefail.
    done = Shell().run(
        "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], cwd=tmp_path,
        env=env | {"GITHUB_OUTPUT": str(outputs), "HOME": os.environ["HOME"]},
    )  # fmt: skip
    return done.returncode, done.stdout, outputs.read_text()


def test_the_action_annotates_a_finding_at_its_line_and_fails(action: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my migration.sql").write_text("SELECT 1;\n" + BLOCKING)
    status, stdout, _ = run_check(action, tmp_path, arguments="my migration.sql\n")
    assert status == 3
    assert stdout.startswith("::error file=my migration.sql,line=2,title=blocking-vector-index-build")


def test_the_action_writes_a_report_and_takes_no_other_command(action: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "m.sql").write_text(BLOCKING)
    given = {"arguments": "m.sql", "output": "sarif", "report": "r $(touch x).sarif"}
    status, _, outputs = run_check(action, tmp_path, **given)
    assert (status, outputs) == (3, "report=r $(touch x).sarif\n")
    assert '"version": "2.1.0"' in (tmp_path / "r $(touch x).sarif").read_text()
    assert not (tmp_path / "x").exists()
    status, stdout, _ = run_check(action, tmp_path, command="deploy; true")
    assert (status, stdout[:8]) == (2, "::error ")


def test_the_page_names_every_input_of_the_action(action: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in action["inputs"]:
        assert f"`{name}`" in text, name
    workflow = yaml.safe_load(next(block.text for block in blocks(PAGE) if "jobs:" in block.text))
    given = workflow["jobs"]["migrations"]["steps"][1]["with"]
    assert set(given) <= set(action["inputs"])


@pytest.mark.parametrize(
    ("hook", "taken", "left"),
    [
        ("everindex-check-migration", ["migrations/1.sql", "db/migration/V1__a.sql"], ["a.sql", "migrations/env.py"]),
        (
            "everindex-check-migration-system",
            ["alembic/versions/e0aa_add.py"],
            ["alembic/versions/__init__.py", "alembic/env.py", "versions/1.sql"],
        ),
    ],
)
def test_a_hook_takes_migrations_alone_and_fails_for_a_finding(
    hook: str, taken: list[str], left: list[str], lone_shell: Shell, tmp_path: Path
) -> None:
    hooks = {
        each["id"]: each for each in yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    }
    found = hooks[hook]
    assert all(re.search(found["files"], name) for name in taken)
    assert not any(re.search(found["files"], name) for name in left)
    assert f"id: {hook} " in PAGE.read_text(encoding="utf-8")
    # pre-commit runs the entry with the names of the files after it.
    (tmp_path / "1.sql").write_text(BLOCKING)
    assert lone_shell.run(*found["entry"].split(), tmp_path / "1.sql").returncode == 3
