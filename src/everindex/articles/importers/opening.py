"""The opening of a source as a UTF-8 byte stream: a file or standard input, plain or gzip, in any known encoding.

Damage is recorded, not raised.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast

from everindex.articles.importers.text_encodings import codec_of_bytes, incremental_decoder
from everindex.articles.model import RowProblem
from everindex.errors import SourceUnreadable

#: A longer line or CSV row is left out with a reason; the longest articles are far below 1 MB.
MAX_LINE_BYTES = 10_000_000
#: Larger sources are refused where they must be in memory as a whole (a feed, one JSON list).
MAX_WHOLE_BYTES = 50_000_000
GZIP_MAGIC = b"\x1f\x8b"


class _ByteStream(Protocol):
    def read1(self, size: int = -1, /) -> bytes: ...


class _Undamaged(io.RawIOBase):
    """`head`, then `stream`; a read error ends the stream and is stored in `damage`."""

    def __init__(self, head: bytes, stream: _ByteStream) -> None:
        self._head = head
        self._stream = stream
        self.damage: str | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed asks for any Buffer
        size = len(buffer)
        piece, self._head = self._head[:size], self._head[size:]
        if self.damage is None and len(piece) < size:
            try:
                piece += self._stream.read1(size - len(piece))
            except (OSError, EOFError, zlib.error) as exc:  # all that gzip.GzipFile and files raise
                self.damage = getattr(exc, "strerror", None) or str(exc)
        buffer[: len(piece)] = piece
        return len(piece)


class _AsUtf8(io.RawIOBase):
    """A stream converted from another encoding to UTF-8. A byte that cannot be decoded becomes invalid UTF-8."""

    def __init__(self, stream: _ByteStream, codec: str) -> None:
        self._stream = stream
        self._decoder = incremental_decoder(codec)
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed asks for any Buffer
        while not self._ready:
            data = self._stream.read1(1 << 16)
            self._ready = self._decoder.decode(data, final=not data).encode("utf-8", "surrogatepass")
            if not data:
                break
        piece, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


class _WithLineFeeds(io.RawIOBase):
    """A stream with line feeds in place of bare carriage returns."""

    def __init__(self, stream: _ByteStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed asks for any Buffer
        piece = self._stream.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(piece)] = piece
        return len(piece)


class OpenSource:
    """An open source: its display name, its bytes, and any damage found while reading."""

    def __init__(self, name: str, raw: _Undamaged, path: str | None = None) -> None:
        self.name = name
        self.path = path
        """Where the bytes of the source lie as they are; None for standard input and for what is packed."""

        self._raw = raw
        self.stream: io.BufferedReader[io.RawIOBase] = io.BufferedReader(raw, 1 << 16)
        self.head = self.stream.peek(1)
        """The first 1 to 65,536 bytes, not consumed."""
        self.encoding: str | None = None
        """The original encoding of bytes that were converted to UTF-8; None where they are unchanged."""

    def decode_as(self, codec: str | None) -> None:
        """Converts the stream to UTF-8 from `codec` (None: from the encoding that the first bytes show, if any)."""
        codec = codec or codec_of_bytes(self.head)
        if codec is not None and codec != "utf-8":
            self.encoding = codec
            self.stream = io.BufferedReader(_AsUtf8(self.stream, codec), 1 << 16)
            self.head = self.stream.peek(1)

    def end_lines_with_line_feeds(self) -> None:
        """Replaces bare carriage returns as line ends, which old Macintosh spreadsheets wrote."""
        if b"\r" in self.head and b"\n" not in self.head:
            self.stream = io.BufferedReader(_WithLineFeeds(self.stream), 1 << 16)
            self.head = self.stream.peek(1)

    @property
    def damage(self) -> str | None:
        """Why reading stopped before the end of the source; None without damage."""
        return self._raw.damage

    def problem(self, line: int, reason: str) -> RowProblem:
        return RowProblem(source=self.name, line=line, reason=reason)

    def problem_at_end(self, line: int) -> Iterator[RowProblem]:
        """Called last by every reader: one problem when the rest of the source could not be read."""
        if self.damage is not None:
            yield self.problem(line, f"the rest could not be read: {self.damage}")

    def read_whole(self) -> bytes:
        """All bytes. Raises SourceUnreadable when there are more than MAX_WHOLE_BYTES."""
        data = bytearray()
        while len(data) <= MAX_WHOLE_BYTES and (piece := self.stream.read(1 << 16)):  # read(50 MB) would take 100 MB
            data += piece
        if len(data) > MAX_WHOLE_BYTES:
            raise unreadable(
                self.name,
                why=f"it is larger than {MAX_WHOLE_BYTES // 1_000_000} MB, and this format is read as a whole.",
                next_step="split it, or convert it to JSONL (one object per line), which is read line by line.",
            )
        return bytes(data)


def unreadable(name: str, *, why: str, next_step: str) -> SourceUnreadable:
    return SourceUnreadable(f"nothing could be imported from {name}.", why=why, next_step=next_step)


@contextmanager
def open_source(source: str) -> Iterator[OpenSource]:
    """Opens a path, or `-` for standard input, unpacking gzip. Raises SourceUnreadable; never uses a network."""
    name = "standard input" if source == "-" else source.encode("utf-8", "backslashreplace").decode("utf-8")
    if source == "-":
        with _buffered(name, cast(io.BufferedReader, sys.stdin.buffer)) as opened:
            yield opened
        return
    if source.partition("://")[0].lower() in ("http", "https", "ftp", "feed"):
        raise unreadable(
            name,
            why="it is a web address, and an import fetches nothing from the network.",
            next_step="download it, for example with curl, and import the file or `-`.",
        )
    try:
        file = Path(source).open("rb")  # noqa: SIM115  # closed below; only opening it may be told as SourceUnreadable
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        raise unreadable(
            name,
            why=f"{os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else exc}.",
            next_step="name a file of articles that this user can read, or `-` for standard input.",
        ) from exc
    with file, _buffered(name, file, path=source) as opened:
        yield opened


@contextmanager
def _buffered(name: str, stream: io.BufferedReader, *, path: str | None = None) -> Iterator[OpenSource]:
    try:
        magic = stream.read(len(GZIP_MAGIC))
    except OSError as exc:
        raise unreadable(
            name, why=f"{exc.strerror or exc}.", next_step="check the file and the disk that holds it."
        ) from exc
    joined = _Undamaged(magic, stream)
    if magic == GZIP_MAGIC:
        joined = _Undamaged(b"", gzip.GzipFile(fileobj=io.BufferedReader(joined), mode="rb"))
    opened = OpenSource(name, joined, None if magic == GZIP_MAGIC else path)
    if not opened.head.strip() and opened.damage is not None:
        raise unreadable(
            name,
            why=f"it is damaged from the first bytes on: {opened.damage}.",
            next_step="download or compress the file again.",
        )
    if not opened.head:
        raise unreadable(name, why="it is empty.", next_step="name a file with at least one article.")
    yield opened
