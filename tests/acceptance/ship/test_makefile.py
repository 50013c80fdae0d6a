"""`make` on a bare machine: what it makes and when, what it says when it cannot. Programs that take long are stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from repository import REPOSITORY
from shipping import Shell, executable, is_told_in_three_lines

TOOLS = ("make", "sh", "awk", "cat", "cksum", "rm", "mkdir", "pwd", "sleep", "ln", "echo", "grep")

#: Stands in for uv: notes what it was asked for, and makes an environment whose everindex runs until it is stopped.
UV = """\
#!/bin/sh
echo "uv $*" >>uv.log
if [ "$1" = venv ]; then
  mkdir -p .venv/bin
  ln -s "$REAL_PYTHON" .venv/bin/python
  cat >.venv/bin/everindex <<'END'
#!/bin/sh
trap 'echo stopped; exit 0' TERM
echo "$1 with $EVERINDEX_HOME"
while :; do sleep 0.1; done
END
  chmod 755 .venv/bin/everindex
fi
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What make reads, in a directory with spaces and a quote in its name."""
    made = tmp_path / "a clone's place"
    made.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-test.lock"):
        shutil.copy(REPOSITORY / name, made / name)
    return made


@pytest.fixture
def machine(tmp_path: Path) -> Shell:
    """A machine with make and the tools of every system, and without Python and uv."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (*TOOLS, "chmod"):
        found = shutil.which(name)
        assert found is not None, name
        (programs / name).symlink_to(found)
    shell = Shell()
    shell.environment |= {"PATH": str(programs), "REAL_PYTHON": sys.executable}
    return shell


def give(machine: Shell, name: str, text: str) -> None:
    executable(Path(machine.environment["PATH"]) / name, text)


def test_make_alone_lists_what_there_is(machine: Shell, clone: Path) -> None:
    said = machine.succeed("make", cwd=clone)
    for target in ("up", "test", "lint", "lock", "clean"):
        assert f"make {target} " in said


@pytest.mark.parametrize("python", [None, "#!/bin/sh\nexit 1\n"])
def test_without_a_python_of_3_11_it_says_so(machine: Shell, clone: Path, python: str | None) -> None:
    if python is not None:
        give(machine, "python3", python)
    done = machine.run("make", "up", cwd=clone)
    assert done.returncode != 0
    assert is_told_in_three_lines(done.stderr.split("make: ***")[0], "python-missing"), done.stderr


def test_without_ensurepip_and_uv_it_names_the_package(machine: Shell, clone: Path) -> None:
    give(machine, "python3", '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n')
    done = machine.run("make", "up", cwd=clone)
    assert done.returncode != 0
    assert is_told_in_three_lines(done.stderr.split("make: ***")[0], "venv-missing"), done.stderr
    assert not (clone / ".venv").exists()


def test_an_environment_of_somebody_else_that_does_not_work_is_not_removed(machine: Shell, clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / "mine").touch()
    give(machine, "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    done = machine.run("make", "up", cwd=clone)
    assert is_told_in_three_lines(done.stderr.split("make: ***")[0], "environment-unusable"), done.stderr
    assert (clone / ".venv" / "mine").exists()


def test_the_environment_is_made_once_and_again_when_the_lock_or_the_project_changes(
    machine: Shell, clone: Path
) -> None:
    give(machine, "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    give(machine, "uv", UV)
    log = clone / "uv.log"

    def asked(target: str) -> list[str]:
        log.write_text("")
        machine.succeed("make", target, cwd=clone)
        return [" ".join(word for word in line.split() if word in {"venv", "-e", "requirements.lock", "requirements-test.lock"})
                for line in log.read_text().splitlines()]  # fmt: skip

    assert asked("env-run") == ["venv", "requirements.lock", "-e"]
    assert asked("env-run") == []
    assert asked("env-test") == ["requirements-test.lock", "-e"]
    assert asked("env-test") == []
    assert asked("env-run") == []
    with (clone / "requirements.lock").open("a") as lock:
        lock.write("# newer\n")
    assert asked("env-run") == ["venv", "requirements.lock", "-e"]
    assert asked("env-test") == ["requirements-test.lock", "-e"]
    project = clone / "pyproject.toml"
    written = project.read_text(encoding="utf-8")
    project.write_text(written.replace("line-length = 120", "line-length = 99"), encoding="utf-8")
    assert project.read_text(encoding="utf-8") != written
    assert asked("env-run") == []  # nothing of it is installed
    for line in ('requires-python = ">=3.11', "dependencies = [", 'packages = ["src/everindex"'):
        assert written.count(f"\n{line}") == 1
        project.write_text(written.replace(f"\n{line}", f"\n# {line}"), encoding="utf-8")
        assert asked("env-run") == ["venv", "requirements.lock", "-e"]


def test_an_activated_environment_can_be_made_anew(machine: Shell, clone: Path) -> None:
    assert sys.prefix != sys.base_prefix  # the tests run in an environment
    give(machine, "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    give(machine, "uv", UV)
    machine.succeed("make", "env-run", cwd=clone)
    asked = (clone / "uv.log").read_text()
    assert f"{sys.base_prefix}/bin/python" in asked
    assert sys.prefix not in asked


@pytest.mark.parametrize(
    ("given", "dotenv", "home"),
    [
        ({}, "PORT=0\n", "{clone}/.everindex"),
        ({"EVERINDEX_HOME": "/else where"}, "", "/else where"),
        ({}, "EVERINDEX_HOME=data\n", ""),
    ],
)
def test_up_runs_everindex_with_its_data_in_the_clone_and_passes_a_stop_on(
    machine: Shell, clone: Path, given: dict[str, str], dotenv: str, home: str
) -> None:
    give(machine, "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    give(machine, "uv", UV)
    (clone / ".env").write_text(dotenv)
    environment = {name: value for name, value in machine.environment.items() if name != "EVERINDEX_HOME"} | given
    with subprocess.Popen(
        ["make", "up"], cwd=clone, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        # Where .env names the home, everindex reads it there: the environment would win over it.
        assert process.stdout.readline() == f"up with {home.format(clone=clone)}\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "stopped\n"
        process.wait(timeout=20)


def test_clean_keeps_the_data(machine: Shell, clone: Path) -> None:
    (Path(machine.environment["PATH"]) / "find").symlink_to(str(shutil.which("find")))
    for name in (".venv", ".everindex", "src"):
        (clone / name / "__pycache__").mkdir(parents=True)
    machine.succeed("make", "clean", cwd=clone)
    assert not (clone / ".venv").exists()
    assert not (clone / "src" / "__pycache__").exists()
    assert (clone / ".everindex").exists()


def test_the_makefile_names_no_path_of_a_machine() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert os.sep + "tmp" not in text
    assert os.sep + "root" not in text
