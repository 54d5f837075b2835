"""Conversations from records, and templates: what is found of a rendering, and what is refused."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from evermix.corpus import TextSource
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.conversation import ROLES, Conversation
from evermix.corpus.source import conversations, iterate
from evermix.errors import CorpusError

from .chats import CHATML, START, STOP, TRIMMING, chat_tokenizer, write_jsonl

PAIR = {"prompt": "Two plus two?", "answer": " Vier 🙂", "source": 3}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi", "name": "x"},
    {"role": "assistant", "content": "Hello"},
]


def source(*files, **options):
    return TextSource("talk", files, format="chat", **options)


def test_both_forms_are_read_and_other_fields_of_a_record_passed_over(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [PAIR, {"messages": MESSAGES, "id": 1}])
    first, second = conversations(source("a.jsonl"), tmp_path)
    assert first.turns == (("user", "Two plus two?"), ("assistant", " Vier 🙂"))
    assert second.messages == MESSAGES
    assert list(iterate(source("a.jsonl"), tmp_path)) == [
        "Two plus two?\n\n Vier 🙂",
        "Be brief.\n\nHi\n\nHello",
    ]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_compressed_files_give_the_same(tmp_path, name):
    raw = write_jsonl(tmp_path / "a.jsonl", [PAIR] * 3).read_bytes()
    packed = gzip.compress(raw) if name.endswith(".gz") else zstandard.ZstdCompressor().compress(raw)
    (tmp_path / name).write_bytes(packed)
    assert [c.turns for c in conversations(source(name), tmp_path)] == [Conversation.from_record(PAIR, "").turns] * 3


def test_max_bytes_ends_after_a_whole_conversation(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": "12345", "answer": "67890"}] * 5)
    assert len(list(conversations(source("a.jsonl", max_bytes=11), tmp_path))) == 2


CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": None}}}],
}


def test_all_that_a_message_holds_goes_to_the_template():
    record = {
        "messages": [
            {"role": "user", "content": "Hi", "weight": None, "tool_calls": None, "name": "é"},
            {**CALLING, "reasoning_content": "so"},
            {"role": "tool", "content": "3", "tool_call_id": "x"},
            {"role": "assistant", "content": "", "weight": 0, "tool_calls": []},
            {"role": "assistant", "content": "three", "weight": 1},
        ],
        "tools": [{"function": {"name": "f"}}],
    }
    found = Conversation.from_record(record, "")
    assert found.messages == [
        {"role": "user", "content": "Hi", "name": "é"},
        {**CALLING, "reasoning_content": "so"},
        {"role": "tool", "content": "3", "tool_call_id": "x"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "three"},
    ]
    assert list(found.messages[1]["tool_calls"][0]["function"]["arguments"]) == ["b", "a"]  # in their order
    assert (found.unlearnt, found.tool_schemas) == ((3,), record["tools"])
    assert Conversation.from_canonical(found.canonical) == found
    assert (found.text, found.n_bytes) == ("Hi\n\n3\n\n\n\nthree", 8)
    assert Conversation.from_record({**record, "tools": json.dumps(record["tools"])}, "") == found
    without = [{key: value for key, value in m.items() if key != "content" or value} for m in record["messages"][:3]]
    assert Conversation.from_record({"messages": without}, "").turns == found.turns[:3]
    keys = {replace(found, **{field: ()}).canonical for field in ("fields", "unlearnt")} | {
        replace(found, tools="").canonical
    }
    assert len({*keys, found.canonical}) == 4


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text(st.characters(exclude_categories=("Cs",)))), min_size=1))
def test_the_canonical_spelling_is_read_back(turns):
    conversation = Conversation((*turns, ("assistant", "x")))
    assert Conversation.from_canonical(conversation.canonical) == conversation
    assert conversation.n_bytes == sum(len(content.encode()) for _, content in conversation.turns)


def test_a_pair_equals_its_messages():
    messages = [{"role": "user", "content": PAIR["prompt"]}, {"role": "assistant", "content": PAIR["answer"]}]
    assert Conversation.from_record(PAIR, "") == Conversation.from_record({"messages": messages}, "")


USER, ANSWER = ("user", "Two plus two?"), ("assistant", "Four.")
SYSTEM = ("system", "Be brief.")
Q, A, S = USER[1], ANSWER[1], SYSTEM[1]
SHAREGPT = [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"conversations": SHAREGPT, "id": "x"}, (USER, ANSWER)),
        ({"conversations": SHAREGPT * 2, "system": S}, (SYSTEM, USER, ANSWER, USER, ANSWER)),
        ({"conversations": [{"from": "system", "value": S}, *SHAREGPT], "system": "other"}, (SYSTEM, USER, ANSWER)),
        ({"conversation": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]}, (USER, ANSWER)),
        ({"messages": SHAREGPT}, (USER, ANSWER)),
        ({"prompt": Q, "completion": A}, (USER, ANSWER)),
        ({"prompt": Q, "response": A, "system_prompt": S}, (SYSTEM, USER, ANSWER)),
        ({"prompt": Q, "answer": A, "completion": "other", "system": " "}, (USER, ANSWER)),
        ({"system_prompt": S, "question": Q, "response": A}, (SYSTEM, USER, ANSWER)),
        ({"instruction": Q, "input": "", "output": A}, (USER, ANSWER)),
        ({"instruction": "Add.", "input": Q, "output": A, "text": "x"}, (("user", f"Add.\n\n{Q}"), ANSWER)),
        ({"instruction": "Add.", "context": Q, "response": A}, (("user", f"Add.\n\n{Q}"), ANSWER)),
        ({"instruction": "3?", "output": "3", "history": [[Q, A]]}, (USER, ANSWER, ("user", "3?"), ("assistant", "3"))),
        ({"input": Q, "output": A}, (USER, ANSWER)),
        (
            {"prompt": [{"role": "user", "content": Q}], "completion": [{"role": "assistant", "content": A}]},
            (USER, ANSWER),
        ),
        ({"prompt": [{"role": "user", "content": Q}], "completion": A}, (USER, ANSWER)),
    ],
)
def test_the_usual_forms_of_records_are_read(tmp_path, record, turns):
    """Whether lines, an array or Parquet hold them."""
    write_jsonl(tmp_path / "a.jsonl", [record, record])
    (tmp_path / "a.json").write_text(json.dumps([record, record], indent=2))
    pq.write_table(pa.Table.from_pylist([record, record]), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.parquet"):
        assert [c.turns for c in conversations(source(name), tmp_path)] == [turns, turns]


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"prompt": "x"}, "must have the field 'answer'"),
        (
            {"chosen": "x", "rejected": "y"},
            "must have the field 'prompt', or 'messages'.*fields found: chosen, rejected",
        ),
        ({"instruction": "x", "output": " "}, "output: an answer must hold more than blanks"),
        ({"instruction": "x", "input": 3, "output": "y"}, "input: must be a string, got 'int'"),
        ({"instruction": "x", "output": "y", "history": ["a", "b"]}, "history: must be a list of"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, r"messages\[0\].role: must be one of system"),
        ({"conversations": [{"from": "gpt"}]}, r"messages\[0\]: must have the field 'content'"),
        ({"text": "x"}, "must have the field 'prompt', or 'messages'.*fields found: text"),
        ({"prompt": 1, "answer": "x"}, "prompt: must be a string, got 1"),
        ({"prompt": "x", "answer": " \n"}, "answer: an answer must hold more than blanks"),
        ({"prompt": "\ud800", "answer": "x"}, "prompt: the text must be valid Unicode"),
        ({"messages": []}, "messages: must be a list"),
        ({"messages": "hi"}, "messages: must be a list"),
        ({"messages": ["hi"]}, r"messages\[0\]: must be an object"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: must have the field 'content'"),
        ({"messages": [{"role": "bot", "content": ""}]}, r"messages\[0\].role: must be one of system, .*got 'bot'"),
        ({"messages": [{"role": ["user"], "content": ""}]}, r"messages\[0\].role: must be one of"),
        ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\].content: must be a string"),
        (
            {"messages": [{"role": "user", "content": "x"}]},
            "messages: a conversation must have at least one.*assistant",
        ),
        ({"messages": [{"role": "assistant", "content": ""}]}, r"messages\[0\].content: an answer must hold more"),
        (
            {"messages": [{**MESSAGES[2], "weight": 0.5}]},
            r"messages\[0\]\.weight: must be 0 \(not learnt\) or 1, got 0\.5",
        ),
        ({"messages": [{**MESSAGES[2], "weight": 0}]}, "at least one message of the role assistant to learn"),
        ({"messages": [{**CALLING, "tool_calls": "f()"}]}, r"messages\[0\]\.tool_calls: must be a list of objects"),
        ({"messages": [{**CALLING, "tool_calls": []}]}, r"messages\[0\]\.content: must be a string.*beside tool_calls"),
        ({"messages": [{**CALLING, "role": "user"}]}, r"messages\[0\]\.tool_calls: must be an assistant's, got 'user'"),
        ({"messages": [{**CALLING, "name": "\ud800"}]}, r"messages\[0\]: the text must be valid Unicode"),
        ({"messages": MESSAGES, "tools": "f"}, "tools: must be a JSON list"),
        ({"messages": MESSAGES, "tools": [3]}, "tools: must be a list of objects"),
        (["x"], "must be a JSON object"),
    ],
)
def test_broken_records_are_named_with_file_line_and_field(tmp_path, record, complaint):
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR) + "\n\n" + json.dumps(record) + "\n")
    with pytest.raises(CorpusError, match=complaint) as caught:
        list(conversations(source("a.jsonl"), tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/a.jsonl:3")
    assert "\n" not in message
    assert len(message) < 400


def test_torn_lines_and_empty_domains_are_refused(tmp_path):
    (tmp_path / "torn.jsonl").write_text(json.dumps(PAIR)[:-5])
    with pytest.raises(CorpusError, match=r"torn\.jsonl:1 must be valid JSON"):
        list(conversations(source("torn.jsonl"), tmp_path))
    (tmp_path / "blank.jsonl").write_text("\n\n")
    with pytest.raises(CorpusError, match="domain 'talk' must hold at least one conversation"):
        list(conversations(source("blank.jsonl"), tmp_path))


CHAT = [
    {"role": "user", "content": "Hi {{ x }} \ue000"},
    {"role": "assistant", "content": " Hello, 語\n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": f"{STOP}!"},
]
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def contents(spans, kind):
    return [span.text for span in spans if span.kind == kind]


@pytest.mark.parametrize("generate", [False, True])
def test_rendering_is_that_of_transformers(generate):
    theirs = PreTrainedTokenizerFast(tokenizer_object=chat_tokenizer().backend, chat_template=CHATML)
    expected = theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=generate)
    assert ChatTemplate(CHATML).render(CHAT, generate) == expected
    assert "".join(span.text for span in ChatTemplate(CHATML).spans(CHAT, generate=generate)) == expected


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_parts_join_to_the_text_and_contents_are_found_whole(turns):
    chat = [
        {"role": role, "content": content}
        for pair in turns
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    spans = ChatTemplate(CHATML).spans(chat)
    assert "".join(span.text for span in spans) == ChatTemplate(CHATML).render(chat, False)
    assert contents(spans, "answer") == [answer for _, answer in turns]


def test_contents_that_a_template_trims_are_found_without_their_blanks():
    template = ChatTemplate(TRIMMING, (("eos_token", STOP),))
    spans = template.spans(CHAT)
    assert "".join(span.text for span in spans) == template.render(CHAT, False)
    assert contents(spans, "answer") == [" Hello, 語", f" {STOP}!"]  # with the blank before, which follows the prompt


def test_the_plain_template_adds_nothing_to_a_pair():
    plain = ChatTemplate.plain()
    pair = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    assert plain.render(pair, False) == "2+2=4"
    assert plain.render(pair[:1], True) == "2+2="
    longer = [{"role": "system", "content": "S"}, *pair, *pair]
    assert plain.render(longer, False) == "S\n\n2+2=4\n\n2+2=4"
    assert [span.kind for span in plain.spans(pair)] == ["read", "read", "answer", "end"]


def test_templates_that_cut_repeat_or_drop_answers_are_refused():
    chat = [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "def"}]
    for source in (
        "{% for m in messages %}{{ m.content[:2] }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{{ messages[0].content }}",
    ):
        with pytest.raises(CorpusError, match="must render every answer once"):
            ChatTemplate(source).spans(chat)
    with pytest.raises(CorpusError, match=r"must render the messages \(roles must alternate\)"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").spans(chat)
    with pytest.raises(CorpusError, match="must be valid Jinja"):
        ChatTemplate("{% for m in messages %}")


def test_a_checkpoint_s_template_is_found_where_transformers_puts_it(tmp_path):
    assert ChatTemplate.from_checkpoint(tmp_path) is None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=chat_tokenizer().backend, chat_template=TRIMMING, eos_token=STOP, bos_token=START
    )
    tokenizer.save_pretrained(tmp_path / "new")
    found = ChatTemplate.from_checkpoint(tmp_path / "new")
    assert found == ChatTemplate(TRIMMING, (("bos_token", START), ("eos_token", STOP)))
    assert found == ChatTemplate.from_path(tmp_path / "new")
    assert found == ChatTemplate.from_path(tmp_path / "new" / "chat_template.jinja")
    assert found.render(CHAT[:2], False) == tokenizer.apply_chat_template(CHAT[:2], tokenize=False)
    for value in (TRIMMING, [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TRIMMING}]):
        config = {"chat_template": value, "eos_token": {"content": STOP}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        tool = "x" if isinstance(value, list) else None
        found = ChatTemplate.from_checkpoint(tmp_path)
        assert found == ChatTemplate(TRIMMING, (("eos_token", STOP),), tool)
    assert found is not None
    assert found.fingerprint != replace(found, tool_source=None).fingerprint
    assert found.render(CHAT, False, [{}]) == "x"


def test_paths_without_a_template_are_refused_and_fingerprints_differ(tmp_path):
    for path in (tmp_path, tmp_path / "none.jinja"):
        with pytest.raises(CorpusError, match=r"corpus\.chat_template must be auto, plain"):
            ChatTemplate.from_path(path)
    (tmp_path / "bad.jinja").write_bytes(b"\xff")
    with pytest.raises(CorpusError, match="UTF-8"):
        ChatTemplate.from_path(tmp_path / "bad.jinja")
    templates = (ChatTemplate(), ChatTemplate(CHATML), ChatTemplate(CHATML, (("eos_token", "x"),)))
    assert len({template.fingerprint for template in templates}) == 3
