"""What lies on disk for one embedded server: made whole or not at all, refused when of another major version."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from everindex.errors import EmbeddedServerFailed
from everindex.pg.embedded.account import (
    Account,
    account_for_server,
    existing_data,
    give_to,
    new_data_place,
    point_to,
    require_reach,
)
from everindex.pg.embedded.config import FIXED_SETTINGS, config_text, sized_settings, this_machine
from everindex.pg.embedded.programs import (
    Binaries,
    library_exists,
    major_of,
    run_program,
    supports_lz4,
    usable_binaries,
)

logger = logging.getLogger(__name__)

LOG_LIMIT_BYTES = 10 * 1024 * 1024
UNFINISHED = ".data-being-made-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One embedded server at rest: its home, its data, and who runs it with which programs."""

    home: Path
    data: Path
    account: Account | None
    binaries: Binaries
    version: str

    @property
    def log(self) -> Path:
        """Where the server's output goes."""
        return self.home / "postgresql.log"


def make_home(home: Path) -> Path:
    """The home as an absolute path, made when missing; root makes it passable for the account that runs the server.

    Raises EmbeddedServerFailed for a line break in the path: PostgreSQL's own postmaster.pid cannot hold one.
    """
    absolute = Path(os.path.abspath(home))
    if re.search(r"[\r\n]", str(absolute)):
        raise EmbeddedServerFailed(
            f"the embedded server cannot be in {str(absolute)!r}.",
            why="PostgreSQL cannot run in a path that contains a line break.",
            next_step="set EVERINDEX_HOME to another directory.",
        )
    if not absolute.is_dir():
        absolute.mkdir(parents=True, exist_ok=True)
        absolute.chmod(0o755 if os.geteuid() == 0 else 0o700)
    return absolute


def open_cluster(home: Path, binaries: Binaries) -> Cluster:
    """The cluster of this home, made with initdb when there is none. The caller holds the start mutex of the home.

    Raises EmbeddedServerFailed; data of another major version is not touched.
    """
    _remove_unfinished(home)
    data = existing_data(home)
    account = account_for_server(data)
    programs, version = usable_binaries(binaries, account)
    if data is not None:
        require_reach(account, data)
        _require_same_major(data, version)
    else:
        data = new_data_place(home, account)
        _initdb(data, programs, version, account)
        if data.parent != home:
            point_to(home, data)
    return Cluster(home=home, data=data, account=account, binaries=programs, version=version)


def _remove_unfinished(home: Path) -> None:
    """Removes what an initdb that was killed has left behind; nobody else can be making one, by the start mutex."""
    for folder in home.glob(f"{UNFINISHED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _require_same_major(data: Path, version: str) -> None:
    try:
        of_data = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise EmbeddedServerFailed(
            f"{data} exists, but contains no PostgreSQL data.",
            why="the file PG_VERSION is missing; nothing was changed.",
            next_step=f"move {data} away, or set EVERINDEX_HOME to another directory.",
        ) from None
    if of_data != str(major_of(version)):
        raise EmbeddedServerFailed(
            f"the data in {data} was written by PostgreSQL {of_data}; the embedded server is PostgreSQL {version}.",
            why="a server can only read the data of its own major version. The data was not changed.",
            next_step=f"install a release of everindex whose embedded server is PostgreSQL {of_data} and carry the "
            f"data over with pg_dump, or move {data} away and import the articles again.",
        )


def _initdb(data: Path, binaries: Binaries, version: str, account: Account | None) -> None:
    """Makes the data directory beside its place and renames it, so that a kill at any moment leaves none half-made."""
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=data.parent))
    try:
        give_to(account, unfinished)
        common = [binaries.program("initdb"), "-D", str(unfinished), "-U", "everindex", "--encoding=UTF8"]
        common += ["--data-checksums", "--auth-local=trust", "--auth-host=reject"]
        # The type of a character (letter or not, for full-text search) comes from lc_ctype: with C every non-ASCII
        # character, a curly quote too, counts as a letter. C.UTF-8 knows, but not every system has it.
        result = run_program([*common, *_locale_options("C.UTF-8", version)], account)
        if result.returncode != 0 and "locale" in result.stderr:
            _empty(unfinished)
            result = run_program([*common, *_locale_options("C", version)], account)
        if result.returncode != 0:
            raise EmbeddedServerFailed(
                f"the embedded server could not be created in {data.parent}.",
                why="initdb printed: " + _last_lines(result.stderr or result.stdout, 5),
                next_step="nothing was left behind. Correct what it names, or name your own server in DATABASE_URL.",
            )
        os.rename(unfinished, data)
        logger.info(
            "created the data of an embedded PostgreSQL %s in %s",
            version,
            data,
            extra={"event": "embedded-server-created"},
        )
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _locale_options(locale: str, version: str) -> list[str]:
    """From 17 on the builtin provider sorts and folds case alike on every machine; before it, libc has to."""
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major_of(version) >= 17 else []
    return [f"--locale={locale}", *builtin]


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _last_lines(text: str, count: int) -> str:
    return "\n        ".join(text.strip().splitlines()[-count:]) or "nothing"


def write_config(cluster: Cluster, socket_dir: Path, settings: Mapping[str, str]) -> None:
    """Writes postgresql.conf anew, sized for the machine of this moment; `settings` win over ours. Raises OSError."""
    merged = {**FIXED_SETTINGS, **sized_settings(this_machine())}
    merged["wal_compression"] = "lz4" if supports_lz4(cluster.binaries, cluster.account) else "on"
    if library_exists(cluster.binaries, "pg_stat_statements"):
        merged["shared_preload_libraries"] = "pg_stat_statements"
    text = config_text({**merged, **settings}, socket_dir=socket_dir)
    file, new = cluster.data / "postgresql.conf", cluster.data / "postgresql.conf.new"
    new.unlink(missing_ok=True)
    # Root writes into a directory of another account: never through a link that this account may have put there.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        give_to(cluster.account, stream.fileno())
    os.replace(new, file)


def open_log(cluster: Cluster) -> int:
    """Opens the server's log for appending and returns its descriptor; above 10 MB the old one becomes `.log.1`."""
    if cluster.log.exists() and cluster.log.stat().st_size > LOG_LIMIT_BYTES:
        os.replace(cluster.log, cluster.log.with_name("postgresql.log.1"))
    return os.open(cluster.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def log_since(cluster: Cluster, offset: int, *, lines: int = 8) -> str:
    """The last lines that the server has written after this offset, for an error message."""
    with cluster.log.open("rb") as stream:
        stream.seek(offset)
        return _last_lines(stream.read().decode("utf-8", "replace"), lines)
