"""What must not matter, and what must not be trusted: attacks on a tiny project, every count of them to be zero.

Damage to every kind of stored file, ledgers and results full of rubbish, runs told in any order, hostile names. A case
falls if it ends in a traceback, or in another answer than the undisturbed one without a word.

    python benchmarks/attack.py [--parts damage fuzz orders names]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import re
import shutil
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from harness import RUNS, Target, write_results

import evermix as em
from evermix.errors import EvermixError
from evermix.lifecycle import run
from evermix.recipe import Recipe
from evermix.wording import visible
from tests.cli.called import evermix
from tests.damage import attack
from tests.hostile_names import HOSTILE_NAMES

FOLDER = RUNS / "attack"
Row = dict[str, Any]
Damage = Callable[[Path, random.Random], None]


# ---- damaged files


def zero_block(path: Path, rng: random.Random) -> None:
    """4 kB of zeros, or half of a smaller file."""
    content = bytearray(path.read_bytes())
    size = min(4096, -(-len(content) // 2))
    start = rng.randrange(len(content) - size + 1)
    content[start : start + size] = bytes(size)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """The end is missing."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def flip_bit(path: Path, rng: random.Random) -> None:
    """One bit is another."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def remove(path: Path, rng: random.Random) -> None:
    """The file is gone."""
    path.unlink()


DAMAGES: tuple[Damage, ...] = (zero_block, cut, flip_bit, remove)
MOST_OF_A_KIND = 2


def tiny_recipe(project: Path, text: Path) -> Recipe:
    """Three domains, 60 steps, a decision from probes."""
    return Recipe.model_validate(
        {
            "project": str(project),
            "domains": [{"name": file.stem, "files": [str(file)]} for file in sorted(text.glob("*.jsonl"))],
            "tokenizer": {"vocab_size": 300},
            "corpus": {"sequence_length": 32, "heldout_fraction": 0.1, "heldout_sequences": 16},
            "model": {"rung": "0.2M"},
            "training": {"tokens": 60 * 4 * 32, "batch_sequences": 4, "evaluations": 3, "checkpoints": 6},
            "decision": {"at": [0.5], "probes": {"steps": 5, "rank": 4, "evaluation_sequences": 8}},
            "arms": ["evermix"],
        }
    )


def write_text(folder: Path) -> None:
    """Python's source, its manual and digits, as JSON lines."""
    folder.mkdir(parents=True)
    library = Path(sysconfig.get_path("stdlib"))
    code = "".join((library / f"{name}.py").read_text(encoding="utf-8") for name in ("ast", "heapq", "bisect"))
    manual = (library / "pydoc_data" / "topics.py").read_text(encoding="utf-8")[:150_000]
    digits = "".join(random.Random(0).choices("0123456789abcdef", k=60_000))
    for name, content in (("code", code), ("prose", manual), ("noise", digits)):
        pieces = [content[k : k + 2000] for k in range(0, len(content), 2000)]
        lines = "".join(json.dumps({"text": piece}) + "\n" for piece in pieces)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def kind_of(path: Path) -> str:
    """A stored file's place without what distinguishes it from its likes."""
    return re.sub(r"\b[0-9a-f]{8,}\b|\d+", "*", re.sub("code|noise|prose", "domain", path.as_posix()))


def answer_of(project: Path, text: Path) -> Any:
    """What a run decides and reaches."""
    result = run(tiny_recipe(project, text))
    ((phase,),) = (arm.orders[0] for arm in result.arms.values())
    return [phase.mixture, {name: score.loss_nats for name, score in phase.per_domain.items()}]


def ended(work: Callable[[], Any]) -> tuple[str, Any]:
    """How the work ends: `answer` and what it returns, `refused` and why, or `traceback` and its last line."""
    try:
        return "answer", work()
    except EvermixError as error:
        return "refused", str(error)
    except BaseException:  # noqa: BLE001 - the thing that is counted
        return "traceback", traceback.format_exc().strip().splitlines()[-1]


