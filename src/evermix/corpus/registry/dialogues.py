"""Extractor of question and answer pairs from AIML chatbot files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from evermix.corpus.registry.documents import grouped

PAIRS_PER_DOCUMENT = 20
_SPACES = re.compile(r"\s+")
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
