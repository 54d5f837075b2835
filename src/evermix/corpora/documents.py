"""From raw text to documents: clean UTF-8, no exact duplicates, in an order in which any prefix is a sample.

Plain text is taken out of HTML pages and roff manual pages first.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path

LONGEST_DOCUMENT = 8_000  # characters; longer ones are cut at blank lines, so that held-out splits are not lumpy
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_RUN = re.compile(r"\n{4,}")


def clean(text: str) -> str:
    """NFC text with \\n line ends, without control characters, trailing blanks or long runs of blank lines."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _TRAILING.sub("", _CONTROL.sub("", text))
    return _BLANK_RUN.sub("\n\n\n", text).strip("\n")


def split_long(text: str, longest: int = LONGEST_DOCUMENT) -> Iterator[str]:
    """Cuts text of more than `longest` characters after blank lines, or after lines where there is none in reach."""
    while len(text) > longest:
        cut = text.rfind("\n\n", longest // 2, longest)
        if cut < 0:
            cut = text.rfind("\n", longest // 2, longest)
        cut = longest if cut < 0 else cut
        yield text[:cut]
        text = text[cut:].lstrip("\n")
    yield text


def tidy_documents(documents: Iterable[str]) -> list[str]:
    """Cleans, cuts, drops empty texts and exact duplicates, and orders by content hash.

    The order is independent of file systems and mixes a source's parts, so a corpus that is cut to its first bytes is
    a sample of the whole.
    """
    kept: dict[bytes, str] = {}
    for document in documents:
        for part in split_long(clean(document)):
            if part.strip():
                kept.setdefault(hashlib.sha256(part.encode()).digest(), part)
    return [kept[digest] for digest in sorted(kept)]


def grouped(items: Iterable[str], size: int, separator: str = "\n") -> Iterator[str]:
    """Joins each `size` consecutive items into one document."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield separator.join(group)


def text_files(root: Path, suffixes: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """UTF-8 files under `root` with one of the suffixes, sorted; symbolic links and other encodings are skipped."""
    wanted = set(suffixes)
    for path in sorted(root.rglob("*")):
        if path.suffix in wanted and path.is_file() and not path.is_symlink():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


# ---- plain text out of HTML pages

_BLOCKS = {"p", "div", "br", "li", "ul", "ol", "dl", "dt", "dd", "tr", "table", "blockquote", "section", "header", "hr"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_UNREAD = {"script", "style", "head", "nav", "footer"}
_VOID = {"br", "hr", "img", "input", "link", "meta", "col", "area", "wbr", "source"}
_FURNITURE = {"navheader", "navfooter", "related", "sphinxsidebar", "footer", "toc", "headerlink", "clearer"}
_SPACES = re.compile(r"\s+")
_BLANKS = re.compile(r"[ \t]*\n[ \t]*\n\s*")


def html_text(page: str) -> str:
    """Text of an HTML page: blocks become paragraphs, <pre> keeps its lines, navigation is left out."""
    reader = _HtmlText()
    reader.feed(page)
    reader.close()
    return _BLANKS.sub("\n\n", "".join(reader.pieces)).strip()


class _HtmlText(HTMLParser):
    """Collects text pieces; `_skipped` holds the open tags inside an element that is not read."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._skipped: list[str] = []
        self._n_pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = set((dict(attrs).get("class") or "").split())
        if self._skipped or tag in _UNREAD or classes & _FURNITURE:
            if tag not in _VOID:
                self._skipped.append(tag)
            return
        self._n_pre += tag == "pre"
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            if tag in self._skipped:
                del self._skipped[len(self._skipped) - 1 - self._skipped[::-1].index(tag) :]
            return
        self._n_pre -= tag == "pre"
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.pieces.append(data if self._n_pre > 0 else _SPACES.sub(" ", data))

    def _break(self, tag: str) -> None:
        if tag in _HEADINGS or tag in ("p", "pre", "table", "blockquote", "section", "dl", "ul", "ol"):
            self.pieces.append("\n\n")
        elif tag in _BLOCKS:
            self.pieces.append("\n")


# ---- plain text out of roff manual pages

_COMMENT = re.compile(r"\\[\"#].*$")
_ESCAPES = (
    (re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)"), ""),
    (re.compile(r"\\s(?:[+-]?\d|\([+-]?\d\d|\[[^\]]*\])"), ""),
    (re.compile(r"\\m\[[^\]]*\]|\\[vhw]'[^']*'"), ""),
    (re.compile(r"\\\*?\((?:aq|cq|oq|lq|rq|dq|L\"|R\")|\\\*?\[(?:aq|cq|oq|lq|rq|dq)\]"), "'"),
    (re.compile(r"\\\((?:bu|em|en|hy|mi)|\\\[(?:bu|em|en|hy|mi)\]"), "-"),
    (re.compile(r"\\\(ha|\\\[ha\]"), "^"),
    (re.compile(r"\\\(ti|\\\[ti\]"), "~"),
    (re.compile(r"\\\(rs|\\\[rs\]|\\e"), "\x00"),
    (re.compile(r"\\\*?\(..|\\\*?\[[^\]]*\]|\\\*."), ""),
    (re.compile(r"\\[ ~0]"), " "),
    (re.compile(r"\\([-.'`_])"), r"\1"),
    (re.compile(r"\\[&,/|^%:cdu)]"), ""),
    (re.compile(r"\\"), ""),
    (re.compile("\x00"), r"\\"),
)
_FONTS = {"B", "I", "R", "SM", "SB"}
_ALTERNATING = {"BR", "BI", "IB", "IR", "RB", "RI"}
_PARAGRAPHS = {"PP", "P", "LP", "TP", "TQ", "IP", "HP", "sp", "RS", "RE"}


def roff_text(page: str) -> str:
    """Text of a man(7) page; each filled paragraph is one line. Empty for mdoc pages and for `.so` redirections."""
    if re.search(r"^\.(?:so|Dd) ", page, re.MULTILINE):
        return ""
    paragraphs: list[str] = [""]
    filled, in_table = True, False
    for line in page.splitlines():
        macro, arguments = _macro(line)
        if macro in ("TS", "TE"):
            in_table = macro == "TS"
        elif in_table or macro == "comment":
            continue
        elif macro in ("nf", "EX", "fi", "EE"):
            filled = macro in ("fi", "EE")
            paragraphs.append("")
        elif macro in ("SH", "SS"):
            paragraphs += [_unescape(" ".join(arguments)), ""]
        elif macro in _PARAGRAPHS:
            paragraphs.append(_unescape(arguments[0]) if macro == "IP" and arguments else "")
        elif (text := _line_text(line, macro, arguments)) is not None:
            paragraphs[-1] += (" " if filled and paragraphs[-1] else "\n" if paragraphs[-1] else "") + text
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph.strip())


def _macro(line: str) -> tuple[str, list[str]]:
    """Name and arguments of a macro line; ("", []) for text; "comment" for comment lines."""
    if not line.startswith((".", "'")):
        return "", []
    body = _COMMENT.sub("", line[1:]).strip()
    if not body:
        return "comment", []
    name, _, rest = body.partition(" ")
    try:
        return name, shlex.split(rest.replace("\\", "\\\\").replace("'", "\\'"), posix=True)
    except ValueError:  # an unbalanced quote
        return name, rest.replace('"', "").split()


def _line_text(line: str, macro: str, arguments: list[str]) -> str | None:
    """The visible text of a text line or font macro; None for every other macro."""
    if not macro:
        return _unescape(_COMMENT.sub("", line))
    if macro in _ALTERNATING:
        return _unescape("".join(arguments))
    return _unescape(" ".join(arguments)) if macro in _FONTS else None


def _unescape(text: str) -> str:
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return text
