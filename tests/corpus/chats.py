"""Templates, a tokenizer and conversations for the tests of chat domains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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

# Templates in the manner of well-known ones; what stands between « and » is to be learnt.
STYLES = {
    # tools in the system message, calls between tags, reasoning only after the last question
    "chatml": (
        "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
        "{% if tools %}<|im_start|>system\nTools:{% for t in tools %} {{ t | tojson }}{% endfor %}<|im_end|>\n"
        "{% endif %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n«"
        "{% if loop.index0 > ns.last %}<think>\n{{ m.reasoning_content | default('', true) }}\n</think>\n\n{% endif %}"
        "{{ m.content or '' }}{% for call in m.tool_calls or [] %}{% set f = call.function or call %}"
        '\n<tool_call>\n{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}\n</tool_call>{% endfor %}'
        "<|im_end|>»{{ '\n' }}{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    # a call ends with another token than a text, contents are trimmed
    "headers": (
        "{{ bos_token }}{% for m in messages %}<|start_header|>{{ m.role }}<|end_header|>\n\n{% if m.tool_calls %}"
        "«<|python_tag|>{% for call in m.tool_calls %}{{ call.function | tojson }}{% endfor %}<|eom_id|>»"
        "{% elif m.role == 'assistant' %}«{{ m.content | trim }}<|eot_id|>»"
        "{% else %}{% if loop.first and tools %}{{ tools | tojson }}\n{% endif %}{{ m.content | trim }}<|eot_id|>"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start_header|>assistant<|end_header|>\n\n{% endif %}"
    ),
    # strict order, tools before the first question, ids of nine letters, nothing to ask by
    "brackets": (
        "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}"
        "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
        "{% if (m.role == 'user') != (ns.n % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}"
        "{% for m in messages %}{% if m.role == 'user' %}"
        "{% if tools and loop.first %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
        "[INST] {{ m.content }}[/INST]{% elif m.tool_calls %}«[TOOL_CALLS] [{% for call in m.tool_calls %}"
        "{% if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}"
        "{{ call | tojson }}{% endfor %}]</s>»{% elif m.role == 'assistant' %}« {{ m.content }}</s>»"
        "{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
        "{% else %}{{ raise_exception('no ' + m.role) }}{% endif %}{% endfor %}"
    ),
    # all reasoning is dropped but asked for, no turn of the assistant after a tool, the system message comes first
    "bars": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}{% endfor %}"
        "{% for m in messages %}{% set before = messages[loop.index0 - 1].role if loop.index0 else '' %}"
        "{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% elif m.role == 'tool' %}<｜out｜>{{ m.content }}<｜/out｜>"
        "{% elif m.role == 'assistant' %}{% if before != 'tool' %}<｜Assistant｜>{% endif %}«"
        "{{ (m.content or '').split('</think>')[-1] }}{% for call in m.tool_calls or [] %}"
        "<｜call｜>{{ call.function.name }}\n{{ call.function.arguments | tojson }}<｜/call｜>{% endfor %}"
        "<｜end▁of▁sentence｜>»{% endif %}{% endfor %}"
        "{% if add_generation_prompt and messages[-1].role != 'tool' %}<｜Assistant｜><think>\n{% endif %}"
    ),
    # another name for the assistant, no system messages
    "turns": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{% if m.role == 'assistant' %}«"
        "{{ m.content or '' }}{% for call in m.tool_calls or [] %}```{{ call.function | tojson }}```{% endfor %}"
        "<end_of_turn>»{% else %}{{ m.content }}<end_of_turn>{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
}
MARKED = {
    name: source.replace("«", "{% generation %}").replace("»", "{% endgeneration %}") for name, source in STYLES.items()
}
UNMARKED = {name: source.replace("«", "").replace("»", "") for name, source in STYLES.items()}
SPECIAL = (
    *("<s>", "</s>", "<|start_header|>", "<|end_header|>", "<|python_tag|>", "<|eom_id|>", "<|eot_id|>", "[INST]"),
    *("[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜call｜>", "<｜/call｜>", "<｜out｜>", "<｜/out｜>"),
    *("<start_of_turn>", "<end_of_turn>"),
)


def chat_tokenizer(
    texts: Iterable[str] = ("what is two plus two? it is four, I think. " * 30,), more: Sequence[str] = ()
) -> TextTokenizer:
    """A byte-level BPE whose special tokens are the end token (id 0), START, STOP and `more`."""
    backend = Tokenizer.from_str(train_bpe({"a": texts}, 300).backend.to_str())
    backend.add_special_tokens([START, STOP, *more])
    return TextTokenizer(backend)


def pairs(n: int, seed: int = 0) -> list[dict[str, str]]:
    """Sums: {"prompt", "answer"}, all different."""
    return [{"prompt": f"{seed + k} + {k} =", "answer": f" {seed + 2 * k}" + " yes" * (k % 3)} for k in range(n)]


def write_jsonl(path: Path, records: Iterable[object]) -> Path:
    """One JSON value per line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path
