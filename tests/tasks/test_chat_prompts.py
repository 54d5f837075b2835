"""A task's prompt has the ids that it has in a chat domain's rows, before the answer that is learnt there."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.corpus.chat import TARGET, ChatEncoder
from evermix.corpus.conversation import ChatTemplate, Conversation
from evermix.tasks.likelihood import Continuation, encoded_windows
from evermix.tasks.prompts import PromptEncoder
from tests.tasks.models import ChatMarks

_MARKED = ChatTemplate(
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_TEXT = st.lists(st.sampled_from(["<|end|>", "<|start|>", "a", " ", "é", "\n", "word"]), min_size=1, max_size=6)


@pytest.mark.parametrize("template", [_MARKED, ChatTemplate.plain()])
@settings(max_examples=50, deadline=None)
@given(_TEXT, _TEXT)
def test_prompt_and_answer_are_those_of_training(template: ChatTemplate, asked: list[str], said: list[str]) -> None:
    tokenizer = ChatMarks().tokenizer()
    prompt, answer = "".join(asked), "".join(said)
    turns = (("user", prompt), ("assistant", answer))
    (row,) = ChatEncoder(tokenizer, template).encode([Conversation(turns)])
    learnt = row.roles == TARGET
    render = partial(template.render, generate=True)
    assert PromptEncoder(tokenizer, render).encode([prompt]) == [row.ids[~learnt].tolist()]
    (window,) = encoded_windows(tokenizer, [Continuation(prompt, answer, "here", render)], 0, None)
    assert list(window.ids) == row.ids.tolist()[:-1]  # all but the token that ends the answer
    assert row.ids[-1] in (tokenizer.end_id, PromptEncoder(tokenizer, render).end_of_turn)
