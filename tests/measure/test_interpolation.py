"""Interpolation against really merged models, PEFT's exact combination, and finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    MambaConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
)

from evermix.domains import DomainSet
from evermix.errors import CheckpointError
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.measure.probes import check_probing
from evermix.models.ladder import build_model
from evermix.training.evaluation import HeldoutText, evaluate

W = np.array([0.7, -0.2, 0.4])  # off the simplex


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters with large random B matrices, saved by PEFT."""
    made = []
    for seed in range(3):
        model = get_peft_model(_base(), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
        folder = tmp_path_factory.mktemp("adapters") / str(seed)
        model.save_pretrained(str(folder))
        made.append(folder)
    return made


def _base() -> torch.nn.Module:
    return build_model("0.2M", 300, 16, 0, seed=3)


def _heldout() -> HeldoutText:
    generator = torch.Generator().manual_seed(5)
    sequences = tuple(torch.randint(0, 300, (n, 16), generator=generator) for n in (6, 4))
    return HeldoutText(DomainSet(["a", "b"]), sequences, np.array([100.0, 60.0]))


def test_logits_equal_a_really_merged_model(folders: list[Path]) -> None:
    """Each adapter merged by PEFT itself; the candidate's weights are base + sum w_i (merged_i - base)."""
    base = _base()
    target = _base()
    with torch.no_grad():
        for w, folder in zip(W, folders, strict=True):
            merged = PeftModel.from_pretrained(_base(), str(folder)).merge_and_unload()
            for name, parameter in target.named_parameters():
                parameter += w * (merged.get_parameter(name) - base.get_parameter(name))
    interpolation = Interpolation(_base(), [Adapter.load(folder) for folder in folders])
    ids = _heldout().sequences[0]
    with torch.no_grad():
        expected = target.eval()(input_ids=ids).logits
    assert torch.allclose(interpolation.logits(W, ids), expected, atol=1e-4)
    assert not torch.allclose(interpolation.logits(np.zeros(3), ids), expected, atol=1e-2)


def test_scores_equal_those_of_peft_s_concatenation(folders: list[Path]) -> None:
    model = PeftModel.from_pretrained(_base(), str(folders[0]), adapter_name="0")
    for k in (1, 2):
        model.load_adapter(str(folders[k]), adapter_name=str(k))
    positive = [0.5, 0.2, 0.3]
    model.add_weighted_adapter(["0", "1", "2"], positive, "mix", combination_type="cat")
    model.set_adapter("mix")
    scores = evaluate(model, _heldout())
    interpolation = Interpolation(_base(), [Adapter.load(folder) for folder in folders])
    assert interpolation.evaluate(positive, _heldout()).loss_nats == pytest.approx(scores.loss_nats, abs=1e-5)


def test_gradient_equals_finite_differences(folders: list[Path]) -> None:
    """The model normalises in float32 whatever its weights are, so differences of 2e-3 are exact to about 1e-3."""
    interpolation = Interpolation(_base(), [Adapter.load(folder) for folder in folders])
    heldout = _heldout()
    scores, gradient = interpolation.evaluate_with_gradient(W, heldout)
    assert scores.loss_nats == pytest.approx(interpolation.evaluate(W, heldout).loss_nats, abs=1e-5)
    for i in range(3):
        step = 1e-3 * np.eye(3)[i]
        up, down = (interpolation.evaluate(W + s * step, heldout).loss_nats for s in (1, -1))
        assert gradient[:, i] == pytest.approx((up - down) / 2e-3, rel=2e-3, abs=2e-3)


def test_the_base_is_left_as_it_was(folders: list[Path]) -> None:
    base, untouched = _base(), _base()
    interpolation = Interpolation(base, [Adapter.load(folder) for folder in folders])
    interpolation.evaluate_with_gradient(W, _heldout())
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), untouched.parameters(), strict=True))


def test_bad_adapters(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Adapter.load(tmp_path / "nowhere")
    adapters = [Adapter.load(folder) for folder in folders]
    with pytest.raises(CheckpointError, match="one entry per component"):
        Interpolation(_base(), adapters).evaluate([1.0], _heldout())
    with pytest.raises(CheckpointError, match="same weight matrices"):
        Interpolation(_base(), [adapters[0], Adapter(2.0, {}, {})])


def test_a_candidate_in_place_is_that_candidate_and_is_taken_back(folders: list[Path]) -> None:
    interpolation = Interpolation(_base(), [Adapter.load(folder) for folder in folders])
    ids, before = _heldout().sequences[0], {n: p.clone() for n, p in interpolation.model.named_parameters()}
    expected = interpolation.logits(W, ids)
    with interpolation.merged(W) as model, torch.no_grad():
        assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-6)
    assert all(torch.equal(p, before[name]) for name, p in interpolation.model.named_parameters())

    def stopped() -> None:
        with interpolation.merged(W):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert all(torch.equal(p, before[name]) for name, p in interpolation.model.named_parameters())


