"""Rows of conversations: what is learnt, what is data, and that a prompt has the tokens it has in training."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.corpus import load_tokenizer
from evermix.corpus.chat import CONTEXT, TARGET, ChatEncoder
from evermix.corpus.conversation import ChatTemplate, Conversation
from evermix.errors import CorpusError

from .chats import CHATML, START, STOP, TRIMMING, chat_tokenizer

TOKENIZER = chat_tokenizer()
PLAIN = ChatEncoder(TOKENIZER, ChatTemplate.plain())
TAGGED = ChatEncoder(TOKENIZER, ChatTemplate(CHATML))
END = "<|endoftext|>"
ROLES = ("user", "assistant")
_PARTS = st.sampled_from([START, STOP, END, " ", "\n", "<|", "two"]) | st.text(max_size=3)
TEXTS = st.lists(_PARTS, max_size=6).map("".join)


def conversation(*contents: str) -> Conversation:
    return Conversation(tuple((ROLES[k % 2], content) for k, content in enumerate(contents)))


def text_of(ids, special: bool = True) -> str:
    return TOKENIZER.backend.decode([int(i) for i in ids], skip_special_tokens=not special)


def learnt(row) -> str:
    return text_of(row.ids[row.roles == TARGET])


def test_a_plain_pair_is_the_prompt_the_answer_and_the_end():
    (row,) = PLAIN.encode([conversation("two plus two", "four, 語🙂")])
    prompt, answer = TOKENIZER.encode_batch(["two plus two", "four, 語🙂"])
    assert row.ids.tolist() == [*prompt, *answer, TOKENIZER.end_id]
    assert row.roles.tolist() == [CONTEXT] * len(prompt) + [TARGET] * (len(answer) + 1)


def test_every_answer_is_learnt_with_its_end_and_nothing_else():
    talk = conversation("Hi", "Hello", "two?", "four")
    (row,) = PLAIN.encode([talk])
    assert text_of(row.ids) == f"HiHello{END}\n\ntwo?four{END}"
    assert learnt(row) == f"Hello{END}four{END}"
    (row,) = TAGGED.encode([talk])
    assert text_of(row.ids) == ChatTemplate(CHATML).render(talk.messages, False).removesuffix("\n")
    assert learnt(row) == f"Hello{STOP}four{STOP}"
    assert row.roles[-1] == TARGET


def test_what_the_template_puts_before_the_end_token_is_learnt_too():
    encoder = ChatEncoder(TOKENIZER, ChatTemplate(TRIMMING, (("eos_token", STOP),)))
    (row,) = encoder.encode([conversation("Hi ", " Hello\n")])
    assert text_of(row.ids) == f"[user] Hi [/] Hello {STOP}"
    assert learnt(row) == f"Hello {STOP}"


def test_an_answer_that_the_template_leaves_open_is_ended_at_the_end_only():
    open_ended = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    (row,) = ChatEncoder(TOKENIZER, ChatTemplate(open_ended)).encode([conversation("a", "b", "c", "d")])
    assert text_of(row.ids) == f"user: a\nassistant: b\nuser: c\nassistant: d{END}"
    assert learnt(row) == f"bd{END}"


@given(TEXTS, TEXTS.filter(str.strip))
def test_special_tokens_in_contents_stay_text(prompt, answer):
    (row,) = TAGGED.encode([conversation(prompt, answer)])
    special = [TOKENIZER.backend.token_to_id(token) for token in (START, STOP)]
    kept = [int(i) for i in row.ids if i in (*special, TOKENIZER.end_id)]
    assert kept == [special[0], special[1]] * 3  # system, user, assistant
    assert text_of(row.ids) == ChatTemplate(CHATML).render(conversation(prompt, answer).messages, False)[:-1]
    assert text_of(row.ids[row.roles == TARGET][:-1]) == answer
    assert row.n_bytes[row.roles == TARGET].sum() == len(answer.encode())


@given(st.lists(TEXTS.filter(str.strip), min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_a_prompt_has_the_tokens_that_stand_before_its_answer_in_training(contents):
    for encoder in (PLAIN, TAGGED):
        (row,) = encoder.encode([conversation(*contents)])
        prompt = encoder.prompt(conversation(*contents[:-1]).messages)
        assert row.ids[: len(prompt)].tolist() == prompt
        assert (row.roles[len(prompt) :] == TARGET).all()


def test_without_special_strings_ids_are_those_of_the_whole_rendered_text():
    talk = conversation("what is two plus two?", "it is four", "I think", "yes")
    (row,) = TAGGED.encode([talk])
    aware = load_tokenizer_aware()
    whole = aware.encode(ChatTemplate(CHATML).render(talk.messages, False)[:-1], add_special_tokens=False).ids
    assert row.ids.tolist() == whole


def load_tokenizer_aware():
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(TOKENIZER.backend.to_str())
    backend.encode_special_tokens = False
    return backend


def test_a_conversation_that_cannot_be_rendered_is_named():
    encoder = ChatEncoder(TOKENIZER, ChatTemplate("{{ raise_exception('no') if messages[0].content == 'x' }}a"))
    with pytest.raises(CorpusError, match=r"conversation 8: a chat template must"):
        encoder.encode([conversation("x", "y")], 8)


_MODELS = Path(os.environ.get("EVERMIX_CACHE", Path.home() / ".cache/evermix")) / "models"
SMOLLM = sorted(_MODELS.glob("smollm2-135m-instruct-*/tokenizer.json"))


@pytest.mark.skipif(not SMOLLM, reason="the chat model is not in the cache")
def test_the_real_chat_model_gets_the_ids_of_its_own_tokenizer():
    folder = SMOLLM[0].parent
    tokenizer, template = load_tokenizer(folder), ChatTemplate.from_checkpoint(folder)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    talk = conversation("What is  the capital\n\nof France?", "Paris, naturellement. 🗼", "Thanks!", " You're welcome.")
    encoder = ChatEncoder(tokenizer, template)
    (row,) = encoder.encode([talk])
    whole = theirs.apply_chat_template(talk.messages, tokenize=False)
    assert row.ids.tolist() == theirs(whole, add_special_tokens=False)["input_ids"][: len(row.ids)]
    assert theirs.decode(row.ids[row.roles == TARGET]) == (
        "Paris, naturellement. 🗼<|im_end|> You're welcome.<|im_end|>"
    )
    asked = theirs.apply_chat_template(talk.messages[:3], tokenize=False, add_generation_prompt=True)
    assert encoder.prompt(talk.messages[:3]) == theirs(asked, add_special_tokens=False)["input_ids"]
