"""A finding about one statement of a migration, and the rules that findings come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from everindex.message_text import with_backticks

Level = Literal["error", "warning", "note"]

#: Every rule: its slug and what it says in general.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "blocking-vector-index-build": "A vector index is built while writers of the table wait.",
        "blocking-vector-index-drop": "A vector index is dropped in a way that readers and writers wait for.",
        "blocking-reindex": "A vector index is rebuilt while readers and writers wait.",
        "concurrently-in-transaction": "A CONCURRENTLY statement stands inside a transaction and fails there.",
        "drops-serving-index": "The only vector index of a column is dropped: searches then read the whole table.",
        "retypes-vector-column": "The type of a vector column changes: the table and its indexes are rebuilt under a lock.",
        "rewrites-table": "A table with a vector index is rewritten, and the index rebuilt, under a lock.",
        "skips-invalid-index": "IF NOT EXISTS compares the name alone and accepts an INVALID index.",
        "unknown-index": "An index is dropped of which it is not known whether it is a vector index.",
        "dynamic-statement": "A DO block composes statements that cannot be read.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFinding:
    """What one statement would do, why that matters, and what to write instead."""

    rule: str
    level: Level
    """Errors and warnings make the check fail; a note says what the check cannot know."""

    what: str
    next_step: str
    source: str
    """The file, or the revisions that the SQL was made from."""

    line: int | None
    """Of the statement in its file, from 1; None where the SQL was generated."""

    statement: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "level": self.level,
            "what": self.what,
            "next": with_backticks(self.next_step),
            "source": self.source,
            "line": self.line,
            "statement": self.statement,
        }
