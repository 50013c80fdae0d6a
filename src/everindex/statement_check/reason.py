"""A reason why a statement does not use a vector index, or a warning about one that does: why, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason, or one warning."""

    slug: str
    why: str
    next_step: str
    proven_by: str | None = None
    """The index that PostgreSQL uses once the remedy is applied, verified by planning; None if that was not tried."""

    @property
    def remedy(self) -> str:
        return self.next_step + (f" PostgreSQL then uses {self.proven_by}." if self.proven_by else "")

    def as_dict(self) -> dict[str, str | None]:
        return {"slug": self.slug, "why": self.why, "next": self.next_step, "proven_by": self.proven_by}
