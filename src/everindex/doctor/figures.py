"""How are sizes and times told? In the units that PostgreSQL takes and people read."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def size_text(size_bytes: int) -> str:
    """A size for people: `64 MB`, `1.4 GB` (powers of 1024, as PostgreSQL counts)."""
    if size_bytes < MIB:
        return f"{size_bytes // KIB} kB"
    if size_bytes < GIB:
        return f"{size_bytes / MIB:.0f} MB"
    return f"{size_bytes / GIB:.1f} GB"


def size_setting(size_bytes: int) -> str:
    """A size as a setting takes it, rounded up to whole megabytes: `1434MB`."""
    return f"{-(-size_bytes // MIB)}MB"


def duration_text(seconds: float) -> str:
    """A time for people: `8 s`, `12 min`, `3 h`, `5 days`."""
    for limit, unit, length in ((120, 1, "s"), (120 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {length}"
    return f"{seconds / 86400:.0f} days"
