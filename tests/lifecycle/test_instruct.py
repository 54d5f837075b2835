"""Phases of conversations: every trainer, tasks scored at the end of each, and what writing costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evermix.corpus.tokenizer import load_tokenizer
from evermix.errors import RecipeError, TaskError
from evermix.ledger import Ledger
from evermix.lifecycle import plan, run
from evermix.lifecycle import state as state_module
from evermix.recipe import Recipe
from evermix.reports.answer import RunView
from evermix.results import Compute, PhaseResult, RunResult
from evermix.training.segment import PROGRESS_FILE, TEACHER_FILE
from tests.lifecycle.killing import comparable, kill_when

Make = Callable[..., dict[str, Any]]
Finished = dict[str, tuple[dict[str, Any], RunResult]]
STEPS, BATCH = 6, 4


@pytest.fixture(scope="module")
def life(tiny_recipe: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Prose; then capitals asked for, whose answers are checked; then colours."""
    folder = tmp_path_factory.mktemp("talk")
    talks = {
        "capitals": [("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid")],
        "colours": [("sky", "blue"), ("grass", "green"), ("coal", "black")],
    }
    for name, pairs in talks.items():
        items = [{"prompt": f"{number} {asked}:", "answer": f" {a}"} for number in range(30) for asked, a in pairs]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, items)))
        (folder / f"{name}-asked.jsonl").write_text("\n".join(map(json.dumps, items[:5])))

    def make(project: Path, trainer: str = "plain", **changes: Any) -> dict[str, Any]:
        content = tiny_recipe(project)
        prose = content["domains"][1]
        asked = [{"name": n, "files": [str(folder / f"{n}.jsonl")], "format": "chat"} for n in talks]
        phases = [{"name": n["name"], "kind": "instruct", "add": [n], "examples": STEPS * BATCH} for n in asked]
        how = {
            "trainer": trainer,
            "training": {"learning_rate": 2e-3},
        }  # another rate: the optimiser is new
        content |= {
            "domains": [prose],
            "model": {"rung": "0.05M"},
            "training": {"tokens": 8 * BATCH * 32, "batch_sequences": BATCH, "evaluations": 1, "checkpoints": 2},
            "phases": [{"name": "base", "kind": "pretrain"}, *(phase | how for phase in phases)],
            "constraints": {"max_epochs": None, "floor": 0.01},
            "tasks": [
                {
                    "name": f"{name} exact",
                    "kind": "exact",
                    "file": str(folder / f"{name}-asked.jsonl"),
                    "max_new_tokens": 4,
                    "domain": name,
                }
                for name in talks
            ],
            "arms": ["uniform"],
        }
        content["tasks"].append({"name": "always", "file": str(folder / "colours-asked.jsonl")})
        return content | changes

    return make


