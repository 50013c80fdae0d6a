"""The generations of a declared index, recognised by name and comment alone, whatever interrupted the last deploy.

Beside the declared index stand at most two others: `<name>__next`, which is being built or proven, and `<name>__prev`,
the one that served before and is kept for a rollback. The catalog alone says so: a comment on the index holds what its
name cannot (until when it is kept; which definition was taken back), changes in the same transaction as the name, and is
carried along by a dump of the schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from everindex.index.spec import MAX_NAME_BYTES

#: How the line of a comment begins that is ours; after it stands JSON. What somebody else has written stands above it.
PREVIOUS = "everindex: previous generation "
SERVING = "everindex: serving "

_CHILD_TAIL = re.compile(r"_[0-9a-f]{8}_hnsw$")


def next_name(name: str) -> str:
    """What the generation is called that shall take over from index `name`."""
    return _with_suffix(name, "__next")


def previous_name(name: str) -> str:
    """What the generation is called that served under `name` before."""
    return _with_suffix(name, "__prev")


def aside_name(name: str) -> str:
    """What the serving generation is called in the middle of the transaction that swaps two; nobody ever sees it."""
    return _with_suffix(name, "__swap")


def _with_suffix(name: str, suffix: str) -> str:
    if len(name.encode()) + len(suffix) <= MAX_NAME_BYTES:
        return name + suffix
    # Two long names may begin alike: what is cut off stays distinct by its hash.
    tail = "_" + hashlib.sha256(name.encode()).hexdigest()[:8] + suffix
    return name.encode()[: MAX_NAME_BYTES - len(tail)].decode(errors="ignore") + tail


def child_name(partition: str, name: str, digest: str, attempt: int = 0) -> str:
    """What the index of a partition is called, for the generation `digest` of the parent's index `name`.

    A generation is renamed when it takes over, its parts are not: the next one of the same definition needs another
    `attempt`.
    """
    # The whole of the partition's name is in the hash: two long ones may begin alike.
    hashed = f"{name} {digest} {partition}" + (f" {attempt}" if attempt else "")
    tail = "_" + hashlib.sha256(hashed.encode()).hexdigest()[:8] + "_hnsw"
    return partition.encode()[: MAX_NAME_BYTES - len(tail)].decode(errors="ignore") + tail


def has_child_name(found: str, partition: str) -> bool:
    """True when index `found` of `partition` was named by `child_name`, whatever it was for."""
    tail = _CHILD_TAIL.search(found)
    return tail is not None and partition.startswith(found[: tail.start()])


def has_generation_name(found: str, name: str) -> bool:
    """True when index `found` is, by its name, the next or the previous generation of `name`."""
    return found in (next_name(name), previous_name(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What a generation came to that took over below its floor, because nothing better served."""

    generation: str
    """The very graph (`recall_history.generation_of`): whatever is built later under the same comment is another one."""

    k: int
    queries: int
    recall: float
    low: float
    high: float
    floor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationNote:
    """What the comment on a generation says."""

    keep_until: datetime | None = None
    """Of a previous generation: when it may be dropped."""

    is_hidden: bool = False
    """Of a previous generation: its `indisvalid` was switched off, so that the planner passes it over."""

    rejected_definitions: tuple[str, ...] = ()
    """Of the serving one: definitions (digests) that were tried and taken back, and are not tried again by themselves."""

    shortfall: Shortfall | None = None
    """Of one that took over below its floor: what was measured then."""


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
    """What a comment says; nothing for a missing one, for one of somebody else and for one that makes no sense."""
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
    """What somebody else has written in a comment; None where it says nothing but ours."""
    return _parted(comment)[0] or None


def with_note(words: str | None, note: str | None) -> str | None:
    """The comment that says both; None for no comment."""
    return "\n".join(part for part in (words, note) if part) or None


def _parted(comment: str | None) -> tuple[str, str]:
    """What others have written, and our last line."""
    words, newline, last = (comment or "").rpartition("\n")
    if last.startswith((PREVIOUS, SERVING)):
        return words, last
    return f"{words}{newline}{last}", ""