MIDDLE = [0.8, -0.3]


def _interpolation(rank: int) -> Interpolation:
    """Two random adapters, whose rank is filled up with rows of zeros."""
    model = build_model("0.2M", 300, 16, 0, seed=3)
    names = [n for n, p in model.named_parameters() if "_proj" in n and p.ndim == 2]
    generator = torch.Generator().manual_seed(1)
    adapters = []
    for _ in range(2):
        down, up = {}, {}
        for name in names:
            out, inside = model.get_parameter(name).shape
            down[name], up[name] = torch.zeros(rank, inside), torch.zeros(out, rank)
            down[name][:4] = 0.1 * torch.randn(4, inside, generator=generator)
            up[name][:, :4] = 0.1 * torch.randn(out, 4, generator=generator)
        adapters.append(Adapter(2.0, down, up))
    return Interpolation(model, adapters)


def _two_domains(batch_sizes: tuple[int, ...]) -> HeldoutText:
    generator = torch.Generator().manual_seed(5)
    sequences = tuple(torch.randint(0, 300, (n, 16), generator=generator) for n in batch_sizes)
    return HeldoutText(DomainSet([f"d{n}" for n in batch_sizes]), sequences, np.full(len(batch_sizes), 100.0))


def test_both_formulas_agree() -> None:
    """Rank 2 x 4 is below the width 64 / 2, rank 2 x 40 above it; 130 sequences are more than one batch."""
    heldout = _two_domains((130, 3))
    scores, low = _interpolation(4).evaluate_with_gradient(MIDDLE, heldout)
    same, high = _interpolation(40).evaluate_with_gradient(MIDDLE, heldout)
    assert np.abs(low).max() > 1e-3
    assert high == pytest.approx(low, rel=1e-3, abs=1e-6)
    assert same.loss_nats == pytest.approx(scores.loss_nats, abs=1e-6)


def test_nothing_stays_on_the_model() -> None:
    interpolation = _interpolation(4)
    before = interpolation.evaluate(MIDDLE, _two_domains((4,))).loss_nats
    first = interpolation.evaluate_with_gradient(MIDDLE, _two_domains((4,)))[1]
    assert interpolation.evaluate_with_gradient(MIDDLE, _two_domains((4,)))[1] == pytest.approx(first, abs=0)
    assert interpolation.evaluate(MIDDLE, _two_domains((4,))).loss_nats == pytest.approx(before, abs=0)
    assert not any(module._forward_hooks for module in interpolation.model.modules())


