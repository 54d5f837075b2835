"""Templates, a tokenizer and conversations for the tests of chat domains."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from evermix.corpus import TextTokenizer, train_bpe

START, STOP = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | trim }} {{ eos_token }}"
    "{% else %}[{{ m.role }}] {{ m.content | trim }} [/]{% endif %}{% endfor %}"
)


def chat_tokenizer(texts: Iterable[str] = ("what is two plus two? it is four, I think. " * 30,)) -> TextTokenizer:
    """A byte-level BPE whose special tokens are the end token (id 0), START and STOP."""
    backend = Tokenizer.from_str(train_bpe({"a": texts}, 300).backend.to_str())
    backend.add_special_tokens([START, STOP])
    return TextTokenizer(backend)


def pairs(n: int, seed: int = 0) -> list[dict[str, str]]:
    """Sums: {"prompt", "answer"}, all different."""
    return [{"prompt": f"{seed + k} + {k} =", "answer": f" {seed + 2 * k}" + " yes" * (k % 3)} for k in range(n)]


def write_jsonl(path: Path, records: Iterable[object]) -> Path:
    """One JSON value per line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path
