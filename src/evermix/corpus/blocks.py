"""Data files as bytes: decompressed as they are read, in blocks and in lines, and decoded to text.

How a file is compressed is told by its first bytes, not by its name. Nothing is held whole but a line, which has a
limit: a small archive may unpack to more than there is memory. zstandard is imported on use.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from evermix.errors import CorpusError

COMPRESSED = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz")
"""Endings of names that say that a file is compressed."""

MOST_RECORD_BYTES = 256_000_000
"""Of one line, paragraph, record or document."""

_ONE_A_LINE = "cut it into records of their own lines"
_BLOCK_BYTES = 1 << 20
_ZSTANDARD_BYTES = 1 << 12  # packed bytes at once: 4 of them may stand for 128 KiB
_ZSTANDARD_WINDOW = 1 << 31  # the format's greatest; `zstd --long=31` writes it
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

Compression = Literal["gzip", "zstandard", "bzip2", "xz"]
_BEGINNINGS: dict[Compression, re.Pattern[bytes]] = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "zstandard": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
}
_NOT_READ: dict[str, re.Pattern[bytes]] = {
    "a zip archive": re.compile(rb"PK(\x03\x04|\x05\x06)"),
    "a tar archive": re.compile(rb"(?s).{257}ustar"),
    "a 7z archive": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "a rar archive": re.compile(rb"Rar!\x1a\x07"),
    "compressed by lz4": re.compile(rb"\x04\x22\x4d\x18"),
    "compressed by lzip": re.compile(rb"LZIP"),
    "compressed by compress": re.compile(rb"\x1f\x9d"),
}


def compression(path: Path) -> Compression | None:
    """How a file is compressed; None if it is not.

    Raises:
        CorpusError: the name says that it is compressed, and the content is not.
    """
    with _readable(path), path.open("rb") as file:
        beginning = file.read(16)
    found = next((kind for kind, pattern in _BEGINNINGS.items() if pattern.match(beginning)), None)
    if beginning and found is None and path.suffix.lower() in COMPRESSED:
        raise CorpusError(
            f"compressed file {path} must be whole (it begins as no {path.suffix} file does)",
            hint="download or compress it again, or rename it if it is not compressed",
        )
    return found


def read_blocks(path: Path) -> Iterator[bytes]:
    """Decompressed content in blocks of about 1 MiB.

    Raises:
        CorpusError: the file cannot be read, is damaged or cut short, an archive, or compressed in an unknown way.
    """
    reader = _READERS[compression(path)]
    first = True
    with _readable(path):
        for block in _gathered(reader(path)):
            if first:
                _check_beginning(path, block)
            first = False
            yield block


def read_whole(path: Path, hint: str) -> bytes:
    """All of the decompressed content; CorpusError with `hint` if that is more than one document may hold."""
    parts: list[bytes] = []
    for block in read_blocks(path):
        parts.append(block)
        check_size(sum(map(len, parts)), str(path), "a document", hint)
    return b"".join(parts)


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, byte offset of its first byte, line without its end) for each line.

    A line ends with LF, CR LF or CR.

    Raises:
        CorpusError: as `read_blocks`, or a line is beyond `MOST_RECORD_BYTES`.
    """
    number, offset = 1, 0
    pending: list[bytes] = []
    n_pending = 0
    for block in read_blocks(path):
        cr_before = bool(pending) and pending[-1].endswith(b"\r")
        pending.append(block)
        n_pending += len(block)
        if not (b"\n" in block or b"\r" in block or cr_before):
            check_size(n_pending, f"{path}:{number}", "a line", _ONE_A_LINE)
            continue
        lines = b"".join(pending).splitlines(keepends=True)
        pending = [] if lines[-1].endswith(b"\n") else [lines.pop()]  # a CR may be half of CR LF
        n_pending = sum(map(len, pending))
        if sum(map(len, lines)) > MOST_RECORD_BYTES:
            for k, line in enumerate(lines, number):
                check_size(len(line), f"{path}:{k}", "a line", _ONE_A_LINE)
        for line in lines:
            yield number, offset, line.rstrip(b"\r\n")
            number += 1
            offset += len(line)
    last = b"".join(pending)
    if last:
        yield number, offset, last.rstrip(b"\r\n")


