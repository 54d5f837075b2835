"""Names that try to be something else, through the command line: no trace, nothing that a terminal would obey."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import evermix as em
from evermix.results import RunResult
from evermix.wording import composed, is_unicode, visible
from tests.cli.called import Ended, evermix
from tests.hostile_names import HOSTILE_NAMES
from tests.reports.synthetic_result import phases

UNICODE = [name for name in HOSTILE_NAMES.values() if is_unicode(composed(name)) and len(name) < 200]
FILES = [name.replace("/", "_") for name in UNICODE if "\0" not in name and name not in ("..", "~/x")]


def together(n: int, without: str = "") -> list[str]:
    """Few names that hold all the others."""
    return [f"{k} {' '.join(UNICODE[k::n])} {k}".translate(str.maketrans("", "", without)) for k in range(n)]


def sound(ended: Ended) -> Ended:
    """Ended well, or with one line that says what is wrong; nothing printed is obeyed or hidden."""
    assert ended.code in (0, 2), ended.err
    assert "Traceback" not in ended.err
    for printed in (ended.out, ended.err):
        assert visible(printed) == printed
        printed.encode()
    if ended.code == 2:
        assert ended.err.splitlines()[-1].startswith("error: ")
    return ended


def write_swarm(folder: Path, domains: list[str], metrics: list[str], runs: list[str]) -> Path:
    """A swarm whose every metric is a line in the shares, as JSON lines, which can hold any name."""
    rng = np.random.default_rng(0)
    slopes = rng.uniform(1, 2, (len(domains), len(metrics)))
    folder.mkdir(exist_ok=True)
    with (folder / "ratios.jsonl").open("w") as ratios, (folder / "metrics.jsonl").open("w") as measured:
        for run_id, shares in zip(runs, rng.dirichlet(np.ones(len(domains)), len(runs)), strict=True):
            values = (shares @ slopes + rng.normal(0, 0.01, len(metrics))).tolist()
            ratios.write(json.dumps({"run": run_id, **dict(zip(domains, shares.tolist(), strict=True))}) + "\n")
            measured.write(json.dumps({"run": run_id, **dict(zip(metrics, values, strict=True))}) + "\n")
    return folder


def test_a_swarm(tmp_path: Path) -> None:
    """As domain, metric and run id: decided, shown and drawn."""
    domains, metrics = together(4, without=":"), [f"{name} loss" for name in together(2)]
    swarm = write_swarm(tmp_path / "swarm", domains, metrics, [f"{name} {k}" for k, name in enumerate(UNICODE[:12])])
    told = sound(evermix("propose", swarm, "--law", "log-linear", "--resamples", 2, "--plots", tmp_path / "plots"))
    assert told.code == 0, told.err
    assert "[/fast]" in told.out
    assert r"\x1b[31m" in told.out
    for drawn in (tmp_path / "plots").glob("*.svg"):
        assert ElementTree.parse(drawn).getroot().tag.endswith("svg")


@pytest.mark.parametrize("columns", [["half\ud83d", "b", "c"], ["a", "half\udce9", "c"]])
def test_half_a_character_is_refused(columns: list[str], tmp_path: Path) -> None:
    for runs in ([str(k) for k in range(8)], [f"half\ud83d {k}" for k in range(8)]):
        told = sound(evermix("fit", write_swarm(tmp_path / "swarm", columns[:2], columns[2:], runs)))
        assert told.code == 2
        assert "ratios.jsonl, line 1: text must be Unicode" in told.err


def test_a_study(tmp_path: Path) -> None:
    """As domain, metric, run and project."""
    folder = tmp_path / " ".join(FILES)[:80]
    study = em.Study(folder, dict.fromkeys(together(6, without=":"), 10**9))
    for trial in study.ask(2):
        study.tell(trial.run_id, {f"{name} loss": 1.0 for name in together(2)})
    study.tell("\x1b[2J[/b]", {"a": 1.0}, mixture=study.pending()[0].mixture if study.pending() else trial.mixture)
    for verb in (("status",), ("log",), ("log", "--graph"), ("log", "--at", 2), ("log", "--json"), ("report",)):
        told = sound(evermix(verb[0], folder, *verb[1:]))
        assert told.code == 0, told.err
        assert "--json" not in verb or "\\u001b[31m" in told.out


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A record with other names, wherever they stand."""
    if isinstance(value, dict):
        return {renamed(key, names): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_a_result(tmp_path: Path) -> None:
    """Domains, phases and the project of a finished run, in tables and on the page."""
    for result in (phases(),):
        record = result.to_json()
        domains = [each["name"] for each in record["domains"]]
        order = sorted({name for names in record["orders"] for name in names})
        folder = tmp_path / " ".join(FILES)[80:160] / order[0]
        em.Study(folder, {"a": 10, "b": 10})
        chosen = dict(zip([*domains, *order], together(len(domains) + len(order)), strict=True))
        RunResult.model_validate(renamed(record, chosen)).save(folder / "result.json")
        told = sound(evermix("report", folder, "--tables"))
        assert told.code == 0, told.err
        assert sound(evermix("status", folder)).code == 0
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert visible(page) == page
        assert "<script>alert" not in page
        assert '" onmouseover="alert' not in page


def test_plans(tmp_path: Path) -> None:
    """As phase, domain and project of a recipe: planned, or refused in one line; nothing is written."""
    pytest.importorskip("torch")
    (tmp_path / "a.txt").write_text("text " * 10_000)
    domains = [f"{name}." for name in together(6, without=":")]
    steps = [name for name in map(composed, together(3)) if name.isprintable()] or ["mid [/fast]", "{0} %s", "=1+1"]
    recipe = {
        "project": str(tmp_path / "p" / " ".join(FILES)[:80]),
        "domains": [{"name": name, "files": "a.txt"} for name in domains],
        "model": {"rung": "0.05M"},
        "training": {"tokens": 100_000},
        "start": dict.fromkeys(domains, 1 / 6),
        "phases": [
            {"name": f"{name} {k}", "add": [{"name": f"new {k}", "files": "a.txt"}]} for k, name in enumerate(steps)
        ],
        "arms": ["uniform"],
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    told = sound(evermix("run", path, "--dry-run"))
    assert told.code == 0, told.err
    assert "[/fast]" in told.out
    for kind in ("NUL", "lone surrogate", "not UTF-8"):
        path.write_text(json.dumps(recipe | {"project": f"{tmp_path}/p/{HOSTILE_NAMES[kind]}\ud83d"}))
        told = sound(evermix("run", path, "--dry-run"))
        assert told.code == 2
        assert "recipe.yaml:" in told.err
    assert not (tmp_path / "p").exists()


def test_an_ascii_terminal(tmp_path: Path) -> None:
    """What the encoding lacks is spelt out; JSON says the same."""
    em.Study(tmp_path / "caf\u00e9", {"caf\u00e9": 10, "\u6f22": 10})
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    verbs = "import sys; from evermix.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    begin = "from evermix.cli.terminal import spell_out_what_cannot_be_encoded as begin; begin()"
    twice = f"{begin}; {verbs}; sys.argv.append('--json'); {verbs}"
    program = [sys.executable, "-c", twice, "log", str(tmp_path / "caf\u00e9")]
    ended = subprocess.run(program, env={**os.environ, **ascii_only}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    table, document = ended.stdout.split("\n[\n")
    assert table.isascii()
    assert r"caf\xe9" in table
    assert "caf\u00e9" in str(json.loads(f"[{document}"))


def test_a_path_that_the_shell_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--out=~/x` reaches the program as it is written."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("tokens.yaml").write_text("web: 1_000_000\ncode: 1.5B\n")
    for number, out in enumerate(("~/swarm", "$HOME/swarm1", "swarm2")):
        told = sound(evermix("design", "tokens.yaml", "--runs", 4, "--out", out))
        assert told.code == 0, told.err
        folder = tmp_path / ("home" if number < 2 else "") / out.rpartition("/")[2]
        assert (folder / "ratios.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"home", "tokens.yaml", "swarm2"}
