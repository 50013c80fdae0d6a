"""The wheel: built from what the image copies, installed into an empty environment, used far away from the repository."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from places import open_place
from repository import REPOSITORY
from shipping import HEAD, PROGRAMS, Shell

ARTICLES = """\
{"uri": "https://example.org/1", "title": "A parser leaks memory", "summary": "Repeated parsing of bad input grew the heap."}
{"uri": "https://example.org/2", "title": "Faster startup", "summary": "Fewer modules are imported when the program starts."}
{"uri": "https://example.org/3", "title": "Dates in the far future", "summary": "Years after 9999 are refused."}
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that the account of an embedded server may enter too."""
    with open_place("everindex wheel ") as made:  # with a space, as people have them
        yield made


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    """Built by the locked hatchling from the files that the Dockerfile copies for it, and no others."""
    source = place / "source"
    source.mkdir()
    builder = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[1]
    for line in re.findall(r"^COPY (.+)$", builder, re.MULTILINE):
        for name in line.split()[:-1]:
            if name.endswith("/"):
                shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(REPOSITORY / name, source / name)
    Shell().succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist", cwd=source)
    (built,) = (place / "dist").glob("*.whl")
    return built


def test_the_wheel_is_small_and_brings_everything_that_it_needs(wheel: Path) -> None:
    assert wheel.stat().st_size <= 20 * 1000 * 1000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for name in (
        "everindex/_chain/alembic.ini",
        "everindex/_chain/alembic/env.py",
        f"everindex/_chain/alembic/versions/{HEAD}_add_hnsw_vector_index.py",
        "everindex/articles/embedding/static_model/model.safetensors",
        "everindex/articles/sample/cpython_news.jsonl.gz",
        "everindex/_manual/problems/server-busy.md",
        "everindex/_manual/doctor/index-cold.md",
        "everindex/py.typed",
    ):
        assert name in names
    assert [name for name in names if name.startswith("everindex/web/templates/") and name.endswith(".html")]
    assert [name for name in names if name.startswith("everindex/web/static/")]
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "everindex/web/tests"))]


@pytest.fixture(scope="module")
def environment(place: Path, wheel: Path) -> Path:
    """An empty environment with the wheel and what requirements.lock names. By uv where it is, else from our own copies."""
    made = place / "venv"
    uv = shutil.which("uv")
    if uv is not None and _by_uv(uv, made, wheel):
        return made
    has_pip = importlib.util.find_spec("pip") is not None  # an environment that uv has made is without
    venv.create(made, with_pip=not has_pip, symlinks=True)
    (packages,) = (made / "lib").glob("python*/site-packages")
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines():
        pinned = re.match(r"[a-z0-9][^\\]*", line)
        if pinned is not None:
            _copy_distribution(Requirement(pinned[0].strip()), packages)
    python = made / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", "--no-compile", wheel], check=True, timeout=120)
    return made


def _by_uv(uv: str, made: Path, wheel: Path) -> bool:
    for arguments in (
        ["venv", "--python", sys.executable, made],
        [
            "pip",
            "install",
            "--python",
            made / "bin" / "python",
            "--require-hashes",
            "-r",
            REPOSITORY / "requirements.lock",
        ],
        ["pip", "install", "--python", made / "bin" / "python", "--no-deps", "--no-index", wheel],
    ):
        done = subprocess.run([uv, *arguments], capture_output=True, encoding="utf-8", timeout=300, check=False)
        if done.returncode != 0:
            # Without a network the lock cannot be proven here; that the wheel works still can.
            assert re.search(r"error sending request|dns error|[Ff]ailed to (fetch|download)|offline", done.stderr), (
                done.stderr
            )
            shutil.rmtree(made, ignore_errors=True)
            return False
    return True


def _copy_distribution(pinned: Requirement, target: Path) -> None:
    """Copies one installed distribution, its files by its own list; pins of other platforms and Pythons are passed over."""
    if pinned.marker is not None and not pinned.marker.evaluate():
        return
    try:
        found = importlib.metadata.distribution(pinned.name)
    except importlib.metadata.PackageNotFoundError:
        return  # only what builds the project may be missing; anything else fails below, when it is imported
    assert pinned.specifier.contains(found.version), f"{found.version} is installed and not {pinned}: run make test"
    for file in found.files or []:
        source = Path(str(file.locate()))
        is_missing = "__pycache__" in file.parts and not source.is_file()
        if file.parts[0] != ".." and not is_missing:
            to = target.joinpath(*file.parts)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to)  # with its time: the compiled files beside it stay valid


def test_the_installed_wheel_migrates_imports_and_searches_on_its_own_server(place: Path, environment: Path) -> None:
    away = place / "away"
    away.mkdir()
    (away / "articles.jsonl").write_text(ARTICLES, encoding="utf-8")
    shell = Shell()
    shell.environment["PATH"] = shell.environment["PATH"].replace(str(PROGRAMS), str(environment / "bin"))
    shell.environment["EVERINDEX_HOME"] = str(away / "home")
    everindex = environment / "bin" / "everindex"

    where = shell.succeed(environment / "bin" / "python", "-c", "import everindex; print(everindex.__file__)", cwd=away)
    assert str(environment) in where
    assert shell.succeed(everindex, "migrate", cwd=away) == f"{HEAD} (head)\n"
    report = json.loads(shell.succeed(everindex, "import", "articles.jsonl", "--json", cwd=away))
    assert (report["articles.jsonl"]["inserted"], report["articles.jsonl"]["without_vector"]) == (3, 0)
    found = json.loads(shell.succeed(everindex, "search", "memory leak in the parser", "--json", cwd=away))
    assert found["hits"][0]["uri"] == "https://example.org/1"
