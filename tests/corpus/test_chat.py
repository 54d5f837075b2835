"""Rows of conversations: what is learnt, what is data, and that a prompt has the tokens it has in training."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from evermix.corpus import load_tokenizer
from evermix.corpus.chat import CONTEXT, TARGET, ChatEncoder
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.conversation import Conversation
from evermix.errors import CorpusError

from .chats import CHATML, MARKED, SPECIAL, START, STOP, TRIMMING, UNMARKED, chat_tokenizer

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
    assert learnt(row) == f" Hello {STOP}"


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


TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"city": {"type": "string"}}}}]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln, <x>"}}}
CALLS = [
    {"role": "user", "content": "And the weather there?"},
    {"role": "assistant", "content": None, "reasoning_content": "I need a tool.", "tool_calls": [CALL]},
    {"role": "tool", "content": "12 degrees", "name": "get_weather", "tool_call_id": "abcdefghi"},
    {"role": "assistant", "content": "It is 12 degrees.", "reasoning_content": "That was easy."},
]
THANKS = [{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "You are welcome."}]
THOUGHT = [{"role": "user", "content": "two?"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nfour"}]
TALKS = {
    "one answer": THANKS,
    "two answers": [*THANKS, *THANKS],
    "reasoning": [*THANKS, *THOUGHT, *THANKS],
    "a call": CALLS[:2],
    "a call and what came of it": CALLS,
    "calls, then more": [*THANKS, *CALLS, *THANKS],
    "text and a call": [CALLS[0], {**CALLS[1], "content": "Let me look."}, *CALLS[2:], *THANKS],
}


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("style", MARKED)
def test_tokens_and_mask_are_those_of_transformers(style, talk):
    """Its mask knows where the marks of a template lie; without marks the same must be found."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = chat_tokenizer(more=SPECIAL)
    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.backend.to_str()), bos_token="<s>")
    expected = theirs.apply_chat_template(
        TALKS[talk], TOOLS, chat_template=MARKED[style], return_assistant_tokens_mask=True, return_dict=True
    )
    n = max(k for k, learnt in enumerate(expected["assistant_masks"]) if learnt) + 1
    assert 0 < sum(expected["assistant_masks"][:n]) < n
    conversation = Conversation.from_record({"messages": TALKS[talk], "tools": TOOLS}, "")
    for source in (MARKED[style], UNMARKED[style]):
        encoder = ChatEncoder(tokenizer, ChatTemplate(source, (("bos_token", "<s>"),)))
        (row,) = encoder.encode([Conversation.from_canonical(conversation.canonical)])
        assert row.ids.tolist() == expected["input_ids"][:n]
        assert (row.roles == TARGET).astype(int).tolist() == expected["assistant_masks"][:n]


def test_a_call_is_learnt_and_its_tools_are_read():
    source = (
        "{{ tools | tojson if tools }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}<call>"
        "{{ c.function.name }}</call>{% endfor %}{% endfor %}"
    )
    talk = {"messages": [CALLS[0], {**CALLS[1], "content": "Let me look."}], "tools": TOOLS}
    (row,) = ChatEncoder(TOKENIZER, ChatTemplate(source)).encode([Conversation.from_record(talk, "")])
    assert learnt(row) == f"Let me look.<call>get_weather</call>{END}"
    assert text_of(row.ids).startswith('[{"type": "function", "function": {"name": "get_weather"')
    assert row.n_bytes[row.roles == TARGET].sum() == len("Let me look.<call>get_weather</call>")


@pytest.mark.parametrize("source", [None, CHATML, *UNMARKED.values()])
def test_an_answer_of_weight_zero_is_read_and_changes_no_token(source):
    template = ChatTemplate(source, (("bos_token", "<s>"),))
    encoder = ChatEncoder(chat_tokenizer(more=SPECIAL), template)
    whole = [*THANKS, {"role": "user", "content": "two?"}, {"role": "assistant", "content": "four"}, *THANKS]
    light = [{**m, "weight": int(k != 3)} for k, m in enumerate(whole)]
    (expected,) = encoder.encode([Conversation.from_record({"messages": whole}, "")])
    (row,) = encoder.encode([Conversation.from_record({"messages": light}, "")])
    assert row.ids.tolist() == expected.ids.tolist()
    (changed,) = np.nonzero(row.roles != expected.roles)
    text = encoder.tokenizer.decode(row.ids[changed])
    assert text.strip().startswith(("four", "<think>"))
    assert (row.roles[changed] == CONTEXT).all()
    assert (np.diff(changed) == 1).all()
    light[-1]["weight"] = 0
    (row,) = encoder.encode([Conversation.from_record({"messages": light}, "")])
    assert row.ids.tolist() == expected.ids[: len(row.ids)].tolist()
    assert row.roles[-1] == TARGET
    assert len(row.ids) < changed[0]


