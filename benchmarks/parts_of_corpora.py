"""Domains that are parts of a registry corpus: its documents, told apart by regular expressions.

An entry of a domain set may have `matching`, a pattern searched in a document. A document belongs to the first entry of
its corpus, in the order of the file, whose pattern is found in it; one without `matching` takes what none has found.
So parts of a corpus are disjoint. Files of parts are written once, under runs/bench/parts, in the corpus's order, by
content hash, so that their first bytes are a sample.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evermix.corpora import prepare
from evermix.files import write_atomically

Entry = dict[str, Any]


def in_recipe(domains: Sequence[Entry], folder: Path) -> list[Entry]:
    """The domains as a recipe has them: parts of a corpus become files, everything else stays as it is."""
    split = {entry["registry"] for entry in domains if "matching" in entry}
    files = {corpus: _files(corpus, domains, folder) for corpus in sorted(split)}
    return [
        _with_file(entry, files[entry["registry"]][entry["name"]]) if entry["registry"] in split else entry
        for entry in domains
    ]


def parted(documents: Iterable[str], entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """(name of the domain, document) for every document that belongs to one of the entries of a corpus."""
    patterns = [(entry["name"], re.compile(entry.get("matching", ""))) for entry in entries]
    for document in documents:
        found = next((name for name, pattern in patterns if pattern.search(document)), None)
        if found is not None:
            yield found, document


def _with_file(entry: Entry, file: Path) -> Entry:
    kept = {key: value for key, value in entry.items() if key not in ("registry", "matching")}
    return {**kept, "files": [str(file.absolute())]}


def _files(corpus: str, domains: Sequence[Entry], folder: Path) -> dict[str, Path]:
    """Name of a part -> its file; all parts of a corpus are written at once, if one is not there."""
    entries = [entry for entry in domains if entry["registry"] == corpus]
    text = prepare(corpus)
    rules = json.dumps([text.name, [[entry["name"], entry.get("matching")] for entry in entries]])
    key = hashlib.sha256(rules.encode()).hexdigest()[:12]
    files = {entry["name"]: folder / f"{entry['name'].replace(':', '.')}-{key}.jsonl" for entry in entries}
    if all(file.exists() for file in files.values()):
        return files
    lines: dict[str, list[str]] = {name: [] for name in files}
    with text.open(encoding="utf-8") as rows:
        documents = (json.loads(row)["text"] for row in rows)
        for name, document in parted(documents, entries):
            lines[name].append(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    for name, file in files.items():
        write_atomically(file, "".join(lines[name]))
    return files