def in_fork(work: Callable[[], Any]) -> tuple[str, Any]:
    """The same in a process of its own, which has checked no file yet."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def tell() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            sending.send(ended(work))

    process = context.Process(target=tell)
    process.start()
    sending.close()
    try:
        return receiving.recv()  # type: ignore[no-any-return]
    except EOFError:
        return "traceback", "the process died"
    finally:
        process.join()


def damaged_files() -> list[Row]:
    """Every kind of file of a finished project, damaged in every way; then the ledger is moved away and all is read."""
    text, whole, copy = FOLDER / "text", FOLDER / "whole", FOLDER / "copy"
    write_text(text)
    expected = in_fork(lambda: answer_of(whole, text))
    assert expected[0] == "answer", expected
    kinds: dict[str, list[Path]] = {}
    for path in sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file()):
        if len(path.parts) > 1 and (whole / path).stat().st_size:
            kinds.setdefault(kind_of(path), []).append(path)
    rows: list[Row] = []
    for kind, paths in kinds.items():
        for damage, path in product(DAMAGES, paths[:MOST_OF_A_KIND]):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(whole, copy)
            for file in (copy / "result.json", *copy.glob("ledger.sqlite*")):
                file.unlink()
            damage(copy / path, random.Random(f"{path} {damage.__name__}"))
            how, what = in_fork(lambda: answer_of(copy, text))
            verdict = "same answer" if (how, what) == expected else how if how != "answer" else "another answer"
            row = {"attack": "damaged file", "file": kind, "damage": damage.__name__, "verdict": verdict}
            rows.append(row | ({} if how == "answer" else {"said": what}))
            print(rows[-1], flush=True)
    return rows


# ---- runs told in any order

N_RUNS, N_ORDERS = 14, 20


def told(folder: Path, order: list[int]) -> Any:
    """Mixture, intervals and strength of a study that was told the same runs in this order."""
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(3), N_RUNS)
    losses = 2 + mixtures @ rng.uniform(0.2, 1.0, (3, 2)) + 0.3 * np.exp(-4 * mixtures[:, :2])
    losses += rng.normal(0, 0.01, losses.shape)
    names = ("web", "code", "maths")
    study = em.Study(folder, names)
    for k in order:
        metrics = dict(zip(("prose", "programs"), losses[k].tolist(), strict=True))
        study.tell(f"run {k}", metrics, dict(zip(names, mixtures[k].tolist(), strict=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return study.propose().view.model_dump(mode="json")


def orders_of_telling() -> list[Row]:
    """The same runs, told in twenty orders."""
    rng, rows = random.Random(0), []
    expected = in_fork(lambda: told(FOLDER / "orders" / "first", list(range(N_RUNS))))
    for number in range(N_ORDERS):
        order = rng.sample(range(N_RUNS), N_RUNS)
        how, what = in_fork(partial(told, FOLDER / "orders" / str(number), order))
        verdict = "same answer" if (how, what) == expected else how if how != "answer" else "another answer"
        rows.append({"attack": "order of telling", "order": order, "verdict": verdict})
        print(rows[-1], flush=True)
    return rows


# ---- ledgers and results full of rubbish

N_FUZZED = 117  # of each project


def fuzzed_records() -> list[Row]:
    """Ledger, result.json and status.json of a finished training and of a study, damaged by seed; then all verbs."""
    rows: list[Row] = []
    study = FOLDER / "orders" / "first"
    for label, project in (("training", FOLDER / "whole"), ("study", study)):
        faults, refused = attack(project, FOLDER / "fuzzed", N_FUZZED, draw=False)
        rows.append({"attack": "fuzzed record", "project": label, "n": N_FUZZED, "faults": faults, "refused": refused})
        print(rows[-1], flush=True)
    return rows


# ---- hostile names


def verbs_with(name: str, folder: Path) -> None:
    """A swarm and a study whose domain, metric and run are called `name`, through the command line's verbs."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    mixtures = rng.dirichlet(np.ones(3), 12)
    losses = 2 + mixtures @ rng.uniform(0.2, 1.0, (3, 2)) + rng.normal(0, 0.01, (12, 2))
    with (folder / "ratios.jsonl").open("w") as ratios, (folder / "metrics.jsonl").open("w") as metrics:
        for k in range(12):
            run_id = f"{name} {k}"
            shares = dict(zip((name, "b", "c"), mixtures[k].tolist(), strict=True))
            values = dict(zip((f"{name} loss", "other"), losses[k].tolist(), strict=True))
            ratios.write(json.dumps({"run": run_id, **shares}) + "\n")
            metrics.write(json.dumps({"run": run_id, **values}) + "\n")
    page = folder / "page.html"
    ask("propose", str(folder), "--law", "log-linear", "--resamples", "2", "--report", str(page))
    check_page(page)
    project = folder / "study"
    try:
        study = em.Study(project, {name: 10**9, "b": 10**9})
        for trial in study.ask(2):
            study.tell(trial.run_id, {f"{name} loss": 1.0 + trial.mixture["b"]})
    except EvermixError:
        return
    for verb in ("status", "log", "report", "check"):
        ask(verb, str(project))
    check_page(project / "report.html")