def test_answers_marked_in_pieces_belong_to_their_message():
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}A:{% generation %}{{ m.content }}"
        "{% endgeneration %}{% generation %}<|im_end|>{% endgeneration %};{% generation %}.{% endgeneration %}"
        "{% endif %}{% endfor %}"
    )
    talk = [{**m, "weight": int(k != 1)} for k, m in enumerate([*THANKS, *THANKS])]
    encoder = ChatEncoder(TOKENIZER, ChatTemplate(source))
    for weights, expected in ((1, f"You are welcome.{STOP}.You are welcome.{STOP}."), (0, f"You are welcome.{STOP}.")):
        messages = [{**m, "weight": weights or m["weight"]} for m in talk]
        (row,) = encoder.encode([Conversation.from_record({"messages": messages}, "")])
        assert learnt(row) == expected + END


def test_an_answer_may_end_with_several_tokens_or_with_another_at_the_end():
    closed = "{% for m in messages %}{{ m.content }}{{ '<|im_end|></s>\n' if m.role == 'assistant' }}{% endfor %}"
    other = "{% for m in messages %}<s>{{ m.content }}{{ '</s>' if loop.last else '<|im_end|>' }}{% endfor %}"
    tokenizer = chat_tokenizer(more=SPECIAL)
    for source, expected in (
        (closed, "You are welcome.<|im_end|></s>" * 2),
        (other, "You are welcome.<|im_end|>You are welcome.</s>"),
    ):
        (row,) = ChatEncoder(tokenizer, ChatTemplate(source)).encode(
            [Conversation.from_record({"messages": THANKS * 2}, "")]
        )
        assert tokenizer.decode(row.ids[row.roles == TARGET]) == expected


def test_a_template_that_knows_no_null_gets_an_empty_text():
    source = "{% for m in messages %}{{ m.content + '' }}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}"
    (row,) = ChatEncoder(TOKENIZER, ChatTemplate(source)).encode(
        [Conversation.from_record({"messages": CALLS[:2]}, "")]
    )
    assert '"get_weather"' in learnt(row)


def test_special_tokens_in_calls_and_tools_stay_text():
    tokenizer = chat_tokenizer(more=SPECIAL)
    call = {"id": "abcdefghi", "function": {"name": "get_weather", "arguments": {"city": f"{STOP} </s> <|eot_id|>"}}}
    talk = [CALLS[0], {"role": "assistant", "content": None, "tool_calls": [call]}, *CALLS[2:3], THANKS[1]]
    tools = [{"function": {"name": "get_weather", "description": "</s><|eom_id|>"}}]
    special = {tokenizer.backend.token_to_id(token) for token in (START, STOP, *SPECIAL)}
    for source in UNMARKED.values():
        encoder = ChatEncoder(tokenizer, ChatTemplate(source, (("bos_token", "<s>"),)))
        plain, spelled = (
            encoder.encode([Conversation.from_record({"messages": m, "tools": t}, "")])[0]
            for m, t in ((talk, tools), ([talk[0], {**talk[1], "tool_calls": [CALL]}, *talk[2:]], TOOLS))
        )
        assert [i for i in plain.ids if i in special] == [i for i in spelled.ids if i in special]
        assert "</s> <|eot_id|>" in tokenizer.decode(plain.ids)


@pytest.mark.parametrize(
    ("source", "messages", "tools", "complaint"),
    [
        (None, CALLS, [], "plain writes contents only, got 'tool_calls'"),
        (None, THANKS, TOOLS, "plain writes contents only, got 'tools'"),
        (None, [THANKS[0], CALLS[3]], [], "plain writes contents only, got 'reasoning_content'"),
        (
            "{% for m in messages %}{{ m.content or '' }};{% endfor %}",
            CALLS,
            [],
            "must write the tool calls.*get_weather",
        ),
        (UNMARKED["turns"], [{"role": "system", "content": "x"}, *THANKS], [], r"\(no system\)"),
        (UNMARKED["brackets"], [*THANKS, THANKS[1]], [], r"\(roles must alternate\)"),
        (
            "{% for m in messages %}{% generation %}{{ m.content or '' }}{% endgeneration %}{% endfor %}",
            CALLS,
            TOOLS,
            "must write the tool calls.*get_weather",
        ),
    ],
)
def test_templates_that_cannot_write_a_conversation_are_refused(source, messages, tools, complaint):
    conversation = Conversation.from_record({"messages": messages, "tools": tools}, "")
    with pytest.raises(CorpusError, match=f"conversation 3: .*{complaint}"):
        ChatEncoder(TOKENIZER, ChatTemplate(source)).encode([conversation], 3)


@given(st.lists(TEXTS.filter(str.strip), min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
@settings(max_examples=20, deadline=None)
def test_prompts_of_every_style_have_the_tokens_of_training(contents):
    tokenizer = chat_tokenizer(more=SPECIAL)
    for style in ("headers", "brackets", "turns"):
        encoder = ChatEncoder(tokenizer, ChatTemplate(UNMARKED[style], (("bos_token", "<s>"),)))
        (row,) = encoder.encode([conversation(*contents)])
        prompt = encoder.prompt(conversation(*contents[:-1]).messages)
        assert row.ids[: len(prompt)].tolist() == prompt
        assert (row.roles[len(prompt) :] == TARGET).all()


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
