"""The ladder's sizes, counted by hand, and loading of checkpoints."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from transformers import BloomConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig

from evermix.errors import CheckpointError, RecipeError
from evermix.models.ladder import LADDER, ModelSize, build_model
from evermix.models.loading import check_context, check_vocabulary, config_at_hand, load_model


@pytest.mark.parametrize(("name", "millions"), [("0.2M", 0.2), ("1M", 1.0), ("4M", 4.0)])
def test_size_is_what_the_name_says(name: str, millions: float) -> None:
    size = ModelSize.of(build_model(name, 512, 32, 0, seed=0))
    rung = LADDER[name]
    layer = 4 * rung.width**2 + 3 * rung.width * rung.feed_forward + 2 * rung.width
    assert size.non_embedding == rung.layers * layer + rung.width
    assert size.non_embedding == pytest.approx(millions * 1e6, rel=0.03)
    assert size.output_projection == 512 * rung.width
    assert size.training(10) == 60 * (size.non_embedding + size.output_projection)


def test_all_names_are_true() -> None:
    for name, rung in LADDER.items():
        count = rung.layers * (4 * rung.width**2 + 3 * rung.width * rung.feed_forward + 2 * rung.width)
        assert count == pytest.approx(float(name.removesuffix("M")) * 1e6, rel=0.03)


def test_seed_decides_the_weights_and_leaves_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = build_model("0.2M", 300, 32, 0, seed=1), build_model("0.2M", 300, 32, 0, seed=1)
    other = build_model("0.2M", 300, 32, 0, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_unknown_rung_and_bad_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"known: 0\.05M, 0\.2M"):
        build_model("2M", 300, 32, 0, seed=0)
    with pytest.raises(CheckpointError, match="nowhere"):
        load_model(tmp_path / "nowhere")
    model = build_model("0.2M", 300, 32, 0, seed=0)
    model.save_pretrained(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    (tmp_path / "saved" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="saved"):
        load_model(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="300 tokens, not 1024"):
        check_vocabulary(model, 1024, "saved")


@pytest.mark.parametrize(("rows", "vocab_size", "fits"), [(102_400, 100_015, True), (50_257, 300, False), (7, 7, True)])
def test_spare_rows_of_the_embedding(rows: int, vocab_size: int, fits: bool) -> None:
    config = GPT2Config(vocab_size=rows, n_embd=2, n_layer=1, n_head=1, n_positions=2)
    model = GPT2LMHeadModel(config)
    with nullcontext() if fits else pytest.raises(CheckpointError, match="must belong to the tokenizer"):
        check_vocabulary(model, vocab_size, "it")


def test_code_of_a_checkpoint_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a person at a terminal would say yes to transformers' question."""
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import PreTrainedConfig\n"
    (tmp_path / "own.py").write_text(f"{code}class Own(PreTrainedConfig):\n    model_type = 'own'\n")
    classes = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes}))
    for load in (load_model, lambda folder: config_at_hand(str(folder), Path())):
        with pytest.raises(CheckpointError, match="must not need code of its own"):
            load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_positions() -> None:
    """A table of positions ends; rotary positions and those of ALiBi go on."""
    check_context(GPT2Config(n_positions=32), 32, "it")
    with pytest.raises(CheckpointError, match=r"it: .* it has 16, not 32\. Hint: lower corpus.sequence_length"):
        check_context(GPT2Config(n_positions=16), 32, "it")
    check_context(LlamaConfig(max_position_embeddings=16), 32, "it")
    check_context(BloomConfig(), 10_000, "it")