def _run(content: dict[str, Any]) -> RunResult:
    return run(Recipe.model_validate(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, life: Make) -> Finished:
    """Recipe and result by trainer."""
    pytest.importorskip("trl")
    recipes = {t: life(tmp_path_factory.mktemp(t) / "project", t) for t in ("plain", "sft", "sdft")}
    return {trainer: (recipe, _run(recipe)) for trainer, recipe in recipes.items()}


def _rows(result: RunResult) -> tuple[PhaseResult, ...]:
    (rows,) = result.arms["uniform"].orders
    return rows


def _of(finished: Finished, trainer: str) -> tuple[PhaseResult, ...]:
    return _rows(finished[trainer][1])


@pytest.mark.parametrize("trainer", ["plain", "sft", "sdft"])
def test_tasks_are_scored_from_the_phase_of_their_domain_on(finished: Finished, trainer: str) -> None:
    rows = _of(finished, trainer)
    assert [set(row.tasks) for row in rows] == [
        {"always"},
        {"always", "capitals exact", "capitals exact:accuracy"},
        {"always", "capitals exact", "capitals exact:accuracy", "colours exact", "colours exact:accuracy"},
    ]
    assert rows[0].mean_accuracy is None
    values = [rows[2].tasks[f"{name} exact:accuracy"].value for name in ("capitals", "colours")]
    assert rows[2].mean_accuracy == pytest.approx(sum(values) / 2)
    accuracy = rows[1].tasks["capitals exact:accuracy"]
    assert accuracy.n_items == 5
    assert accuracy.unit == "fraction"
    view = RunView(finished[trainer][1])
    shown = next(quality for quality in view.qualities if quality.name == "accuracy")
    assert view.mean("uniform", shown).value == rows[2].mean_accuracy
    assert view.values("uniform", shown, 0) == []


def test_scoring_is_told_apart_and_is_in_no_total(finished: Finished) -> None:
    for row in _of(finished, "plain"):
        assert set(row.scoring_compute.by_part) == {"scoring"}
        assert row.scoring_compute.flops > 0
        assert "scoring" not in row.cumulative_compute.by_part


def test_sft_is_plain_by_another_trainer(life: Make, tmp_path: Path) -> None:
    """Both with a new optimiser in every phase: on a trunk plain would go on with that of the text, and sft not."""
    pytest.importorskip("trl")
    rows = dict[str, tuple[PhaseResult, ...]]()
    for trainer in ("plain", "sft"):
        recipe = life(tmp_path / trainer, trainer, tasks=[])
        rows[trainer] = _rows(_run(recipe | {"training": recipe["training"] | {"trunk": False}}))
    for plain, sft in zip(rows["plain"], rows["sft"], strict=True):
        assert sft.objective_value == pytest.approx(plain.objective_value, rel=1e-3)
        assert sft.compute.flops == plain.compute.flops
    assert [row.trainer for row in rows["sft"]] == ["plain", "sft", "sft"]
    assert rows["sft"][0].model_id == rows["plain"][0].model_id
    assert rows["sft"][1].model_id != rows["plain"][1].model_id


def test_what_sdft_writes_and_its_teacher_reads_is_counted(finished: Finished) -> None:
    (recipe, result), row = finished["sdft"], _of(finished, "sdft")[1]
    n = result.model.non_embedding + result.model.output_projection
    parts = row.compute.by_part
    assert set(parts) == {"training", "decay", "generation", "evaluation"}
    assert parts["generation"].flops == 2 * n * parts["generation"].n_tokens
    assert parts["evaluation"].flops == 2 * n * parts["evaluation"].n_tokens
    assert parts["training"].flops == 6 * n * parts["training"].n_tokens
    learnt = parts["training"].n_tokens + parts["decay"].n_tokens
    assert learnt > parts["generation"].n_tokens  # text is replayed, and not written
    assert parts["evaluation"].n_tokens > parts["generation"].n_tokens  # the teacher reads the answer too
    assert all(part.seconds > 0 for part in parts.values())
    assert "generation" not in _of(finished, "sdft")[0].compute.by_part
    entries = Ledger(Path(recipe["project"]) / "ledger.sqlite").entries("segment")
    branched, last = ["training", "training", "decay"], ["training", "decay"]
    assert [entry.payload["part"] for entry in entries] == ["prefix", "prefix", "decay", *branched, *last]
    spent = [(entry.payload["phase"], Compute.model_validate(entry.payload["compute"])) for entry in entries]
    assert ["generation" in compute.by_part for _, compute in spent] == [name != "base" for name, _ in spent]
    for phase in _of(finished, "sdft"):
        assert Compute.sum(compute for name, compute in spent if name == phase.phase) == phase.compute


@pytest.mark.parametrize("trainer", ["plain", "sft", "sdft"])
def test_conversations_go_on_with_the_optimiser_of_the_same_trainer(finished: Finished, trainer: str) -> None:
    """The teacher of sdft is carried on with it."""
    rows = _of(finished, trainer)
    assert [row.record["optimiser"] for row in rows] == ["new", "new", "carried on"]
    (trunk,) = (Path(finished[trainer][0]["project"]) / "runs" / str(rows[1].record["trunk"])).glob("checkpoint-*")
    kept = {path.name for path in trunk.iterdir()}
    assert {"optimizer.pt", "scheduler.pt"} <= kept
    assert (TEACHER_FILE in kept) == (trainer == "sdft")


@pytest.mark.parametrize("trainer", ["sft", "sdft"])
def test_a_second_run_trains_and_scores_nothing(finished: Finished, trainer: str) -> None:
    recipe, result = finished[trainer]
    before = {path: path.stat().st_mtime_ns for path in Path(recipe["project"]).glob("runs/*/done.json")}
    assert _run(recipe) == result
    assert {path: path.stat().st_mtime_ns for path in Path(recipe["project"]).glob("runs/*/done.json")} == before


@pytest.mark.parametrize("trainer", ["sft", "sdft"])
def test_killed_within_a_phase_it_goes_on_to_the_same(
    finished: Finished, life: Make, tmp_path: Path, trainer: str
) -> None:
    """kill -9 after the checkpoint in the middle of a phase: the same weights, scores and costs."""
    recipe, content = tmp_path / "recipe.yaml", life(tmp_path / "project", trainer)
    recipe.write_text(json.dumps(content))
    middle = f"*/checkpoint-{STEPS // 2}/{PROGRESS_FILE}"
    assert kill_when(recipe, lambda: bool(list((tmp_path / "project/runs").glob(middle))))
    assert not list((tmp_path / "project/runs").glob(f"*/checkpoint-{STEPS - 1}"))  # where the decay begins
    assert comparable(_rows(_run(content))) == comparable(_of(finished, trainer))


@pytest.mark.parametrize("trainer", ["plain", "sft", "sdft"])
def test_of_a_finished_phase_the_weights_are_kept(finished: Finished, trainer: str) -> None:
    """Optimiser and teacher are several times as large; nothing goes on with them."""
    for row in _of(finished, trainer):
        (kept,) = (Path(finished[trainer][0]["project"]) / "runs" / row.model_id).glob("checkpoint-*")
        names = {path.name for path in kept.iterdir()}
        assert "model.safetensors" in names
        assert not {"optimizer.pt", "scheduler.pt", TEACHER_FILE} & names


def test_a_task_added_later_is_scored_without_training(life: Make, tmp_path: Path) -> None:
    recipe = life(tmp_path / "project")
    tasks, recipe["tasks"] = recipe["tasks"], []
    result = _run(recipe)
    assert all(row.tasks == {} and row.mean_accuracy is None for row in _rows(result))
    trained = set((tmp_path / "project/runs").glob("*/checkpoint-*"))
    more = _run(recipe | {"tasks": tasks})
    assert _rows(more)[2].mean_accuracy is not None
    assert set((tmp_path / "project/runs").glob("*/checkpoint-*")) == trained


def test_a_checkpoint_is_scored_before_the_first_phase(finished: Finished, life: Make, tmp_path: Path) -> None:
    """What one run ended with is what a run from its checkpoint begins with."""
    project, rows = Path(finished["plain"][0]["project"]), _of(finished, "plain")
    recipe = life(tmp_path / "project")
    recipe["model"] = {"checkpoint": str(next((project / "runs" / rows[-1].model_id).glob("checkpoint-*")))}
    recipe["tokenizer"] = {"path": str(_tokenizer_of(finished["plain"][0]))}
    recipe["phases"] = recipe["phases"][1:]
    recipe["domains"] = []
    result = _run(recipe)
    assert result.before is not None
    assert result.before.mean_accuracy == rows[-1].mean_accuracy
    for name, metric in rows[-1].tasks.items():
        assert result.before.tasks[name].value == pytest.approx(metric.value, rel=1e-5)
    assert finished["plain"][1].before is None


def test_sdft_by_a_template(life: Make, tmp_path: Path) -> None:
    end = "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    asked = "{% if add_generation_prompt %}[assistant]{% endif %}"
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}" + end + "{% endfor %}" + asked
    (tmp_path / "chat.jinja").write_text(template)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    recipe = life(tmp_path / "project", "sdft", tasks=[])
    recipe["corpus"] = recipe["corpus"] | {"chat_template": str(tmp_path / "chat.jinja"), "sequence_length": 48}
    recipe["phases"] = recipe["phases"][1:2]
    recipe["domains"] = []
    (row,) = _rows(_run(recipe))
    parts = row.compute.by_part
    assert set(parts) == {"prefix", "decay", "generation", "evaluation"}
    learnt = parts["prefix"].n_tokens + parts["decay"].n_tokens
    assert learnt == parts["generation"].n_tokens  # conversations alone


