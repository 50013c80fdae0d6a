"""The generations of a declared index, recognised only by name and comment, whatever interrupted the last deploy.

Next to the declared index there are at most two others: `<name>__next`, which is being built or tested, and `<name>__prev`,
which served before and is kept for a rollback. The catalog is the only source of this: a comment on the index holds what its
name cannot (until when it is kept; which definition was rejected), changes in the same transaction as the name, and is
included in a dump of the schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from everindex.index.spec import MAX_NAME_BYTES

#: The beginning of our line in a comment, followed by JSON. Text that others have written precedes that line.
PREVIOUS = "everindex: previous generation "
SERVING = "everindex: serving "

_CHILD_TAIL = re.compile(r"_[0-9a-f]{8}_hnsw$")


def next_name(name: str) -> str:
    """The name of the generation that is to take over from index `name`."""
    return _with_suffix(name, "__next")


def previous_name(name: str) -> str:
    """The name of the generation that served under `name` before."""
    return _with_suffix(name, "__prev")


def aside_name(name: str) -> str:
    """The temporary name of the serving generation within the transaction that swaps two; never visible outside it."""
    return _with_suffix(name, "__swap")


def _with_suffix(name: str, suffix: str) -> str:
    if len(name.encode()) + len(suffix) <= MAX_NAME_BYTES:
        return name + suffix
    # Two long names may begin alike: a hash of the part that is cut off makes them distinct.
    tail = "_" + hashlib.sha256(name.encode()).hexdigest()[:8] + suffix
    return name.encode()[: MAX_NAME_BYTES - len(tail)].decode(errors="ignore") + tail


def child_name(partition: str, name: str, digest: str, attempt: int = 0) -> str:
    """The name of the index of a partition, for the generation `digest` of the parent's index `name`.

    A generation is renamed when it takes over, but its parts are not: the next generation with the same definition needs
    another `attempt`.
    """
    # The hash covers the whole name of the partition, since two long names may begin alike.
    hashed = f"{name} {digest} {partition}" + (f" {attempt}" if attempt else "")
    tail = "_" + hashlib.sha256(hashed.encode()).hexdigest()[:8] + "_hnsw"
    return partition.encode()[: MAX_NAME_BYTES - len(tail)].decode(errors="ignore") + tail


def has_child_name(found: str, partition: str) -> bool:
    """True when index `found` of `partition` was named by `child_name`, for whichever parent."""
    tail = _CHILD_TAIL.search(found)
    return tail is not None and partition.startswith(found[: tail.start()])


def has_generation_name(found: str, name: str) -> bool:
    """True when index `found` is, by its name, the next or the previous generation of `name`."""
    return found in (next_name(name), previous_name(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """The measured recall of a generation that took over below its floor, because nothing better served."""

    generation: str
    """Identifies the graph (`history.graph_of`): a graph built later under the same comment is another one."""

    k: int
    queries: int
    recall: float
    low: float
    high: float
    floor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationNote:
    """The content of the comment on a generation."""

    keep_until: datetime | None = None
    """For a previous generation: when it may be dropped."""

    is_hidden: bool = False
    """For a previous generation: its `indisvalid` was switched off, so that the planner ignores it."""

    rejected_definitions: tuple[str, ...] = ()
    """For the serving one: definitions (digests) that were rejected, and are not tried again automatically."""

    shortfall: Shortfall | None = None
    """For one that took over below its floor: what was measured then."""


def previous_note(*, keep_until: datetime, is_hidden: bool, shortfall: Shortfall | None = None) -> str:
    """The comment on a generation that has just been replaced."""
    said = {"keep_until": keep_until.astimezone(UTC).isoformat(), "is_hidden": is_hidden}
    return PREVIOUS + json.dumps(said | _said_of(shortfall))


def serving_note(rejected_definitions: tuple[str, ...], shortfall: Shortfall | None = None) -> str | None:
    """The comment on a serving generation; None for no comment."""
    said = ({"refused": list(rejected_definitions)} if rejected_definitions else {}) | _said_of(shortfall)
    return SERVING + json.dumps(said) if said else None


def _said_of(shortfall: Shortfall | None) -> dict[str, Any]:
    return {} if shortfall is None else {"shortfall": asdict(shortfall)}


def read_note(comment: str | None) -> GenerationNote:
    """The content of a comment; empty for a missing, foreign or unreadable one."""
    _, line = _parted(comment)
    for beginning in (PREVIOUS, SERVING):
        if line.startswith(beginning):
            try:
                known = json.loads(line.removeprefix(beginning))
                keep_until, shortfall = known.get("keep_until"), known.get("shortfall")
                return GenerationNote(
                    keep_until=None if keep_until is None else datetime.fromisoformat(keep_until),
                    is_hidden=bool(known.get("is_hidden", False)),
                    rejected_definitions=tuple(map(str, known.get("refused", ()))),
                    shortfall=None if shortfall is None else Shortfall(**shortfall),
                )
            except (ValueError, AttributeError, TypeError):
                return GenerationNote()
    return GenerationNote()


def words_of_others(comment: str | None) -> str | None:
    """The text that others have written in a comment; None if it contains only ours."""
    return _parted(comment)[0] or None


def with_note(words: str | None, note: str | None) -> str | None:
    """The comment that combines both; None for no comment."""
    return "\n".join(part for part in (words, note) if part) or None


def _parted(comment: str | None) -> tuple[str, str]:
    """The text of others, and our last line."""
    words, newline, last = (comment or "").rpartition("\n")
    if last.startswith((PREVIOUS, SERVING)):
        return words, last
    return f"{words}{newline}{last}", ""
