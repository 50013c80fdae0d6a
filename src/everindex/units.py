"""Sizes, durations and counts as text, for people and for PostgreSQL's settings. Size units are powers of 1024."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def size_text(size_bytes: float) -> str:
    """A size for people: `16 kB`, `1.5 MB`, `64 MB`, `1.4 GB`; rounded to whole units from ten upwards."""
    for unit, length in ((GIB, "GB"), (MIB, "MB"), (KIB, "kB")):
        if size_bytes >= unit:
            count = size_bytes / unit
            return f"{count:.0f} {length}" if count >= 9.95 else f"{count:.1f}".removesuffix(".0") + f" {length}"
    return f"{size_bytes:.0f} bytes"


def size_setting(size_bytes: int) -> str:
    """A size in the form that a setting takes, rounded up to whole megabytes: `1434MB`."""
    return f"{-(-size_bytes // MIB)}MB"


def duration_text(seconds: float) -> str:
    """A time span for people: `40 s`, `12 min`, `3.5 h`, `5 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"
    return f"{seconds / 86400:.0f} days"


def count_text(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: `1 row`, `2 rows`; an irregular plural is passed: `count_text(2, "index", "indexes")`."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
