"""The Typer application: it lists the commands without loading them, and loads each one when it is called."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from everindex import __version__
from everindex.cli.commands import COMMANDS, ListedCommand
from everindex.cli.completion import InstallOption, ShowOption, with_shell
from everindex.errors import UsageError

_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@dataclass(slots=True)
class Invocation:
    """The values of the options common to all commands; the caller of the application passes one as `obj`."""

    is_verbose: bool = False
    is_debugged: bool = False
    begin: Callable[[], None] = field(default=lambda: None)
    """Called when the command line is parsed and a command is about to run, but not for a help text."""


def _invocation(ctx: Any) -> Invocation:
    found = ctx.find_root().obj
    return found if isinstance(found, Invocation) else Invocation()


def _verbose(ctx: typer.Context, value: bool) -> None:
    _invocation(ctx).is_verbose |= value


def _debug(ctx: typer.Context, value: bool) -> None:
    _invocation(ctx).is_debugged |= value


VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_verbose,
        expose_value=False,
        help="Write log records to stderr, also on a terminal.",
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_debug,
        expose_value=False,
        help="Like --verbose, with debug records, and with tracebacks for errors.",
    ),
]


@contextmanager
def _closed_pipe_ignored() -> Iterator[None]:
    """Ignores a closed pipe: a reader that stops early (`everindex --help | head -1`) is not a failure."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # Rich makes an exit of it (Console.on_broken_pipe)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Called(TyperCommand):
    """A loaded command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with _closed_pipe_ignored():
            super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        _invocation(ctx).begin()
        return super().invoke(ctx)


class _Commands(TyperGroup):
    """The command group: lists the commands without loading them, and loads the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for listed in COMMANDS:
            self.add_command(TyperCommand(name=listed.name, help=listed.help, rich_help_panel=listed.group))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with _closed_pipe_ignored():
            super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_shell(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TyperException as exc:
            if "--json" in sys.argv:
                from everindex.cli.output import print_json

                wrong = UsageError(
                    exc.format_message(),
                    why="the command line is not valid.",
                    next_step="run the command with --help to see its arguments and options.",
                )
                print_json({"error": wrong.as_dict()})
            raise  # and typer shows it on stderr

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            command = load_command(next(listed for listed in COMMANDS if listed.name == command.name))
        return name, command, rest


def load_command(listed: ListedCommand) -> TyperCommand:
    """The command, after importing its module."""
    module, _, function = listed.home.partition(":")
    command = _as_command(
        getattr(import_module(f"everindex.cli.{module}"), function),
        name=listed.name,
        help=listed.help,
        context_settings=_CONTEXT | {"ignore_unknown_options": listed.takes_unknown_options},
    )
    command.params += _as_command(_of_every_command).params
    return command


def _as_command(function: Callable[..., None], **attributes: Any) -> TyperCommand:
    alone = typer.Typer(add_completion=False)
    alone.command(cls=_Called, **attributes)(function)
    command = typer.main.get_command(alone)
    assert isinstance(command, TyperCommand)
    return command


def _of_every_command(verbose: VerboseOption = False, debug: DebugOption = False) -> None:
    """Carries the options of every command; never called."""


def _version(value: bool) -> None:
    if value:
        with _closed_pipe_ignored():
            typer.echo(f"everindex {__version__}, Python {platform.python_version()}")
        raise typer.Exit


def _list(value: bool) -> None:
    if value:
        with _closed_pipe_ignored():
            typer.echo("\n".join(listed.name for listed in COMMANDS))
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    name="everindex",
    help="Search on PostgreSQL + pgvector. The vector index is checked and repaired automatically.",
    no_args_is_help=True,
    add_completion=False,  # everindex.cli.completion
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    commands: Annotated[
        bool,
        typer.Option(
            "--commands", callback=_list, is_eager=True, help="Print the names of the commands, one per line."
        ),
    ] = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
    show_completion: ShowOption = None,
    install_completion: InstallOption = None,
) -> None:
    """`everindex COMMAND --help` explains a command."""
