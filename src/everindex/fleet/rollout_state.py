"""The state file of a rollout: what was begun and what came of it, one JSON object a line, each on disk before work goes on.

A resumed rollout reads it, and proves by the catalog what it says is done. A process that dies leaves at most an unfinished last
line, which is ignored. Two processes never use one file at a time. It holds names and results, and no address with a secret.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from everindex.errors import RolloutRefused
from everindex.fleet.results import TargetResult, Verb, restored

#: Format of the file.
VERSION = 1


def state_path(targets: Path, verb: Verb) -> Path:
    """The file beside a file of targets: `tenants.csv` has `tenants.csv.deploy.state`."""
    return targets.with_name(f"{targets.name}.{verb}.state")


class RolloutState:
    """An open state file, locked until it is closed; without a path, nothing is kept."""

    def __init__(self, path: Path | None, *, verb: Verb, starts_anew: bool = False) -> None:
        """Raises RolloutRefused where another process uses the file, it cannot be written, or it is of another operation."""
        self._path, self._verb = path, verb
        self._file: int | None = None
        self.records: dict[str, TargetResult] = {}
        """The last results of the rollout that is continued, by target."""

        self.begun: dict[str, dict[str, Any]] = {}
        """What was recorded when targets without a result were begun."""

        if path is None:
            return
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _refused(path, f"it cannot be opened: {exc.strerror}.", "name another one with --state.") from None
        try:
            self._open(path, starts_anew=starts_anew)
        except BaseException:
            self.close()
            raise

    @property
    def is_resumed(self) -> bool:
        return bool(self.records or self.begun)

    def begin(self, name: str, facts: dict[str, Any]) -> None:
        """Records that a target is about to be changed, with what the catalog says before."""
        self._write({"begin": name, **facts})

    def end(self, result: TargetResult) -> None:
        self._write({"end": result.name, "result": result.stored()})

    def finish(self) -> None:
        """Records that every target was worked on: the next rollout begins anew."""
        self._write({"finished": datetime.now(UTC).isoformat(timespec="seconds")})

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> RolloutState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, path: Path, *, starts_anew: bool) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            why, next_step = "another process is using it now.", "wait for it, or end it; then run the command again."
            raise _refused(path, why, next_step) from None
        lines = _lines(path)
        if lines and "everindex_fleet" not in lines[0]:
            raise _refused(path, "it is not a state file of  everindex fleet .", "name another one with --state.")
        if lines and lines[0]["everindex_fleet"] != VERSION and not starts_anew:
            raise _refused(path, "another release of everindex wrote it.", "run with --restart, which begins anew.")
        if lines and lines[0].get("verb") != self._verb and not (starts_anew or _is_finished(lines)):
            raise _refused(
                path,
                f"it is of an unfinished  everindex fleet {lines[0].get('verb')} .",
                "finish that one first, name another file with --state, or run with --restart.",
            )
        if not lines or starts_anew or _is_finished(lines):
            os.ftruncate(self._file, 0)
            self._write(
                {
                    "everindex_fleet": VERSION,
                    "verb": self._verb,
                    "began": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
            return
        if not path.read_bytes().endswith(b"\n"):
            os.write(self._file, b"\n")  # after a line that was not finished
        for line in lines[1:]:
            if "begin" in line:
                self.begun[str(line["begin"])] = line
            elif "end" in line:
                self.begun.pop(str(line["end"]), None)
                self.records[str(line["end"])] = restored(line["result"])

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")
        os.fsync(self._file)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines; an unfinished one, and what is no JSON object, is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            read = json.loads(line)
        except ValueError:
            read = None
        if isinstance(read, dict):
            found.append(read)
        elif not found:
            return [{}]
    return found


def _is_finished(lines: list[dict[str, Any]]) -> bool:
    return "finished" in lines[-1]


def _refused(path: Path, why: str, next_step: str) -> RolloutRefused:
    return RolloutRefused(
        f"the state file {path} cannot be used.", why=why, next_step=f"{next_step} No database was touched."
    )
