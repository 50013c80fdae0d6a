"""The names of the partial indexes that everindex declares: made of their table and of what stands for their filter. Pure.

By its name a search knows that an index holds exactly the rows of its filter, and a proof that it is declared beside another.
"""

from __future__ import annotations

import hashlib
import re

from everindex.index.spec import MAX_NAME_BYTES

_ENDS = re.compile(r"_where_[0-9a-f]{12}_idx$")
#: Room for the suffixes of generations (`generations.py`).
_MOST_BYTES = MAX_NAME_BYTES - len("__next")


def partial_name(table: str, digest: bytes) -> str:
    """The name of the partial index of `table` for the filter with that digest (at least 6 bytes)."""
    tail = f"_where_{digest[:6].hex()}_idx"
    if len(table.encode()) + len(tail) > _MOST_BYTES:  # two long names may begin alike
        tail = f"_where_{hashlib.sha256(table.encode() + digest).hexdigest()[:12]}_idx"
    return table.encode()[: _MOST_BYTES - len(tail)].decode("utf-8", "ignore") + tail


def is_partial_name(name: str) -> bool:
    """Whether everindex gave an index that name."""
    return _ENDS.search(name) is not None
