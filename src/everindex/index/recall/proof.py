"""A proof of `everindex verify`: one claim about an index with its outcome, as data and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from everindex.message_text import with_backticks

if TYPE_CHECKING:
    from everindex.index.recall.by_source import SourceRecall
    from everindex.index.recall.measurement import Recall

ProofName = Literal["revision", "index", "planner", "recall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One checked claim. `holds` is None when it could not be checked: an earlier proof failed, or the role may not read what
    it needs."""

    name: ProofName
    holds: bool | None
    sentence: str
    next_step: str | None = None
    recall: Recall | None = None
    """The source of the queries that decide."""

    by_source: tuple[SourceRecall, ...] = ()
    """The measurements by source of queries."""

    not_tried: tuple[str, ...] = ()
    """Sources of queries that were not available, and why."""

    is_checked: bool = True
    """False: it holds, since there is nothing yet that could contradict it."""

    collection: str | None = None
    """The collection that it is about, where proofs of several stand together."""

    def as_dict(self) -> dict[str, Any]:
        measured = self.recall
        return {
            "name": self.name,
            **({} if self.collection is None else {"collection": self.collection}),
            "holds": self.holds,
            "is_checked": self.is_checked and self.holds is not None,
            "sentence": with_backticks(self.sentence),
            "next": None if self.next_step is None else with_backticks(self.next_step),
            **(
                {
                    "recall": {
                        "k": measured.k,
                        "value": measured.recall,
                        "low": measured.low,
                        "high": measured.high,
                        "queries": measured.queries,
                        "exact_ms": measured.exact_ms,
                        "approximate_ms": measured.approximate_ms,
                        "by_source": [one.as_dict() for one in self.by_source],
                        "not_tried": list(self.not_tried),
                    }
                }
                if measured
                else {}
            ),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A remark in addition to the proofs, which makes none of them fail."""

    slug: str
    sentence: str
    next_step: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "slug": self.slug,
            "sentence": with_backticks(self.sentence),
            "next": with_backticks(self.next_step),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The proofs in the order of the guide's criteria."""

    proofs: tuple[Proof, ...]
    catalog: str | None = None
    """The state of declaration and catalog that was proven; the proofs do not apply to any other state."""
    notes: tuple[Note, ...] = ()
    """What the proofs do not cover, but the reader should know."""

    @property
    def holds(self) -> bool:
        return all(proof.holds for proof in self.proofs)

    def of(self, collection: str) -> Verification:
        """The same, each proof marked as one of that collection."""
        return replace(self, proofs=tuple(replace(proof, collection=collection) for proof in self.proofs))

    def as_dict(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "proofs": [proof.as_dict() for proof in self.proofs],
            "notes": [note.as_dict() for note in self.notes],
        }


def fails(name: ProofName, sentence: str, next_step: str) -> Proof:
    """A proof that does not hold, with what to do."""
    return Proof(name=name, holds=False, sentence=sentence, next_step=next_step)
