"""Rendered prompts: the ids that the tokenizer gives the rendered text, and never a special token from a question.

A task's prompt has the ids that it has in a chat domain's rows, before the answer that is learnt there.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from evermix.corpus.chat import TARGET, ChatEncoder
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.conversation import Conversation
from evermix.corpus.tokenizer import TextTokenizer
from evermix.tasks import AnswerTask, ChoiceTask
from evermix.tasks.likelihood import Continuation, encoded_windows
from evermix.tasks.likelihood_tasks import AnswerItem, ChoiceItem
from evermix.tasks.prompts import PromptEncoder
from tests.tasks.models import ChatMarks, byte_tokenizer, llama, word_tokenizer

CHAT = ChatMarks()


def _reference(tokenizer: TextTokenizer, text: str) -> list[int]:
    """The library's own encoding of a text in which special tokens are recognised."""
    tokenizer.backend.encode_special_tokens = False
    try:
        return list(tokenizer.backend.encode(text, add_special_tokens=False).ids)
    finally:
        tokenizer.backend.encode_special_tokens = True


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20))
def test_it_is_the_tokenizer_s_encoding_of_the_rendered_text(prompt: str) -> None:
    prompt = prompt.encode("utf-8", "ignore").decode()
    words = word_tokenizer_with_marks()
    for tokenizer in (CHAT.tokenizer(), words):
        text = CHAT.render([{"role": "user", "content": prompt}])
        assert PromptEncoder(tokenizer, CHAT.render).encode([prompt]) == [_reference(tokenizer, text)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["<|end|>", "<|start|>", "<|endoftext|>", "a", " ", "é", "\U000f0000"]), max_size=8))
def test_a_question_cannot_write_special_tokens(parts: list[str]) -> None:
    tokenizer = CHAT.tokenizer()
    prompt = "".join(parts)
    (ids,) = PromptEncoder(tokenizer, CHAT.render).encode([prompt])
    specials = [i for i in ids if i in (0, 257, 258)]
    assert specials == [257, 258, 257]
    assert tokenizer.decode(ids) == CHAT.render([{"role": "user", "content": prompt}])


def test_blanks_beside_a_token_that_takes_them() -> None:
    backend = byte_tokenizer().backend
    backend.add_special_tokens([AddedToken(CHAT.START), AddedToken(CHAT.END, rstrip=True, lstrip=True)])
    tokenizer = TextTokenizer(backend)

    def render(messages: list[dict[str, str]]) -> str:
        return f"{CHAT.START}{messages[0]['content']} {CHAT.END} \n{CHAT.START}"

    assert PromptEncoder(tokenizer, render).encode(["a b"]) == [_reference(tokenizer, render([{"content": "a b"}]))]


def test_the_end_of_turn_is_what_the_template_writes_after_an_answer() -> None:
    assert PromptEncoder(CHAT.tokenizer(), CHAT.render).end_of_turn == 258
    plain = PromptEncoder(CHAT.tokenizer(), lambda messages: "\n\n".join(m["content"] for m in messages))
    assert plain.end_of_turn is None
    spaced = PromptEncoder(CHAT.tokenizer(), lambda messages: " <|end|> ".join(m["content"] for m in messages))
    assert spaced.end_of_turn == 258
    assert PromptEncoder(CHAT.tokenizer(), lambda messages: "").end_of_turn is None


@pytest.mark.parametrize("answer", ["Paris", " Paris", "\nParis"])
def test_likelihood_after_a_rendered_prompt_is_the_model_s_own_loss(answer: str) -> None:
    """The answer alone is scored, after exactly the ids that an answer is written after."""
    tokenizer = CHAT.tokenizer()
    model = llama(tokenizer.vocab_size, context=128)
    read = _reference(tokenizer, CHAT.render([{"role": "user", "content": "France?"}]))
    learnt = tokenizer.encode_batch([answer])[0]
    ids = torch.tensor([[*read, *learnt]])
    labels = ids.clone()
    labels[:, : len(read)] = -100
    with torch.no_grad():
        nats = model(input_ids=ids, labels=labels).loss.item() * len(learnt)
    task = AnswerTask("qa", (AnswerItem("France?", answer, "1"),), CHAT.render)
    assert task.score(model, tokenizer)["qa"].value == pytest.approx(
        nats / math.log(2) / len(answer.encode()), rel=1e-5
    )
    assert task.n_tokens(tokenizer) == len(read) + len(learnt) - 1
    quiz = ChoiceTask("qa", (ChoiceItem("France?", (answer, "Rome"), 0, "1"),), CHAT.render)
    assert quiz.score(model, tokenizer)["qa"].value == pytest.approx(task.score(model, tokenizer)["qa"].value)


def test_a_template_that_writes_nothing_leaves_the_beginning() -> None:
    tokenizer = byte_tokenizer()
    model = llama(257)
    item = (AnswerItem("", "Paris", "1"),)
    rendered = AnswerTask("qa", item, lambda messages: messages[0]["content"])
    assert rendered.score(model, tokenizer) == AnswerTask("qa", item).score(model, tokenizer)


def test_fingerprints_follow_the_template() -> None:
    item = (AnswerItem("France?", "Paris", "1"),)
    plain = AnswerTask("qa", item)
    same = AnswerTask("qa", item, lambda messages: messages[0]["content"])
    chat = AnswerTask("qa", item, CHAT.render)
    assert len({plain.fingerprint, same.fingerprint, chat.fingerprint}) == 3
    assert chat.fingerprint == AnswerTask("other", item, ChatMarks().render).fingerprint
    assert plain.fingerprint == "05c91eab8e9781ca"  # as before there were templates: old scores stay found


def word_tokenizer_with_marks() -> TextTokenizer:
    backend = word_tokenizer().backend
    backend.add_special_tokens([CHAT.START, CHAT.END])
    return TextTokenizer(backend)


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
