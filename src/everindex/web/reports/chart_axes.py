"""The axes of charts: values and their positions. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A value on an axis, and its position."""

    at: float
    label: str
