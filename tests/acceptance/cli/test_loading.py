"""What a start of the command costs: which modules it loads, and its time beside that of a bare interpreter with the driver."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import import_module

import pytest

from command_line import COMMAND, environment, everindex
from everindex.cli.commands import COMMANDS

#: Whole libraries that only some commands need.
SEARCH = {"numpy", "tokenizers", "safetensors", "openai"}
CHAIN = {"sqlalchemy", "alembic", "mako"}
PAGES = {"fastapi", "starlette", "uvicorn", "jinja2"}
LOG = {"structlog", "stamina"}
DRIVER = {"psycopg", "psycopg_pool", "pydantic", "pydantic_settings"}
SOURCES = {"feedparser"}
METRICS = {"prometheus_client", "opentelemetry"}
#: A server that refuses connections at once.
NOBODY = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}


@pytest.mark.parametrize(
    ("arguments", "status", "not_loaded"),
    [
        (["--help"], 0, SEARCH | CHAIN | PAGES | LOG | DRIVER | SOURCES | METRICS),
        (["--version"], 0, SEARCH | CHAIN | PAGES | LOG | DRIVER | SOURCES | METRICS | {"rich"}),
        (["--commands"], 0, SEARCH | CHAIN | PAGES | LOG | DRIVER | SOURCES | METRICS | {"rich"}),
        (["--show-completion", "zsh"], 0, SEARCH | CHAIN | PAGES | LOG | SOURCES | METRICS | {"psycopg", "rich"}),
        (["status"], 1, SEARCH | CHAIN | PAGES | LOG | SOURCES | METRICS | {"rich"}),
        (["doctor"], 1, CHAIN | PAGES | LOG | {"tokenizers", "openai"}),
        (["search", "x"], 1, CHAIN | PAGES | LOG | {"openai"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], status: int, not_loaded: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(COMMAND), *arguments],
        capture_output=True,
        text=True,
        env=environment(NOBODY),
        timeout=60,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert (done.returncode, "typer" in loaded) == (status, True), done.stderr[-500:]
    assert loaded & not_loaded == set()


def test_help_and_status_take_little_more_than_the_interpreter_and_the_driver() -> None:
    """In processor time, which other work on the machine changes least. Measured: 0.16, 0.19 and 0.36 s; all commands loaded
    and drawn took 0.6 s for each."""

    def seconds(*words: str) -> float:
        found = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(words, capture_output=True, env=environment(NOBODY), timeout=60, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(found)

    driver = seconds(sys.executable, "-c", "import psycopg")
    told = seconds(str(COMMAND), "--help"), seconds(str(COMMAND), "--version"), seconds(str(COMMAND), "status")
    assert told[0] < 2.2 * driver
    assert told[1] < 1.5 * driver
    assert told[2] < 4.0 * driver


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_a_command_has_one_place(command: object) -> None:
    listed = next(each for each in COMMANDS if each is command)
    module, _, name = listed.home.partition(":")
    function = getattr(import_module(f"everindex.cli.{module}"), name)
    assert callable(function)
    assert function.__doc__ is None, "its help is in cli/commands.py"


def test_the_names_of_the_commands_are_printed_one_a_line() -> None:
    done = everindex("--commands")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [command.name for command in COMMANDS]
    assert len(set(done.stdout.splitlines())) == len(COMMANDS)


def test_help_and_version_need_no_setting_that_can_be_read() -> None:
    for arguments in (("--help",), ("--version",), ("--commands",), ("status", "--help")):
        done = everindex(*arguments, PORT="many")
        assert (done.status, done.stderr) == (0, "")
    assert "PORT cannot be used" in everindex("status", PORT="many").stderr