def test_conversations_are_scored_and_differentiated_over_their_answers() -> None:
    """Against scores of the same sequences cut to size by hand, and central differences."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 300, (150, 16), generator=generator)
    roles = torch.zeros_like(ids, dtype=torch.uint8)
    for k in range(len(ids)):
        end = 5 + k % 9
        roles[k, :3], roles[k, 3:end] = 1, 2
    heldout = HeldoutText(DomainSet(["talk"]), (ids,), np.array([500.0]), (roles,))
    interpolation = _interpolation(4)
    scores, gradient = interpolation.evaluate_with_gradient(MIDDLE, heldout)
    assert scores.loss_nats == pytest.approx(interpolation.evaluate(MIDDLE, heldout).loss_nats, abs=1e-6)
    losses = []
    for row, kinds in zip(ids, roles, strict=True):
        logs = interpolation.logits(MIDDLE, row[None, : int((kinds > 0).sum())])[0].log_softmax(dim=-1)
        losses += [-float(logs[t - 1, row[t]]) for t in range(1, len(logs)) if kinds[t] == 2]
    assert scores.loss_nats[0] == pytest.approx(np.mean(losses), rel=1e-5)
    for i in range(len(MIDDLE)):
        step = 5e-3 * np.eye(len(MIDDLE))[i]
        above, below = (interpolation.evaluate(MIDDLE + sign * step, heldout).loss_nats[0] for sign in (1, -1))
        assert gradient[0, i] == pytest.approx((above - below) / 1e-2, rel=0.03, abs=2e-4)


# architectures whose layers are of other kinds than the ladder's

SMALL = {"vocab_size": 96, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA_LIKE = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 32}
KINDS: dict[str, PreTrainedConfig] = {
    "Conv1D and a tied head": GPT2Config(vocab_size=96, n_positions=32, n_embd=16, n_layer=2, n_head=2),
    "fused qkv, gate and up": Phi3Config(**LLAMA_LIKE, pad_token_id=0),
    "scaled tied embedding": GemmaConfig(**LLAMA_LIKE, head_dim=8),
    "frozen experts": Qwen2MoeConfig(
        **LLAMA_LIKE, moe_intermediate_size=16, shared_expert_intermediate_size=16, num_experts=4, num_experts_per_tok=2
    ),
}


def _of(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_layers_of_every_kind_against_models_merged_by_peft(kind: str, tmp_path: Path) -> None:
    config, generator = KINDS[kind], torch.Generator().manual_seed(1)
    check_probing(_of(config), kind, interpolated=True)
    target, base = _of(config), _of(config)
    for seed, w in enumerate(W):
        model = get_peft_model(
            _of(config), LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(str(tmp_path / str(seed)))
        with torch.no_grad():
            for name, parameter in model.merge_and_unload().named_parameters():
                target.get_parameter(name).add_(w * (parameter - base.get_parameter(name)))
    interpolation = Interpolation(base, [Adapter.load(tmp_path / str(seed)) for seed in range(len(W))])
    ids = torch.arange(12)[None] * 7 % 96
    with torch.no_grad():
        expected = target(input_ids=ids).logits
        with interpolation.merged(W) as model:
            assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-4)
    assert torch.allclose(interpolation.logits(W, ids), expected, atol=1e-4)
    heldout = HeldoutText(DomainSet(["a"]), (ids.repeat(3, 1),), np.array([30.0]))
    _, gradient = interpolation.evaluate_with_gradient(W, heldout)
    for i in range(len(W)):
        step = 5e-3 * np.eye(len(W))[i]
        above, below = (interpolation.evaluate(W + sign * step, heldout).loss_nats[0] for sign in (1, -1))
        assert gradient[0, i] == pytest.approx((above - below) / 1e-2, rel=0.03, abs=2e-4)


def test_a_conv1d_layer_without_its_gradient_matrix() -> None:
    """Formula (2) against formula (1), whatever the rank says is cheaper."""
    model = _of(KINDS["Conv1D and a tied head"])
    generator = torch.Generator().manual_seed(1)
    down, up = {}, {}
    for name, parameter in model.named_parameters():
        if name.endswith(("c_attn.weight", "c_fc.weight")):
            inside, out = parameter.shape
            down[name], up[name] = (0.1 * torch.randn(shape, generator=generator) for shape in ((1, inside), (out, 1)))
    interpolation = Interpolation(model, [Adapter(1.0, down, up)])
    assert interpolation._tappable == sorted(down)
    heldout = HeldoutText(DomainSet(["a"]), (torch.arange(12)[None] * 7 % 96,), np.array([30.0]))
    tapped = interpolation.evaluate_with_gradient([0.7], heldout)[1]
    interpolation._tappable, interpolation._formed = [], sorted(down)
    assert interpolation.evaluate_with_gradient([0.7], heldout)[1] == pytest.approx(tapped, rel=1e-4)


def test_what_cannot_be_interpolated_or_probed_is_refused_beforehand() -> None:
    experts = MixtralConfig(**LLAMA_LIKE, num_local_experts=4)
    with pytest.raises(
        CheckpointError, match=r"it: .*experts.* must be of a linear layer .* Hint: take mode probe-law"
    ):
        check_probing(_of(experts), "it", interpolated=True)
    check_probing(_of(experts), "it", interpolated=False)
    states = MambaConfig(vocab_size=96, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(CheckpointError, match=r"it: a checkpoint to be probed must take LoRA adapters .*out_proj"):
        check_probing(_of(states), "it", interpolated=False)
    shared = _of(KINDS["fused qkv, gate and up"])
    first, second = (layer.mlp.down_proj for layer in shared.model.layers)
    second.weight = first.weight
    with pytest.raises(CheckpointError, match=r"it: .*down_proj.weight: .* must have weights of its own"):
        check_probing(shared, "it", interpolated=True)