def decode(path: Path, raw: bytes, offset: int = 0) -> str:
    """UTF-8 text of `raw`, which begins at byte `offset` of the (decompressed) file; a byte order mark is dropped.

    Raises:
        CorpusError: it is not UTF-8, or holds a NUL, which no text does.
    """
    skipped = len(_BOM) if offset == 0 and raw.startswith(_BOM) else 0
    if offset == 0 and raw.startswith(_UTF16):
        raise CorpusError(f"file {path} must be UTF-8 text, but it is UTF-16", hint="convert the file to UTF-8")
    try:
        text = raw[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + skipped + error.start
        raise _no_text(path, place, error.object[error.start : error.start + 1]) from None
    if "\0" in text:
        raise _no_text(path, offset + raw.index(b"\0"), b"\0")
    return text


def check_size(n_bytes: int, place: str, what: str, hint: str) -> None:
    """CorpusError if a line, paragraph, record or document (`what`) is beyond `MOST_RECORD_BYTES`."""
    if n_bytes > MOST_RECORD_BYTES:
        raise CorpusError(f"{place}: {what} must hold at most {MOST_RECORD_BYTES / 1e6:g} MB", hint=hint)


def _no_text(path: Path, place: int, byte: bytes) -> CorpusError:
    return CorpusError(
        f"file {path} must be UTF-8 text, but byte {place} is not",
        received=byte,
        hint="convert the file to UTF-8, or leave it out with a '!pattern' in `files`",
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what goes wrong in reading `path` into a CorpusError."""
    try:
        yield
    except FileNotFoundError:
        raise CorpusError("a data file must exist", received=str(path), hint="check the path in `files`") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        if error.errno is None:  # what gzip and bz2 say of bad data
            raise _damaged(path, str(error)) from None
        raise CorpusError(f"file {path} must be readable ({error.strerror or error})") from None


def _damaged(path: Path, reason: str) -> CorpusError:
    return CorpusError(
        f"compressed file {path} must be whole ({reason})", hint="download or compress it again; it may be cut short"
    )


def _check_beginning(path: Path, block: bytes) -> None:
    found = next((kind for kind, pattern in _NOT_READ.items() if pattern.match(block)), None)
    if found is not None:
        hint = "unpack it" if "archive" in found else f"compress it again, as {', '.join(COMPRESSED)}"
        raise CorpusError(f"file {path} must be text, records or Parquet, but it is {found}", hint=hint)


def _gathered(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of at least 1 MiB, but for the last."""
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= _BLOCK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if size:
        yield b"".join(parts)


def _blocks(file: BinaryIO, size: int = _BLOCK_BYTES) -> Iterator[bytes]:
    while block := file.read(size):
        yield block


def _plain_blocks(path: Path, size: int = _BLOCK_BYTES) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _blocks(file, size)


def _gzip_blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        yield from _blocks(cast(BinaryIO, file))


def _bzip2_blocks(path: Path) -> Iterator[bytes]:
    with bz2.open(path, "rb") as file:
        yield from _blocks(cast(BinaryIO, file))


def _xz_blocks(path: Path) -> Iterator[bytes]:
    with lzma.open(path, "rb") as file:
        yield from _blocks(cast(BinaryIO, file))


def _zstandard_blocks(path: Path) -> Iterator[bytes]:
    import zstandard

    packing = zstandard.ZstdDecompressor(max_window_size=_ZSTANDARD_WINDOW)
    frame = packing.decompressobj()
    for packed in _plain_blocks(path, _ZSTANDARD_BYTES):
        while packed:
            if frame.eof:
                frame = packing.decompressobj()
            try:
                block = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from None
            packed = frame.unused_data if frame.eof else b""
            if block:
                yield block
    if not frame.eof:
        raise EOFError("it ends in the middle of a frame")


_READERS: dict[Compression | None, Callable[[Path], Iterator[bytes]]] = {
    None: _plain_blocks,
    "gzip": _gzip_blocks,
    "bzip2": _bzip2_blocks,
    "xz": _xz_blocks,
    "zstandard": _zstandard_blocks,
}
