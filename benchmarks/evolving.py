"""A domain set that lives through five updates, on real text: the case study of reuse.py and olmix.py.

It mirrors the published one (Olmix: topics, then languages of code, then sources, one revised, one removed, one
partitioned). Written down before any experiment was run on it, and not changed afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import RUNS

from evermix.corpora import prepare
from evermix.corpus.source import TextSource
from evermix.corpus.store import StoreSettings, TokenStore, build_store
from evermix.corpus.tokenizer import load_tokenizer, train_bpe
from evermix.files import write_atomically

MB = 1_000_000
VOCABULARY = 512
TOPICS = {
    "topic:news": {"brown:news": MB},
    "topic:government": {"brown:government": MB},
    "topic:learned": {"brown:learned": MB},
    "topic:fiction": {"brown:fiction": MB},
    "topic:religion": {"brown:religion": MB},
    "topic:hobbies": {"brown:hobbies": MB},
    "topic:lore": {"brown:lore": MB},
    "topic:belles-lettres": {"brown:belles-lettres": MB},
    "topic:romance": {"brown:romance": MB},
    "topic:law": {"legal": MB},
    "topic:medicine": {"biomedical": 2 * MB},
    "topic:reference": {"dictionary": 6 * MB},
}
CODE = {
    "code:python": {"python-stdlib": 5 * MB},
    "code:cpp": {"cpp-headers": 10 * MB},
    "code:go": {"go": 8 * MB},
    "code:perl": {"perl": 2 * MB},
    "code:ruby": {"ruby": MB},
}
MANUALS = {
    "source:man:en": {"manpages-en": int(1.5 * MB)},
    "source:man:de": {"manpages-de": int(1.2 * MB)},
    "source:man:fr": {"manpages-fr": int(0.8 * MB)},
    "source:man:es": {"manpages-es": int(0.5 * MB)},
}
SOURCES = {
    "source:mail": {"email-ham": MB, "email-spam": MB},
    "source:wordnet": {"wordnet": int(1.5 * MB)},
    "source:man": {corpus: size for parts in MANUALS.values() for corpus, size in parts.items()},
}
REVISED = {"source:mail": {"email-ham": 2 * MB}}
Contents = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Stage:
    """The domain set after one update: domain -> corpora with their most bytes."""

    name: str
    contents: Contents


def stages() -> list[Stage]:
    """The domain set as it begins and after each of the five updates."""
    added = {**TOPICS, **CODE, **SOURCES}
    revised = {**added, **REVISED}
    removed = {name: parts for name, parts in revised.items() if name != "code:perl"}
    partitioned: Contents = {}
    for name, parts in removed.items():
        partitioned |= MANUALS if name == "source:man" else {name: parts}
    return [
        Stage("topics", TOPICS),
        Stage("add code", {**TOPICS, **CODE}),
        Stage("add sources", added),
        Stage("revise mail", revised),
        Stage("remove perl", removed),
        Stage("partition manuals", partitioned),
    ]


def open_text(stage: Stage, sequence_length: int = 64, vocab_size: int = VOCABULARY) -> TokenStore:
    """The tokenised text of a stage; all stages share one tokenizer, trained on the first and the last."""
    folder = RUNS / "evolving"
    sources = [_source(folder, name, parts) for name, parts in stage.contents.items()]
    tokenizer = folder / f"tokenizer-{vocab_size}.json"
    if not tokenizer.exists():
        union = {**stages()[0].contents, **stages()[2].contents, **stages()[-1].contents}
        texts = {name: _documents(parts) for name, parts in union.items()}
        train_bpe(texts, vocab_size).save(tokenizer)
    settings = StoreSettings(sequence_length, heldout_fraction=0.05, heldout_max_sequences=128, workers=1)
    return build_store(sources, load_tokenizer(tokenizer), folder / "tokens", settings)


def _source(folder: Path, name: str, parts: dict[str, int]) -> TextSource:
    files = []
    for corpus, most in parts.items():
        file = folder / "text" / f"{corpus.replace(':', '-')}-{most}.jsonl"
        if not file.exists():
            lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in _documents({corpus: most}))
            write_atomically(file, "".join(lines))
        files.append(str(file.absolute()))
    return TextSource(name=name, files=tuple(files))


def _documents(parts: dict[str, int]) -> Iterator[str]:
    """The first documents of each corpus, up to so many bytes; corpora are ordered by content hash."""
    for corpus, most in parts.items():
        used = 0
        with prepare(corpus).open(encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                used += len(text.encode())
                if used > most:
                    break
                yield text
