"""A drafted recipe loads as it is, covers every key, and points at the files it was drafted from."""

import gzip
import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from evermix.draft import UNSURE, draft_recipe, find_sources, init
from evermix.errors import CorpusError, EvermixError, RecipeError
from evermix.recipe import Recipe
from evermix.recipe.yaml_faults import _model_in


def write_jsonl(path: Path, field: str = "text", n_documents: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"id": "a much longer identifier than text" * 3, field: f"words {k} " * 20})
        for k in range(n_documents)
    ]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def load(folder: Path, data: Path) -> Recipe:
    recipe = folder / "recipe.yaml"
    recipe.write_text(draft_recipe(data, base=folder), encoding="utf-8")
    return Recipe.load(recipe)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_jsonl(folder / "web" / "2024" / "part-1.jsonl.gz")
    write_jsonl(folder / "web" / "part-0.jsonl", n_documents=5000)
    write_jsonl(folder / "chat.jsonl", field="body")
    (folder / "Bücher [alt]: 1").mkdir()
    (folder / "Bücher [alt]: 1" / "one.txt").write_text("Ein Satz.\n\n" * 3000, encoding="utf-8")
    (folder / ".hidden.jsonl").write_text("{")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / "archive.tar.gz").write_bytes(b"\x1f\x8b")
    (folder / "empty.txt").touch()
    return folder


def test_domains_and_fields(tmp_path: Path, data: Path) -> None:
    recipe = load(tmp_path, data)
    domains = {domain.name: domain for domain in recipe.domains}
    assert set(domains) == {"web", "chat", "Bücher [alt]- 1"}
    assert domains["chat"].text_field == "body"
    assert domains["web"].text_field == "text"
    assert domains["Bücher [alt]- 1"].documents == "paragraph"


def test_patterns_find_the_files(tmp_path: Path, data: Path) -> None:
    from evermix.corpus.source import TextSource, source_files

    recipe = load(tmp_path, data)
    found = {
        domain.name: {path.name for path in source_files(TextSource(domain.name, domain.files or ()), recipe.base)}
        for domain in recipe.domains
    }
    assert found == {
        "web": {"part-0.jsonl", "part-1.jsonl.gz"},
        "chat": {"chat.jsonl"},
        "Bücher [alt]- 1": {"one.txt"},
    }


def test_every_key_of_a_recipe_is_named(data: Path) -> None:
    """A draft is of one pretraining by op-mix, and names what else there is."""
    text = draft_recipe(data)
    elsewhere = {"swarm", "tasks", "phases", "orders", "replay", "retention"}
    of_tables = {"base", "bits_per_byte_factor"}
    of_swarms = {"law", "guards", "compare", "resamples", "maximise", "drop", "unit", "aggregate"}

    def keys(model: type[BaseModel]) -> set[str]:
        found: set[str] = set()
        for key, field in model.model_fields.items():
            if (model is Recipe and key in elsewhere) or key in of_swarms:
                continue
            inner = _model_in(field.annotation)
            found |= {key} | (keys(inner) if inner else set())
        return found

    assert all(key in text for key in elsewhere | of_swarms)
    assert {key for key in keys(Recipe) - of_tables if f"{key}:" not in text and f"  {key}  " not in text} == set()


def test_commented_defaults_are_the_defaults(data: Path, tmp_path: Path) -> None:
    """With every comment of a simple key taken away the recipe says the same as before."""
    text = draft_recipe(data, base=tmp_path)
    simple = ("  # path:", "  # checkpoint:", "  # store:", "  # gradient_accumulation:", "  # schedule:", "  # warmup")
    simple += ("  # decay_fraction:", "  # weight_decay:", "  # clip_norm:", "  # evaluations:", "  # checkpoints:")
    simple += ("  # workers:", "  # heldout", "  # candidates:", "  # gradient_eval", "  # floors:", "  # caps:")
    simple += ("  # fixed:", "  # probes:", "  #   ")
    simple += (
        "  # by:",
        "  # groups:",
        "  # chat_template:",
        "  # precision:",
        "# method:",
        "# phases:",
        "# tasks:",
        "  # kl_weight:",
    )
    lines = [line.replace("# ", "", 1) if line.startswith(simple) else line for line in text.splitlines()]
    opened = tmp_path / "opened.yaml"
    opened.write_text("\n".join(lines), encoding="utf-8")
    assert Recipe.load(opened).model_dump() == load(tmp_path, data).model_dump()


def test_budget_suits_the_data(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "small" / "a.jsonl", n_documents=50)
    recipe = load(tmp_path, tmp_path / "small")
    available = sum(source.n_tokens for source in find_sources(tmp_path / "small", tmp_path))
    assert recipe.model.rung == "0.2M"
    assert recipe.training.tokens <= 2 * available
    big = tmp_path / "big" / "a.txt"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.truncate(1_000_000_000)  # sparse: 400M tokens by its size
    recipe = load(tmp_path, tmp_path / "big")
    assert (recipe.model.rung, recipe.training.tokens) == ("15M", 300_000_000)


def test_start_is_natural_when_uniform_would_repeat_a_tiny_domain(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d" / "tiny.jsonl", n_documents=20)
    write_jsonl(tmp_path / "d" / "large.jsonl", n_documents=20_000)
    assert load(tmp_path, tmp_path / "d").start == "natural"
    write_jsonl(tmp_path / "d" / "tiny.jsonl", n_documents=20_000)
    assert load(tmp_path, tmp_path / "d").start == "uniform"


def test_same_stem_twice_and_many_domains(tmp_path: Path) -> None:
    for j in range(120):
        write_jsonl(tmp_path / "d" / f"{j}.jsonl", n_documents=2)
    (tmp_path / "d" / "7.txt").write_text("text")
    (tmp_path / "d" / "null.md").write_text("text")
    recipe = load(tmp_path, tmp_path / "d")
    names = [domain.name for domain in recipe.domains]
    assert len(names) == 122
    assert {"7", "7-txt", "null"} <= set(names)
    assert recipe.constraints.floor * 122 < 0.5


def test_parquet_field(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "d").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "content": ["words"]}), tmp_path / "d" / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"strange": ["words"]}), tmp_path / "d" / "b.parquet")
    fields = {domain.name: domain.text_field for domain in load(tmp_path, tmp_path / "d").domains}
    assert fields == {"a": "content", "b": UNSURE}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a\.jsonl:1: must be valid JSON"),
        ("[1]", r"a\.jsonl:1: must be a JSON object"),
        ('{"n": 1}', r"must have a text field \(fields found: n\)"),
        ("\n\n", "at least one record"),
    ],
)
def test_bad_first_record(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=message):
        draft_recipe(tmp_path)


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must hold data files"):
        draft_recipe(tmp_path)
    with pytest.raises(RecipeError, match="which must exist"):
        draft_recipe(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(RecipeError, match="not a file"):
        draft_recipe(tmp_path / "a.txt")


def test_output_is_not_overwritten(tmp_path: Path, data: Path) -> None:
    output = init(data, tmp_path / "recipe.yaml")
    Recipe.load(output)
    output.write_text("mine")
    with pytest.raises(EvermixError, match="must not exist yet"):
        init(data, output)
    assert output.read_text() == "mine"
    init(data, output, overwrite=True)
    Recipe.load(output)
