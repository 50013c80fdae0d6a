"""The lines of a stream, read one at a time, so that an endless line takes limited memory."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.articles.importers.opening import MAX_LINE_BYTES, OpenSource

TOO_LONG = f"longer than {MAX_LINE_BYTES // 1_000_000} MB"


def bounded_lines(opened: OpenSource) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its 1-based number; None stands for a line above MAX_LINE_BYTES, which is skipped.

    A partial line at the point where the source broke is not returned, since it would look complete.
    """
    readline = opened.stream.readline
    number = 0
    while data := readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > MAX_LINE_BYTES:
            while data and not data.endswith(b"\n"):
                data = readline(1 << 16)
            yield number, None
        elif data.endswith(b"\n") or opened.damage is None:
            yield number, data


def not_decoded(opened: OpenSource) -> str:
    """Why a line that is not UTF-8 is left out."""
    if opened.encoding is not None:
        return f"contains bytes that are invalid in the encoding {opened.encoding}"
    return "not UTF-8; if the source has another encoding, name it with --encoding"
