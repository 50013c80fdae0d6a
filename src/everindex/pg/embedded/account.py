"""The operating system account that runs the embedded server, and a data directory that this account can reach.

No account is ever created, and data that exists is never moved.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everindex.errors import EmbeddedServerFailed

#: Accounts that may run the server when we are root, in this order. None is ever created.
ACCOUNT_NAMES = ("everindex", "postgres", "nobody")

#: Where root puts what an unprivileged account must reach.
SHARED_PLACE = Path("/var/lib/everindex")


def make_shared_place() -> Path:
    """SHARED_PLACE, made when missing, open to other accounts whatever the umask is. Raises OSError."""
    if not SHARED_PLACE.is_dir():
        SHARED_PLACE.mkdir(parents=True, exist_ok=True)
        SHARED_PLACE.chmod(0o755)
    return SHARED_PLACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An unprivileged account of the operating system."""

    name: str
    uid: int
    gid: int


def account_for_server(data: Path | None = None) -> Account | None:
    """The account that runs the server; None means our own.

    PostgreSQL refuses to run as root, since an intruder in the server would own the machine. So root hands it to
    the account that owns the data already there, else to the first of ACCOUNT_NAMES that exists; none is ever created.
    Raises EmbeddedServerFailed when root has no such account.
    """
    if os.geteuid() != 0:
        return None
    if data is not None and data.is_dir():
        owner = data.stat()
        if owner.st_uid != 0:
            return Account(name=_name_of(owner.st_uid), uid=owner.st_uid, gid=owner.st_gid)
    for name in ACCOUNT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedServerFailed(
        "the embedded PostgreSQL cannot run here as root.",
        why=f"PostgreSQL refuses to run as root, and none of the accounts {', '.join(ACCOUNT_NAMES)} exists.",
        next_step="run the command as an ordinary user, or create an account with `useradd --system everindex`.",
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a volume written by another image
        return str(uid)


def as_account(account: Account | None) -> dict[str, Any]:
    """Arguments of subprocess.Popen that make the child that account, without any of our groups."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def give_to(account: Account | None, path: Path | int) -> None:
    """Makes the account the owner of a file that we have just created. Raises OSError."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def reaches(account: Account | None, folder: Path) -> bool:
    """True when the account may pass through the folder and everything above it. Reads permission bits only."""
    if account is None:
        return True
    real = folder.resolve()
    return all(_may_pass(account, step.stat()) for step in (real, *real.parents))


def _may_pass(account: Account, found: os.stat_result) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def existing_data(home: Path) -> Path | None:
    """The data directory of this home, or None when there is none yet.

    `home/data` may be a link: everindex makes one when the server's account cannot reach the home, and people make one
    to use another disk. Raises EmbeddedServerFailed when the link leads nowhere: an empty server would hide the loss.
    """
    link = home / "data"
    if link.is_symlink() and not link.exists():
        raise EmbeddedServerFailed(
            f"the data of the embedded server is missing: {link} points to {os.readlink(link)}.",
            why="the directory was removed, or is on a disk or in a container that is not available here.",
            next_step=f"restore it, or remove the link {link} to start with an empty server.",
        )
    return link.resolve() if link.exists() else None


def require_reach(account: Account | None, data: Path) -> None:
    """Raises EmbeddedServerFailed when the account cannot get to data that already exists; nothing is moved."""
    if account is not None and not reaches(account, data):
        raise EmbeddedServerFailed(
            f"the account {account.name}, which runs the embedded server for root, cannot reach {data}.",
            why="a directory above it is closed to other accounts.",
            next_step=f"let it pass with `chmod o+x` on each directory above {data}, or run the command as its owner.",
        )


def new_data_place(home: Path, account: Account | None) -> Path:
    """Where the data of a new server goes: `home/data`, or below SHARED_PLACE when the account cannot reach the home.

    Makes the directory above it, not the data directory itself. Raises EmbeddedServerFailed when neither is possible.
    """
    if reaches(account, home):
        return home / "data"
    short = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    try:
        place = Path(tempfile.mkdtemp(prefix=f"{short}-", dir=make_shared_place()))
        place.chmod(0o755)
    except OSError as exc:
        raise EmbeddedServerFailed(
            f"there is no place for the data of the embedded server: {home} is closed to other accounts.",
            why=f"PostgreSQL does not run as root, and {SHARED_PLACE} cannot be used instead: {exc.strerror}.",
            next_step="set EVERINDEX_HOME to a directory that other accounts may pass through, or do not run as root.",
        ) from exc
    if not reaches(account, place):
        place.rmdir()
        raise EmbeddedServerFailed(
            f"there is no place for the data of the embedded server: {home} and {SHARED_PLACE} are closed.",
            why="PostgreSQL does not run as root, and the account that runs it can pass through neither.",
            next_step=f"run `chmod 755 {SHARED_PLACE}`, or set EVERINDEX_HOME to a directory open to other accounts.",
        )
    return place / "data"


def point_to(home: Path, data: Path) -> None:
    """Leaves in the home a link to data that lies elsewhere, and in both places a word about why."""
    note = (
        f"The data of the embedded PostgreSQL of {home}\nis in {data}.\n\n"
        "It was first started by root. PostgreSQL refuses to run as root, so an unprivileged account runs it,\n"
        "and that account cannot pass through the directories above this home.\n"
        "To remove the server with everything in it, remove both directories.\n"
    )
    for folder in (data.parent, home):
        (folder / "README.txt").write_text(note, encoding="utf-8", errors="surrogateescape")
    (home / "data").symlink_to(data)
