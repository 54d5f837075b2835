"""Bytes and lines of a plain, gzip or zstandard file, with errors that name the place."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from evermix.errors import CorpusError

COMPRESSED = (".gz", ".zst")
_BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


def read_blocks(path: Path) -> Iterator[bytes]:
    """Decompressed content in blocks of about 1 MiB; CorpusError if unreadable, damaged or cut short."""
    reader = {".gz": _gzip_blocks, ".zst": _zstandard_blocks}.get(path.suffix.lower(), _plain_blocks)
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise CorpusError("a data file must exist", received=str(path), hint="check the path in `files`") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise CorpusError(f"file {path} must be readable ({error.strerror or error})") from None


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, byte offset of its first byte, line without its newline) for each line."""
    number, offset = 1, 0
    pending: list[bytes] = []
    for block in read_blocks(path):
        if b"\n" not in block:
            pending.append(block)
            continue
        *lines, tail = (b"".join(pending) + block).split(b"\n")
        for line in lines:
            yield number, offset, line
            number += 1
            offset += len(line) + 1
        pending = [tail]
    last = b"".join(pending)
    if last:
        yield number, offset, last


def decode(path: Path, raw: bytes, offset: int = 0) -> str:
    """UTF-8 text of `raw`, which begins at byte `offset` of the (decompressed) file; a byte order mark is dropped."""
    skipped = len(_BOM) if offset == 0 and raw.startswith(_BOM) else 0
    try:
        return raw[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + skipped + error.start
        raise CorpusError(
            f"file {path} must be UTF-8 text, but byte {place} is not",
            received=error.object[error.start : error.start + 1],
            hint="convert the file to UTF-8, or leave it out with a '!pattern' in `files`",
        ) from None


def encodable(text: str, place: str) -> str:
    """`text` itself; CorpusError if it holds lone surrogates, which no UTF-8 text can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{place}: the text must be valid Unicode, but character {error.start} is a lone surrogate",
            hint="repair or remove this record",
        ) from None
    return text


def _plain_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _gzip_blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _zstandard_blocks(path: Path) -> Iterator[bytes]:
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    fed = False
    for packed in _plain_blocks(path):
        while packed:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                block = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise _damaged(path, str(error)) from None
            fed, packed = True, frame.unused_data if frame.eof else b""
            if block:
                yield block
    if fed and not frame.eof:
        raise _damaged(path, "it ends in the middle of a frame")


def _damaged(path: Path, reason: str) -> CorpusError:
    return CorpusError(
        f"compressed file {path} must be whole ({reason})", hint="download or compress it again; it may be cut short"
    )
