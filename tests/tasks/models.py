"""Models whose probabilities are known, and a tokenizer of single bytes or of words with their blank."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer, train_bpe

TEXTS = ["the capital of France is Paris and the capital of Italy is Rome. " * 20, "2 + 2 = 4 and 3 + 3 = 6\n" * 30]


def byte_tokenizer() -> TextTokenizer:
    """One token per byte; id 0 is the end token."""
    return train_bpe({"text": TEXTS}, 257)


def word_tokenizer() -> TextTokenizer:
    """Byte-pair merges up to whole words such as " Paris"."""
    return train_bpe({"text": TEXTS}, 320)


def llama(vocab_size: int, context: int = 64, seed: int = 0) -> PreTrainedModel:
    """A small random Llama whose logits are far from uniform."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def gpt2(vocab_size: int, context: int = 64) -> PreTrainedModel:
    """A small random model with learned positions, whose configuration names a beginning beyond its vocabulary."""
    config = GPT2Config(
        vocab_size=vocab_size,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=context,
        initializer_range=0.3,
        bos_token_id=50256,
        eos_token_id=50256,
        use_cache=False,
    )
    torch.manual_seed(1)
    return GPT2LMHeadModel(config).eval()


def unigram(logits: torch.Tensor, context: int = 64) -> PreTrainedModel:
    """A model that gives every next token the probabilities softmax(logits), whatever came before: logits (vocab,)."""
    model = llama(len(logits), context)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.zeros_like(model.get_input_embeddings().weight))
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.get_input_embeddings().weight[:, 0] = (
            1e3  # every position is the same; large, so that the norm's epsilon does not count
        )
        model.model.norm.weight.fill_(0.0)
        model.model.norm.weight[0] = 32**-0.5  # the norm scales (1, 0, ...) up by sqrt(32)
        head = torch.zeros(len(logits), 32)
        head[:, 0] = logits
        model.get_output_embeddings().weight.copy_(head)
    return model


class ChatMarks:
    """A chat template with two special tokens, in the manner of ChatML."""

    START, END = "<|start|>", "<|end|>"

    def render(self, messages: list[dict[str, str]]) -> str:
        """Every message between its marks, its blanks trimmed, then the beginning of an answer."""
        turns = (f"{self.START}{m['role']}\n{m['content'].strip()}{self.END}\n" for m in messages)
        return "".join(turns) + f"{self.START}assistant\n"

    def tokenizer(self) -> TextTokenizer:
        """The byte tokenizer with the two marks as special tokens 257 and 258."""
        backend = byte_tokenizer().backend
        backend.add_special_tokens([self.START, self.END])
        return TextTokenizer(backend)


def memorised(rows: list[tuple[list[int], list[int]]], vocab_size: int, steps: int = 150) -> PreTrainedModel:
    """A small Llama trained on rows of (ids read, ids learnt) until greedy decoding writes what was learnt."""
    model = llama(vocab_size)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data.mul_(0.2)
    longest = max(len(read) + len(learnt) for read, learnt in rows)
    ids, labels = torch.zeros(len(rows), longest, dtype=torch.long), torch.full((len(rows), longest), -100)
    for row, (read, learnt) in enumerate(rows):
        end = len(read) + len(learnt)
        ids[row, :end] = torch.tensor(read + learnt)
        labels[row, len(read) : end] = torch.tensor(learnt)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = model.train()(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    return model.eval()
