"""A drafted recipe loads as it is, covers every key, and points at the files it was drafted from."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
import zstandard
from pydantic import BaseModel

from evermix.corpus import TextSource
from evermix.corpus.source import iterate
from evermix.draft import draft_recipe, find_sources, init
from evermix.errors import EvermixError, RecipeError
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
    simple += ("  # fixed:", "  # probes:", "  # experiments:", "  #   ", "  # trunk:")
    simple += (
        "  # by:",
        "  # groups:",
        "  # chat_template:",
        "  # precision:",
        "# method:",
        "# phases:",
        "# tasks:",
        "# equal_compute:",
        "  # kl_weight:",
    )
    lines = [line.replace("# ", "", 1) if line.startswith(simple) else line for line in text.splitlines()]
    opened = tmp_path / "opened.yaml"
    opened.write_text("\n".join(lines), encoding="utf-8")
    assert Recipe.load(opened).model_dump() == load(tmp_path, data).model_dump()


def test_budget_suits_the_data(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "small" / "a.jsonl", n_documents=50)
    recipe = load(tmp_path, tmp_path / "small")
    available = sum(source.n_tokens for source in find_sources(tmp_path / "small", tmp_path)[0])
    assert recipe.model.rung == "0.2M"
    assert recipe.training.tokens <= 2 * available
    big = tmp_path / "big" / "a.txt"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.write(b"words\n" * 200_000)
        file.truncate(1_000_000_000)  # sparse: 400M tokens by its size
    recipe = load(tmp_path, tmp_path / "big")
    assert (recipe.model.rung, recipe.training.tokens) == ("15M", 300_000_000)


def test_start_is_natural_when_uniform_would_repeat_a_tiny_domain(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d" / "tiny.jsonl", n_documents=20)
    write_jsonl(tmp_path / "d" / "large.jsonl", n_documents=20_000)
    assert load(tmp_path, tmp_path / "d").start == "natural"
    write_jsonl(tmp_path / "d" / "tiny.jsonl", n_documents=20_000)
    assert load(tmp_path, tmp_path / "d").start == "auto"


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
    assert fields == {"a": "content", "b": "strange"}


def read(recipe: Recipe) -> dict[str, list[str]]:
    """Documents of every domain."""
    settings = ("text_field", "format", "documents")
    return {
        d.name: list(
            iterate(TextSource(d.name, d.files or (), **{key: getattr(d, key) for key in settings}), recipe.base)
        )
        for d in recipe.domains
    }


def found(folder: Path, base: Path) -> tuple[dict[str, tuple[str, str | None]], str]:
    """(format, text field) of each domain, and what is left out."""
    domains, left_out = find_sources(folder, base)
    return {domain.name: (domain.format, domain.text_field) for domain in domains}, "\n".join(left_out)


def records(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


TEXT = records({"id": "a-very-long-identifier-indeed", "title": "Of words and of how long they are", "text": "Words."})
CHAT = records({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})


def test_all_that_can_be_read_is_seen(tmp_path: Path) -> None:
    """Shards, every ending and compression, names that say nothing: each is in a domain, and reads as text."""
    names = (
        "a.jsonlines",
        "b.jl",
        "c.ndjson",
        "d.json",
        "part-00000",
        "e.jsonl-00000-of-00002",
        "e.jsonl-00001-of-00002",
    )
    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
    files = dict.fromkeys(names, TEXT)
    files |= {f"f{suffix[1:]}.jsonl{suffix}": pack(TEXT) for suffix, pack in packers.items()}
    files |= {f"deep/er/{name}": content for name, content in files.items()}
    for name, content in files.items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(content)
    recipe = load(tmp_path, tmp_path / "d")
    documents = read(recipe)
    assert sum(map(len, documents.values())) == len(files)
    assert {text for texts in documents.values() for text in texts} == {"Words."}
    assert len(documents["e"]) == 2
    assert find_sources(tmp_path / "d", tmp_path)[1] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TEXT, ("auto", "text")),
        (
            records({"id": "x" * 90, "url": "y" * 90, "title": "z" * 90, "paragraph": "Some words."}),
            ("auto", "paragraph"),
        ),
        (records({"text": "", "summary": "words"}, {"text": "", "summary": "words"}), ("auto", "summary")),
        (records({"text": "", "abstract": "longer words"}, {"text": "w" * 99, "abstract": "x"}), ("auto", "text")),
        (records({"sometimes": "w" * 99, "always": "word"}, {"always": "word"}), ("auto", "always")),
        (records({"id": 1, "doc": {"text": "words", "title": "t" * 99}}), ("auto", "doc.text")),
        (CHAT, ("chat", None)),
        (records({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}), ("chat", None)),
        (records({"instruction": "a", "input": "", "output": "b"}), ("chat", None)),
        (records({"prompt": "a", "completion": "b" * 99}), ("chat", None)),
        (records({"question": "a", "answer": "b", "text": "words"}), ("auto", "text")),
        (json.dumps([{"instruction": "a", "output": "b"}] * 2, indent=2).encode(), ("chat", None)),
    ],
)
def test_text_and_conversations_are_recognised(
    tmp_path: Path, content: bytes, expected: tuple[str, str | None]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_bytes(content)
    assert found(tmp_path / "d", tmp_path) == ({"a": expected}, "")
    assert all(read(load(tmp_path, tmp_path / "d")).values())


def test_what_lies_together_and_differs_becomes_several_domains(tmp_path: Path) -> None:
    for name, content in {
        "t.jsonl": TEXT * 9,
        "README.md": b"# Words",
        "c.jsonl": CHAT,
        "b.jsonl": TEXT.replace(b"text", b"body"),
    }.items():
        (tmp_path / "d" / "web").mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / "web" / name).write_bytes(content)
    domains, left_out = found(tmp_path / "d", tmp_path)
    assert domains == {"web": ("auto", "text"), "web-chat": ("chat", None), "web-body": ("auto", "body")}
    assert left_out == ""
    documents = read(load(tmp_path, tmp_path / "d"))
    assert {name: sorted(texts) for name, texts in documents.items()} == {
        "web": ["# Words"] + ["Words."] * 9,
        "web-chat": ["Hi\n\nHello"],
        "web-body": ["Words."],
    }


def test_source_code_is_split_file_by_file(tmp_path: Path) -> None:
    for k in range(3):
        for name in (f"src/deep/{k}.py", f"src/{k}.jl", f"notes/{k}.md"):
            (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / name).write_text(f"x = {k}\n\n\ny = [1]\n")
    documents = read(load(tmp_path, tmp_path / "d"))
    assert (len(documents["src"]), len(documents["notes"])) == (6, 6)
    assert set(documents["src"]) == {f"x = {k}\n\n\ny = [1]\n" for k in range(3)}


BAD = {
    "torn.jsonl": (b"{", "must be valid JSON"),
    "list.jsonl": (b"[1]", "must be a JSON object"),
    "number.jsonl": (b'{"n": 1}', "no field that looks like text (fields found: n)"),
    "titles.jsonl": (b'{"id": "x", "title": "y"}', "fields found: id, title"),
    "twice.jsonl": (b'{"text": "a", "text": "b"}', "key 'text' is given twice"),
    "blank.jsonl": (b"\n\n", "holds no text"),
    "empty.txt": (b"", "empty"),
    "parts.jsonl": (records({"messages": [{"role": "assistant", "content": [{"type": "text"}]}]}), "must be a string"),
    "cut.jsonl.gz": (gzip.compress(TEXT)[:-9], "must be whole"),
    "plain.jsonl.zst": (TEXT, "must be whole"),
    "latin.txt": ("caf\u00e9".encode("latin-1"), "must be UTF-8"),
    "wide.txt": ("words".encode("utf-16"), "UTF-16"),
    "zeros.txt": (bytes(100), "must be UTF-8 text, but byte 0 is not"),
    "a.zip": (b"PK\x03\x04...", "a zip archive"),
    "a.parquet": (b"PAR1...", "must be whole Parquet"),
    "image.png": (b"\x89PNG", "the ending .png is not known as text"),
    "table.csv": (b"a,b\n1,2\n", "the ending .csv is not known as text"),
    "LICENSE": (b"Words.", "names without an ending are not known as text"),
}


def test_bad_files_abort_nothing_and_are_named(tmp_path: Path) -> None:
    """Beside good ones, in the same folder and above: what is drafted reads."""
    for folder in (tmp_path / "d", tmp_path / "d" / "sub"):
        folder.mkdir()
        (folder / "good.jsonl").write_bytes(TEXT)
        (folder / "good.txt").write_bytes(b"Words.")
        (folder / "broken.txt").symlink_to("nowhere")
        for name, (content, _) in BAD.items():
            (folder / name).write_bytes(content)
    domains, left_out = found(tmp_path / "d", tmp_path)
    assert set(domains) == {"good", "good-txt", "sub"}
    for name, (_, reason) in BAD.items():
        lines = [line for line in left_out.splitlines() if reason in line and name in line]
        assert len(lines) == 2 or f"{name} and 1 more: " in lines[0]
    assert "broken.txt and 1 more: a link that leads nowhere" in left_out
    recipe = load(tmp_path, tmp_path / "d")
    assert read(recipe) == {"good": ["Words."], "good-txt": ["Words."], "sub": ["Words."] * 2}
    said: list[str] = []
    output = init(tmp_path / "d", tmp_path / "r.yaml", say=said.append)
    assert "\n".join(said) == left_out
    assert all(f"# left out: {line}" in output.read_text() for line in said)


HOSTILE = (
    "caf\udce9",
    "cafe\u0301",
    "caf\u00e9",
    "!bang",
    "~home",
    "[a-z]*?",
    "new\nline",
    "a: {b}",
    " # blank ",
    "$x",
    "\x1b[31m",
    "\U0001f642",
    "no",
)


def test_any_name_of_a_file_is_drafted_so_that_the_recipe_loads(tmp_path: Path) -> None:
    """Names that are not UTF-8 among them; as folders, as files, and as the folder itself."""
    base = tmp_path / "caf\udce9 [1]"
    for name in HOSTILE:
        (base / name).mkdir(parents=True)
        (base / name / f"{name}.txt").write_text(f"in {name!r}")
        (base / f"{name}.jsonl").write_bytes(records({"text": f"beside {name!r}"}))
    for recipe in (load(tmp_path, base), load(base, base)):
        (base / "recipe.yaml").unlink(missing_ok=True)
        assert all(domain.name.isprintable() for domain in recipe.domains)
        documents = sorted(text for texts in read(recipe).values() for text in texts)
        assert documents == sorted(f"{place} {name!r}" for name in HOSTILE for place in ("in", "beside"))


def test_links_to_folders_above_do_not_multiply_the_data(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d" / "web" / "a.jsonl")
    (tmp_path / "d" / "web" / "up").symlink_to("../..")
    (tmp_path / "d" / "again").symlink_to("web")
    (domain,), left_out = find_sources(tmp_path / "d", tmp_path)
    assert (domain.name, [file.name for file in domain.files]) == ("web", ["a.jsonl"])
    assert "the same file" in left_out[0]


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
