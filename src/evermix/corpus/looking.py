"""A look into a data file, for `evermix init`: what it holds, by its name and its first records or lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from evermix.corpus.blocks import decode, read_blocks, read_lines
from evermix.corpus.chat_records import chat_form, normal_record
from evermix.corpus.conversation import Conversation
from evermix.corpus.readers import bare_name, format_of, is_julia, leaves, looks_like_records, read_objects, text_of
from evermix.errors import CorpusError

_PROSE = " .txt .text .md .markdown .mdx .rst .adoc .org .tex .bib .html .htm .srt .vtt .wiki "
_CODE = (
    " .py .pyi .pyx .c .h .cc .cpp .cxx .hpp .hh .cu .cuh .java .kt .kts .scala .groovy .js .jsx .mjs .ts .tsx .vue"
    " .go .rs .rb .pl .pm .php .swift .m .mm .cs .fs .vb .r .jl .lua .sh .bash .zsh .ps1 .sql .hs .ml .mli .clj .ex"
    " .exs .erl .el .lisp .scm .f .f90 .f95 .for .pas .asm .s .v .sv .vhd .vhdl .zig .nim .dart .lean .sol .proto"
    " .cmake .css .scss "
)
_USUAL = ("text", "content", "contents", "body", "document", "raw_content", "article", "code", "passage", "message")
_ABOUT = re.compile(
    r"(^|[\W_])(id|uuid|guid|uri|url|link|title|headline|name|path|file|filename|source|src|lang|language|license|date|time|"
    r"timestamp|created|updated|hash|sha|sha1|sha256|md5|key|type|kind|label|category|domain|host|author|user|metadata|meta)s?$",
    re.IGNORECASE,
)
_RECORDS, _LINES = 20, 100


@dataclass(frozen=True)
class Look:
    """What a file holds.

    Attributes:
        kind: of its documents; records have a field with text.
        text_field: that field; None but for records.
        format: what `format` must be set to for the file to be read so; "auto" where its name says enough.
    """

    kind: Literal["prose", "code", "records", "chat"]
    text_field: str | None = None
    format: Literal["auto", "jsonl", "chat"] = "auto"


def look(path: Path) -> Look:
    """What a file holds.

    Raises:
        CorpusError: it cannot be read, is empty, or holds neither text nor records with text that evermix would know.
    """
    named = format_of(path)
    beginning = next(read_blocks(path), b"")
    if not beginning.strip():
        raise CorpusError(f"{path} holds no text")
    has_records = looks_like_records(beginning)
    if not has_records and (is_julia(path) or (named == "text" and not beginning.startswith(b"PAR1"))):
        return _plain(path)
    records = [record for _, record in islice(read_objects(path), _RECORDS)]
    if not records:
        raise CorpusError(f"{path} must hold at least one record")
    field = text_field(records)
    forms = {chat_form(record) for record in records}
    if forms == {"list"} or (forms == {"pair"} and (field is None or field.rpartition(".")[2] not in _USUAL)):
        for number, record in enumerate(records, 1):
            place = f"{path}, record {number}"
            Conversation.from_record(normal_record(record, place), place)
        return Look("chat", format="chat")
    if field is None:
        found = ", ".join([name for name, _ in leaves(records[0])][:20]) or "none"
        raise CorpusError(f"{path} has no field that looks like text (fields found: {found})", hint="set text_field")
    return Look("records", field, "jsonl" if named == "text" and has_records else "auto")


def text_field(records: Sequence[Mapping[str, object]]) -> str | None:
    """The field with the longest strings in all of the records: of the usual names, else of those that can be text.

    Names such as `id`, `url` or `title` are what is known about a text.
    """
    sizes: dict[str, int] = {}
    for record in records:
        for name, value in leaves(record):
            sizes[name] = sizes.get(name, 0) + len(value.strip() if isinstance(value, str) else "")
    texts = {name: size for name, size in sizes.items() if size and all(_is_text(record, name) for record in records)}
    usual = [name for name in texts if name.rpartition(".")[2].lower() in _USUAL]
    possible = usual or [name for name in texts if not _ABOUT.search(name)]
    return max(possible, key=lambda name: texts[name], default=None)


def _is_text(record: Mapping[str, object], name: str) -> bool:
    try:
        text_of(record, name, "")
    except CorpusError:
        return False
    return True


def _plain(path: Path) -> Look:
    suffix = Path(bare_name(path)).suffix.lower()
    if not suffix or f" {suffix} " not in _PROSE + _CODE:
        ending = f"the ending {suffix} is" if suffix else "names without an ending are"
        raise CorpusError(f"{ending} not known as text: name it in `files` if it is")
    for _, offset, raw in islice(read_lines(path), _LINES):
        decode(path, raw, offset)
    return Look("code" if f" {suffix} " in _CODE else "prose")
