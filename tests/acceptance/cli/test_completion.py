"""Completion: the script of the shell that is named, and what it completes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import COMMAND, environment, everindex, three_lines

#: What only the script of this shell has.
MARKS = {
    "bash": "complete -o default -F",
    "zsh": "#compdef everindex",
    "fish": "complete --command everindex",
    "powershell": "Register-ArgumentCompleter",
    "pwsh": "Register-ArgumentCompleter",
}
INSTALLED = {
    "bash": ".bash_completions/everindex.sh",
    "zsh": ".zfunc/_everindex",
    "fish": ".config/fish/completions/everindex.fish",
}


@pytest.mark.parametrize("shell", MARKS)
def test_the_script_of_the_named_shell_is_printed(shell: str) -> None:
    for arguments in (("--show-completion", shell), (f"--show-completion={shell}",)):
        done = everindex(*arguments)
        assert (done.status, done.stderr) == (0, "")
        assert [name for name, mark in MARKS.items() if mark in done.stdout] == [
            name for name, mark in MARKS.items() if mark == MARKS[shell]
        ]


@pytest.mark.parametrize("shell", INSTALLED)
def test_the_script_of_the_named_shell_is_installed(shell: str, tmp_path: Path) -> None:
    done = everindex("--install-completion", shell, HOME=str(tmp_path))
    assert (done.status, done.stderr) == (0, "")
    assert f"{shell} completion installed in" in done.stdout
    assert MARKS[shell] in (tmp_path / INSTALLED[shell]).read_text(encoding="utf-8")


def test_without_a_name_it_is_that_of_the_shell_around() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(str(COMMAND))} --show-completion; true"],
        capture_output=True,
        text=True,
        env=environment({}),
        timeout=60,
        check=True,
    )
    assert MARKS["bash"] in done.stdout


@pytest.mark.parametrize("shell", ["tcsh", "", "ZSH"])
def test_a_shell_that_there_is_no_completion_for_is_a_usage_error(shell: str) -> None:
    done = everindex(f"--show-completion={shell}")
    three_lines(done, "bad-input", status=2)
    assert "bash, zsh, fish, powershell" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("everindex se", {"search", "serve"}),
        ("everindex status --j", {"--json"}),
        ("everindex --show-completion ", set(MARKS)),
    ],
)
def test_bash_completes_commands_and_their_options(typed: str, expected: set[str]) -> None:
    script = """
eval "$(everindex --show-completion bash)"
IFS=' ' read -ra COMP_WORDS <<< "$1"; [[ "$1" == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_everindex_completion everindex; printf '%s\\n' "${COMPREPLY[@]}"
"""
    seen = environment({})
    done = subprocess.run(
        ["bash", "-c", script, "bash", typed],
        capture_output=True,
        text=True,
        env=seen | {"PATH": f"{Path(sys.executable).parent}:{seen['PATH']}"},
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == expected, done.stderr
