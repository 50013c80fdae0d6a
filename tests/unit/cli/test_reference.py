"""docs/cli.md against the commands: it is what `make docs` writes, and what it writes is complete."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from everindex.cli import reference
from everindex.cli.app import load_command
from everindex.cli.commands import COMMANDS, EXITS, ListedCommand
from repository import REPOSITORY
from source_trees import parsed

PAGE = REPOSITORY / "docs" / "cli.md"
EACH = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.markdown(), "the commands have changed: run  make docs"


@EACH
def test_the_page_has_every_argument_and_option_of_a_command(command: ListedCommand) -> None:
    section = _section(command)
    common = PAGE.read_text(encoding="utf-8").partition("## Options of every command")[2].partition("\n## ")[0]
    for param in load_command(command).params:
        if param.param_type_name == "argument":
            shown = str(param.metavar or param.name.upper()).strip("[]")
            assert f"| `{shown}` |" in section.replace("\\|", "|")
        for name in (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else ():
            assert f"`{name}`" in section or f"`{name}`" in common, f"{command.name} {name}"


@EACH
def test_a_command_names_every_exit_status_that_it_raises_itself(command: ListedCommand) -> None:
    module, _, function = command.home.partition(":")
    source = importlib.import_module(f"everindex.cli.{module}").__file__
    assert source is not None
    tree = parsed(Path(source))
    body = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    raised = {
        call.args[0].value
        for call in ast.walk(body)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "typer.Exit" and call.args
        if isinstance(call.args[0], ast.Constant)
    }
    assert raised <= set(command.exits), f"{command.name} exits with {raised}, which cli/commands.py does not explain"
    assert set(command.exits) <= set(EXITS)
    for status, meaning in command.exits.items():
        assert f"`{status}` when {meaning}".replace("--once", "`--once`") in _section(command)


def test_commands_of_a_group_stand_together_and_every_link_of_the_page_leads_to_a_heading() -> None:
    groups = [command.group for command in COMMANDS]
    assert sorted(set(groups), key=groups.index) == [
        name for n, name in enumerate(groups) if groups[n - 1 : n] != [name]
    ]
    page = PAGE.read_text(encoding="utf-8")
    headings = {_anchor(line.lstrip("# ")) for line in page.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings


def _section(command: ListedCommand) -> str:
    found = re.search(rf"^### everindex {command.name}\n(.*?)(?=^##|\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    return found[1]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
