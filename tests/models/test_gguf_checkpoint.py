"""Conversion of GGUF: weights against the quantised model itself, the tokenizer against llama.cpp's rule of cutting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM

from evermix.corpus.tokenizer import load_tokenizer
from evermix.errors import CheckpointError
from evermix.models.gguf_checkpoint import convert_gguf
from evermix.models.loading import load_model
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
        assert int(tokenizer.token_bytes[ids].sum()) == len(text.encode())
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