def test_every_generation_is_planned_counted_and_stays(life: Make, tmp_path: Path) -> None:
    recipe = life(tmp_path / "project", "sdft", tasks=[], domains=[])
    recipe["phases"] = [recipe["phases"][1] | {"distillation": {"generations": 3, "skipped_tokens": 1}}]
    (row,) = _rows(_run(recipe))
    parts, n_prompts = row.compute.by_part, STEPS * BATCH
    learnt = parts["prefix"].n_tokens + parts["decay"].n_tokens
    (asked,) = {learnt, parts["generation"].n_tokens}  # conversations alone
    tokenizer = load_tokenizer(_tokenizer_of(recipe))
    files = Path(recipe["phases"][0]["add"][0]["files"][0]).read_text().splitlines()
    shortest = min(map(len, tokenizer.encode_batch([json.loads(line)["prompt"] for line in files])))
    assert asked >= 3 * n_prompts * (shortest + 1)  # each writes one token at least
    assert parts["evaluation"].n_tokens > asked
    changed = {**recipe["phases"][0], "distillation": {"generations": 2, "skipped_tokens": 1}}
    with pytest.raises(RecipeError, match=r"so distillation\.generations must stay 3"):
        _run(recipe | {"phases": [changed]})
    planned = {g: _planned(recipe, generations=g) for g in (1, 3)}
    assert planned[3] == 3 * planned[1] > 0


