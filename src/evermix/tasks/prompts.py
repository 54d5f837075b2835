"""Rendered prompts: a chat template around a question, as text and as token ids.

A template writes special tokens such as `<|im_start|>`; a question that holds the same characters must not. So special
tokens in the question are exchanged for marks before it is rendered. The rendered text is then cut at the special
tokens that the template wrote, the marks become characters again, and each stretch between is encoded as plain text.
Where a question holds no such characters, these are the ids that the tokenizer gives the rendered text as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from evermix.corpus.tokenizer import TextTokenizer
from evermix.tasks.base import Render, task_fingerprint

_MARKS = range(0xF0000, 0xFFFFE)  # a private-use plane of Unicode: characters without meaning


def rendered_text(render: Render, prompt: str) -> str:
    """The prompt as the only message of a user."""
    return render([{"role": "user", "content": prompt}])


def prompts_fingerprint(kind: str, render: Render | None, items: Sequence[Sequence[object]], *more: object) -> str:
    """The fingerprint of items whose first entry is the prompt, as the template renders it, and of what else counts."""
    if render is not None:
        kind = f"{kind}, rendered"
        items = [[rendered_text(render, str(item[0])), *item[1:]] for item in items]
    return task_fingerprint(kind, [items, *more] if more else items)


class PromptEncoder:
    """Token ids of rendered prompts under one tokenizer and template."""

    def __init__(self, tokenizer: TextTokenizer, render: Render) -> None:
        self.tokenizer, self.render = tokenizer, render
        added = tokenizer.backend.get_added_tokens_decoder()
        self._special: dict[str, tuple[int, Any]] = {t.content: (i, t) for i, t in added.items() if t.special}
        self._names = sorted(self._special, key=len, reverse=True)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """One group that matches any special token; never, if there are none."""
        return re.compile(f"({'|'.join(map(re.escape, self._names)) or '(?!)'})")

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Ids of each rendered prompt; nothing is put before them. Empty where the template writes nothing."""
        cut = [self._cut(prompt) for prompt in prompts]
        plain = iter(self.tokenizer.encode_batch([stretch for parts in cut for stretch in parts[::2]]))
        return [
            [i for k, part in enumerate(parts) for i in (next(plain) if k % 2 == 0 else [self._special[part][0]])]
            for parts in cut
        ]

    @cached_property
    def end_of_turn(self) -> int | None:
        """The special token that the template writes right after an answer; None if it writes none."""
        mark = chr(_MARKS[0])
        answered = [("user", "a"), ("assistant", mark), ("user", "a")]
        text = self.render([{"role": role, "content": content} for role, content in answered])
        found = self._pattern.match(text.partition(mark)[2].lstrip())
        return self._special[found[1]][0] if found else None

    def _cut(self, prompt: str) -> list[str]:
        """Stretches of plain text (even places) and special tokens of the template (odd places)."""
        mark = next(chr(code) for code in _MARKS if chr(code) not in prompt)
        guarded = self._pattern.sub(lambda found: f"{mark}{self._names.index(found[1])}{mark}", prompt)
        parts = self._pattern.split(rendered_text(self.render, guarded))
        for k in range(1, len(parts), 2):
            _, token = self._special[parts[k]]
            parts[k - 1] = parts[k - 1].rstrip() if token.lstrip else parts[k - 1]
            parts[k + 1] = parts[k + 1].lstrip() if token.rstrip else parts[k + 1]
        back = re.compile(f"{mark}([0-9]+){mark}")
        return [part if k % 2 else back.sub(lambda m: self._names[int(m[1])], part) for k, part in enumerate(parts)]
