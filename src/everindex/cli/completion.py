"""Completion of the command line: `--show-completion [SHELL]` and `--install-completion [SHELL]`.

Typer's own two options take no shell and use the calling one, so anyone who prepares a package or another account gets
the wrong script. Typer supplies the completions (typer.completion).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer import completion
from typer._completion_classes import completion_init
from typer._completion_shared import _get_shell_name

from everindex.errors import UsageError

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
completion_init()  # Typer's classes, which it registers with its own options

_OPTIONS = ("--show-completion", "--install-completion")
#: Stands for the shell from which the command was started.
_OWN = "this shell"


def with_shell(args: Sequence[str]) -> list[str]:
    """The arguments with a shell added after each option without one: a Typer option either has a value or none."""
    given: list[str] = []
    for number, argument in enumerate(args):
        given.append(argument)
        if argument in _OPTIONS and (number + 1 == len(args) or args[number + 1].startswith("-")):
            given.append(_OWN)
    return given


def shell_named(value: str) -> str:
    """The shell to write the completion for. Raises UsageError for an unsupported shell, or if it cannot be detected."""
    shell = _get_shell_name() if value == _OWN else value
    if shell in SHELLS:
        return str(shell)
    raise UsageError(
        "there is no completion for this shell." if value == _OWN else f"there is no completion for {value}.",
        why=f"there is one for {', '.join(SHELLS)}"
        + (f"; this is {shell or 'no shell that can be detected'}." if value == _OWN else "."),
        next_step="name one of these after the option: everindex --show-completion zsh",
    )


def _show(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> None:
    if value is not None and not ctx.resilient_parsing:
        completion.show_callback(ctx, param, shell_named(value))


def _install(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> None:
    if value is not None and not ctx.resilient_parsing:
        completion.install_callback(ctx, param, shell_named(value))


def _option(name: str, callback: Any, text: str) -> Any:
    return typer.Option(
        name,
        metavar="[SHELL]",
        callback=callback,
        is_eager=True,
        expose_value=False,
        help=text,
        autocompletion=lambda: SHELLS,
    )


ShowOption = Annotated[
    str | None,
    _option("--show-completion", _show, f"Print the completion for SHELL ({', '.join(SHELLS)}; else for this one)."),
]
InstallOption = Annotated[
    str | None, _option("--install-completion", _install, "Install the completion for SHELL, or for this one.")
]