def _tokenizer_of(recipe: dict[str, Any]) -> Path:
    """The file of the tokenizer that a project has used; its store may hold those of others."""
    (corpus,) = Ledger(Path(recipe["project"]) / "ledger.sqlite").entries("corpus")
    files = Path(recipe["corpus"]["store"]).glob("tokenizer-*.json")
    return next(file for file in files if load_tokenizer(file).fingerprint == corpus.payload["tokenizer"])


def _planned(recipe: dict[str, Any], **distillation: int) -> float:
    phases = [recipe["phases"][0] | {"distillation": distillation}]
    (arm,) = plan(Recipe.model_validate(recipe | {"phases": phases})).arms.values()
    return sum(arm.tokens_by_part.values())


def test_a_task_of_an_unknown_domain_is_refused(life: Make, tmp_path: Path) -> None:
    recipe = life(tmp_path / "project")
    recipe["tasks"][0]["domain"] = "capitols"
    with pytest.raises(ValidationError, match=r"unknown domain 'capitols' \(known: prose, capitals, colours\)"):
        Recipe.model_validate(recipe)


def test_a_broken_task_ends_a_run_before_anything_is_trained(life: Make, tmp_path: Path) -> None:
    recipe = life(tmp_path / "project")
    recipe["tasks"][0]["file"] = str(tmp_path / "nowhere.jsonl")
    with pytest.raises(TaskError):
        _run(recipe)
    assert not list((tmp_path / "project/runs").glob("*"))


def test_sft_without_trl_is_refused_at_once(life: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"phase 'capitals': trainer sft must have TRL.*'\.\[trl\]'"):
        _run(life(tmp_path / "project", "sft"))
    assert not (tmp_path / "project").exists()
