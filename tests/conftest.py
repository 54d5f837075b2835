"""Small real text for tests that train: parts of Python's own library, written as JSONL once per session."""

from __future__ import annotations

import gc
import json
import os
import random
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.pop("COLUMNS", None)  # pytest-xdist gives its workers narrow terminals
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a name that is nowhere fails at once

settings.register_profile("evermix", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("evermix")


LONG = ("tests/lifecycle", "tests/test_", "tests/cli", "tests/training", "tests/measure", "tests/executors")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers: a file stays on one, and so do all arms, whose run is made once.

    What takes long goes first (`make test` keeps this order), so that no worker waits for the last files of another.
    """
    files = {item: item.path.relative_to(config.rootpath).as_posix() for item in items}
    for item, file in files.items():
        group = "arms" if file.startswith("tests/lifecycle/arms/") else file
        item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        places = {file: [file.startswith(long) for long in LONG] for file in set(files.values())}
        items.sort(key=lambda item: places[files[item]], reverse=True)


_settled: list[Path] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before each file: what there is by now is garbage, or stays.

    accelerate collects garbage before every training, which looks through all modules and all collected tests: a third
    of the time of a tiny run.
    """
    if _settled != [item.path]:
        _settled[:] = [item.path]
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nobody_cuts_the_power() -> Iterator[None]:
    """Files that a killed process has written stay without fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


_STDLIB = Path(sysconfig.get_path("stdlib"))


def _write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """code.jsonl (Python source), prose.jsonl (Python's reference manual) and noise.jsonl (digits), 60 to 200 kB."""
    folder = tmp_path_factory.mktemp("text")
    code = [(_STDLIB / f"{name}.py").read_text(encoding="utf-8") for name in ("ast", "json/decoder", "heapq", "bisect")]
    pieces = [text[k : k + 2000] for text in code for k in range(0, len(text), 2000)]
    _write(folder / "code.jsonl", pieces)
    manual = (_STDLIB / "pydoc_data" / "topics.py").read_text(encoding="utf-8")[:200_000]
    _write(folder / "prose.jsonl", [manual[k : k + 2000] for k in range(0, len(manual), 2000)])
    rng = random.Random(0)
    _write(folder / "noise.jsonl", ["".join(rng.choices("0123456789abcdef", k=1000)) for _ in range(60)])
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(text_folder: Path) -> Callable[..., dict[str, object]]:
    """A function that gives a recipe as plain values: 3 domains, 60 steps, seconds to run."""

    def make(project: Path, **changes: object) -> dict[str, object]:
        recipe: dict[str, object] = {
            "project": str(project),
            "domains": [{"name": n, "files": [str(text_folder / f"{n}.jsonl")]} for n in ("code", "prose", "noise")],
            "tokenizer": {"vocab_size": 300},
            "corpus": {
                "sequence_length": 32,
                "heldout_fraction": 0.1,
                "heldout_sequences": 16,
                "store": str(text_folder / "tokens"),
            },
            "model": {"rung": "0.05M"},
            "training": {"tokens": 60 * 4 * 32, "batch_sequences": 4, "evaluations": 3, "checkpoints": 6},
            "decision": {
                "at": [0.5],
                "always": True,  # so little text promises nothing
                "gradient_evaluations": 3,
                "probes": {"steps": 5, "rank": 4, "evaluation_sequences": 8},
            },
            "arms": ["uniform", "evermix"],
            "equal_compute": False,  # baselines are trained twice only where a test asks for it
        }
        return recipe | changes

    return make