def ask(*words: str) -> None:
    """One command; AssertionError if it is a traceback or prints what a terminal would obey."""
    ended = evermix(*words)
    assert ended.code in (0, 1, 2), ended.err
    assert "Traceback" not in ended.err, ended.err
    for printed in (ended.out, ended.err):
        assert visible(printed) == printed, f"{words[0]} prints control characters"


class Obeyed(HTMLParser):
    """What of a page a browser would run: handlers, and scripts that call `alert`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script" and "alert" in data:
            self.found.append(data)


def check_page(page: Path) -> None:
    """AssertionError if a browser would run what came from a name."""
    if page.exists():
        text = page.read_text(encoding="utf-8")
        assert visible(text) == text
        assert not Obeyed(text).found
        assert Obeyed('<a onclick="x()"></a><script>alert(1)</script>').found == ["a onclick=x()", "alert(1)"]


def hostile_names() -> list[Row]:
    """Each name in every place that takes one."""
    rows: list[Row] = []
    for kind, name in HOSTILE_NAMES.items():
        how, what = in_fork(partial(verbs_with, name, FOLDER / "names" / str(len(rows))))
        rows.append({"attack": "hostile name", "name": kind, "verdict": how} | ({"said": what} if what else {}))
        print(rows[-1], flush=True)
    return rows


# ---- all together

PARTS: dict[str, Callable[[], list[Row]]] = {
    "damage": damaged_files,
    "orders": orders_of_telling,
    "fuzz": fuzzed_records,
    "names": hostile_names,
}


def targets(rows: list[Row]) -> list[Target]:
    """Every count at zero."""

    def target(attacked: str, what: str, *verdicts: str) -> Target:
        chosen = [row for row in rows if row["attack"] == attacked]
        fell = sum(len(row["faults"]) if "faults" in row else row["verdict"] in verdicts for row in chosen)
        n_cases = sum(row.get("n", 1) for row in chosen)
        return Target(f"{attacked}s, of {n_cases}: {what}", fell, 0, "cases", at_least=False)

    return [
        target("damaged file", "another answer without a word", "another answer"),
        target("damaged file", "a traceback", "traceback"),
        target("order of telling", "another proposal", "another answer", "traceback", "refused"),
        target("fuzzed record", "a traceback, or a change that nobody noticed"),
        target("hostile name", "a traceback, or obeyed", "traceback"),
    ]


def main() -> None:
    """Attack, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), help="only print these; nothing is written")
    asked = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = [row for part in asked.parts or PARTS for row in PARTS[part]()]
    if not asked.parts:
        write_results("attack", [0], rows, targets(rows))


if __name__ == "__main__":
    main()
