"""Borders, contexts and batches: every answer token is scored exactly once, after the text before it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BloomConfig, BloomForCausalLM

from evermix.corpus.tokenizer import TextTokenizer
from evermix.models.loading import context_length
from evermix.tasks import likelihood
from evermix.tasks.likelihood import (
    Continuation,
    beginning_id,
    cut_to_context,
    encoded_windows,
    log_likelihoods,
    score_windows,
)
from tests.tasks.models import byte_tokenizer, gpt2, llama, word_tokenizer

_PAIRS = [
    ("the capital of", " France"),
    ("the cap", "ital"),
    ("2 + 2 = ", "4"),
    ("Rom", "e."),
    ("", "é"),
    (" \n", "is"),
]


@pytest.mark.parametrize(("prompt", "answer"), _PAIRS)
def test_the_scored_tokens_are_the_answer_s_bytes(prompt: str, answer: str) -> None:
    for tokenizer in (byte_tokenizer(), word_tokenizer()):
        asked = Continuation(prompt, answer, "here")
        (window,) = encoded_windows(tokenizer, [asked], tokenizer.end_id, None)
        cut = len(window.ids) - window.n_scored
        assert tokenizer.spelled_bytes[list(window.ids[cut:])].sum() == asked.n_bytes
        assert tokenizer.decode(window.ids[1:cut]) == prompt.rstrip()
        assert tokenizer.decode(window.ids[cut:]).strip() == answer.strip()
        assert window.ids[0] == tokenizer.end_id


def test_blanks_at_the_end_of_a_prompt_do_not_matter_for_where_the_border_is() -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size)
    asked = [Continuation("2 + 2 =", " 4", "a"), Continuation("2 + 2 = ", "4", "b")]
    found = log_likelihoods(model, tokenizer, asked)
    assert found.nats[0] == found.nats[1]
    assert asked[0].n_bytes == asked[1].n_bytes == 2


@given(st.integers(1, 30), st.integers(1, 60), st.one_of(st.none(), st.integers(1, 20)))
def test_windows_score_each_answer_token_once(n_before: int, n_answer: int, context: int | None) -> None:
    before = tuple(range(n_before))
    answer = tuple(range(100, 100 + n_answer))
    windows = list(cut_to_context(0, before, answer, context))
    scored = [token for window in windows for token in window.ids[len(window.ids) - window.n_scored :]]
    assert scored == list(answer)
    for window in windows:
        assert 1 <= window.n_scored < len(window.ids)
        if context is None:
            continue
        assert len(window.ids) <= context + 1
        if n_before + n_answer > context + 1:  # at least half a context before what is scored, or the whole text
            starts_text = window.ids[0] == 0
            assert starts_text or len(window.ids) == context + 1
            assert window.n_scored <= max(1, context // 2)


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_slides() -> None:
    tokenizer = byte_tokenizer()
    model = gpt2(257, context=16)  # learned positions: a longer input would fail
    text = "the capital of France is Paris and of Italy it is Rome"
    ids = [tokenizer.end_id, *tokenizer.encode_batch([text])[0]]
    cut = text.index(" Paris")
    found = log_likelihoods(model, tokenizer, [Continuation(text[:cut], text[cut:], "here")])
    by_hand = 0.0
    for start in range(cut + 1, len(ids), 8):
        end = min(start + 8, len(ids))
        seen = torch.tensor([ids[end - 17 : end - 1]])
        with torch.no_grad():
            logs = model(input_ids=seen).logits[0].log_softmax(dim=-1)
        by_hand += sum(float(logs[position - end, ids[position]]) for position in range(start, end))
    assert found.nats[0] == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_batches_change_nothing(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = word_tokenizer()
    model = make(tokenizer.vocab_size)  # type: ignore[operator]
    rng = np.random.default_rng(0)
    words = ["the", " capital", " of", " Paris", "4", "\n", " é"]
    texts = ["".join(rng.choice(words, size=rng.integers(1, 12))) for _ in range(60)]
    asked = [Continuation(a, b + "x", "here") for a, b in zip(texts[:30], texts[30:], strict=True)]
    together = log_likelihoods(model, tokenizer, asked)
    monkeypatch.setitem(likelihood.BATCH_TOKENS, "cpu", 1)
    alone = log_likelihoods(model, tokenizer, asked)
    assert together.nats == pytest.approx(alone.nats, rel=1e-5)
    assert (together.is_greedy == alone.is_greedy).all()


def test_greedy_is_what_greedy_decoding_writes() -> None:
    tokenizer = byte_tokenizer()
    model = llama(257)
    ids = [tokenizer.end_id, *tokenizer.encode_batch(["the capital"])[0]]
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    windows = list(cut_to_context(0, tuple(ids[:-3]), tuple(ids[-3:]), None))
    other = list(cut_to_context(1, tuple(ids[:-3]), (ids[-3], (ids[-2] + 1) % 257, ids[-1]), None))
    assert score_windows(model, windows + other, 2).is_greedy.tolist() == [True, False]


def test_what_the_model_s_configuration_says() -> None:
    tokenizer = byte_tokenizer()
    assert context_length(llama(257, context=48).config) == 48
    assert context_length(gpt2(257, context=32).config) == 32
    assert beginning_id(gpt2(257), tokenizer) == tokenizer.end_id  # its own would be beyond the vocabulary
    model = llama(257)
    model.config.bos_token_id = 5
    assert beginning_id(model, tokenizer) == 5
    unlimited = BloomForCausalLM(BloomConfig(vocab_size=257, hidden_size=32, n_layer=1, n_head=2))
    assert context_length(unlimited.config) is None
    assert log_likelihoods(unlimited, tokenizer, [Continuation("", "a" * 200, "here")]).nats[0] < 0


def test_words_with_a_blank_sign_before_them() -> None:
    """A SentencePiece-like tokenizer puts "▁" before a text; encoded as a whole, the answer gets none of its own."""
    words = ["</s>", "▁", "▁the", "▁capital", "▁of", "▁France", "a", "F", "r", "n", "c", "e"]
    backend = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=1))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    tokenizer = TextTokenizer(backend)
    whole, border = Continuation("the capital of", " France", "here"), Continuation("the capital of ", "France", "here")
    one, other = encoded_windows(tokenizer, [whole, border], 0, None)
    assert one.ids[-one.n_scored :] == other.ids[-other.n_scored :] == (words.index("▁France"),)


def test_half_precision_is_near() -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size)
    asked = [Continuation("the capital of", " France", "here")]
    expected = log_likelihoods(model, tokenizer, asked).nats[0]
    assert log_likelihoods(model.bfloat16(), tokenizer, asked).nats[0] == pytest.approx(expected, rel=0.05)


def test_models_without_logits_to_keep_are_read_whole() -> None:
    tokenizer = byte_tokenizer()
    model = llama(257)
    asked = [Continuation("the capital", " of", "here"), Continuation("2", " + 2", "here")]
    expected = log_likelihoods(model, tokenizer, asked).nats
    forward = model.forward
    model.forward = lambda input_ids: forward(input_ids=input_ids)
    found = log_likelihoods(model, tokenizer, asked).nats
    assert found == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(found[0])
