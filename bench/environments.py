"""Virtual environments of the systems that everindex is compared with, made once from bench/requirements/."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of the environment `folder`/`name`, which is made or made anew where its requirements have changed.

    uv makes it where it is on PATH, else venv and pip; both use the index that they are configured for. Raises
    CalledProcessError.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    environment = folder / name
    python = environment / "bin" / "python"
    mark = environment / "made-from"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if python.exists() and mark.exists() and mark.read_text(encoding="ascii") == wanted:
        return python
    print(f"making {environment} from {requirements.name} (once)", file=sys.stderr, flush=True)
    if shutil.which("uv"):
        _run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(environment))
        _run("uv", "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements))
    else:
        venv.create(environment, with_pip=True, clear=True, symlinks=True)
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements))
    mark.write_text(wanted, encoding="ascii")
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)
