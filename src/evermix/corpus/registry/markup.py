"""Plain text out of HTML pages and roff manual pages."""

from __future__ import annotations

import re
import shlex
from html.parser import HTMLParser

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
