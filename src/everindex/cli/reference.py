"""The command-line reference, docs/cli.md, made of the commands themselves.

`make docs` writes it; a test compares it with what `markdown()` returns, so that it names every command, argument, option,
default and exit status of this version. Nothing here is loaded when a command runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import typer

from everindex.cli.app import app, load_command
from everindex.cli.commands import COMMANDS, EXITS, ListedCommand

#: Options of every command, which the page describes once.
COMMON = ("--verbose", "--debug", "--help")
_TYPES = {"int": "integer", "float": "number", "str": "text", "path": "file"}


def markdown() -> str:
    """The page, as it stands in docs/cli.md."""
    groups = [(group, list(listed)) for group, listed in groupby(COMMANDS, key=lambda listed: listed.group)]
    lines = [
        "# Command-line reference",
        "",
        "<!-- Made by `make docs` from the commands (everindex/cli/reference.py): a change here is lost. -->",
        "",
        "```",
        "everindex [OPTIONS] COMMAND [ARGUMENTS]",
        "```",
        "",
        "Results are written to stdout; progress, notes and errors to stderr. `--json` prints one JSON document instead of text. "
        "The server and everything else that is not an option is a [setting](settings.md). "
        "`everindex COMMAND --help` prints what this page says of a command. In the tables a dash stands for no "
        "value, and for no default or one that the text names.",
        "",
        "## Commands",
        "",
    ]
    for group, commands in groups:
        lines += [f"**[{group}](#{_anchor(group)})**", ""]
        lines += [*_table(("command", "what it does"), [(_link(each), _text(each.summary)) for each in commands]), ""]
    lines += ["## Exit status", ""]
    lines += [*_table(("status", "means"), [(f"`{status}`", _text(meaning)) for status, meaning in EXITS.items()]), ""]
    lines += ["A command that has its own reason for one of them says so.", ""]
    lines += ["## Options of `everindex` itself", "", *_options(_root_params(), ()), ""]
    lines += ["## Options of every command", ""]
    lines += [*_options(load_command(COMMANDS[0]).params, (), only=COMMON[:2]), ""]
    for group, commands in groups:
        lines += [f"## {group}", ""]
        for each in commands:
            lines += [*_command(each), ""]
    return "\n".join(lines).rstrip() + "\n"


def _command(listed: ListedCommand) -> Iterator[str]:
    params: list[Any] = load_command(listed).params
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option"]
    yield f"### everindex {listed.name}"
    yield ""
    yield "```"
    yield " ".join(["everindex", listed.name, "[OPTIONS]", *(_placeholder(argument) for argument in arguments)])
    yield "```"
    yield ""
    yield _text(listed.summary)
    if arguments:
        yield ""
        rows = [(_code(_bare(each)), _default(each), _text(each.help or "")) for each in arguments]
        yield from _table(("argument", "default", "what it is"), rows)
    if shown := [param for param in options if not _is_any(param, COMMON)]:
        yield ""
        yield from _options(shown, COMMON)
    if listed.exits:
        yield ""
        told = "; ".join(f"`{status}` when {_text(meaning)}" for status, meaning in listed.exits.items())
        yield f"Exit status: {told}."


def _options(params: Sequence[Any], left_out: Sequence[str], *, only: Sequence[str] | None = None) -> list[str]:
    rows = [
        (", ".join(_code(name) for name in _names(param)), _value(param), _default(param), _text(param.help or ""))
        for param in params
        if param.param_type_name == "option" and not _is_any(param, left_out) and (only is None or _is_any(param, only))
    ]
    return _table(("option", "value", "default", "what it does"), rows)


def _root_params() -> list[Any]:
    return list(typer.main.get_command(app).params)


def _names(param: Any) -> list[str]:
    """As they are typed, the short one first: `-k`, `--k`; `--sample`, `--no-sample`."""
    return [*sorted(param.opts, key=len), *param.secondary_opts]


def _is_any(param: Any, names: Sequence[str]) -> bool:
    return any(name in names for name in param.opts)


def _value(param: Any) -> str:
    """What stands behind the option; a dash for one that takes no value."""
    if param.is_flag:
        return "–"
    if param.metavar is not None:
        shown = _code(param.metavar)
    else:
        kind = param.display_type(None).strip("<>").removesuffix(" range")
        kind = kind.removeprefix("list[").removesuffix("]")
        choices = " or ".join(map(_code, kind.split("|")))
        shown = choices if "|" in kind else _TYPES.get(kind, kind)
    limits = _limits(param.min, param.max)
    repeated = "; may be repeated" if param.multiple else ""
    return shown + limits + repeated


def _limits(least: float | None, most: float | None) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f", at least {least:g}"
    return f", at most {most:g}" if least is None else f", {least:g} to {most:g}"


def _default(param: Any) -> str:
    """The value without the option; a dash where there is none, or the help says where it comes from."""
    if param.required:
        return "required"
    if param.default is None or param.default is False or param.default in ("", [], ()):
        return "–"
    if param.default is True:
        return _code(param.opts[0])
    value = param.default
    return _code(f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value)))


def _bare(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]")


def _placeholder(argument: Any) -> str:
    """The argument as a usage line has it: `URI`, `[TEXT]`, `SOURCES...`."""
    shown = _bare(argument)
    shown = shown if argument.nargs == 1 or " " in shown else f"{shown}..."
    return shown if argument.required else f"[{shown}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _link(listed: ListedCommand) -> str:
    return f"[`{listed.name}`](#everindex-{listed.name})"


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(sign for sign in heading.lower() if sign.isalnum() or sign in " -")
    return kept.replace(" ", "-")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _text(text: str) -> str:
    """A help text in Markdown: brackets and bars stay what they are, `code` stays code, and so do option names."""
    parts = " ".join(text.replace("\\[", "[").split()).split("`")
    for number in range(0, len(parts), 2):
        plain = re.sub(r"(?<![\w`-])(--[a-z][a-z-]+|EVERINDEX_[A-Z_]+)", r"`\1`", parts[number])
        parts[number] = plain.replace("[", "\\[").replace("<", "\\<")
    return "`".join(parts).replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
