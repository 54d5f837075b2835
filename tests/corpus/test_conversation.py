"""Conversations: both forms are read, equal ones are equal, and what is no conversation is named with its place."""

import gzip
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from evermix.corpus import TextSource
from evermix.corpus.conversation import ROLES, Conversation
from evermix.corpus.source import conversations, iterate
from evermix.errors import CorpusError

from .chats import write_jsonl

PAIR = {"prompt": "Two plus two?", "answer": " Vier 🙂", "source": 3}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi", "name": "x"},
    {"role": "assistant", "content": "Hello"},
]


def source(*files, **options):
    return TextSource("talk", files, format="chat", **options)


def test_both_forms_are_read_and_other_fields_passed_over(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [PAIR, {"messages": MESSAGES, "id": 1}])
    first, second = conversations(source("a.jsonl"), tmp_path)
    assert first.turns == (("user", "Two plus two?"), ("assistant", " Vier 🙂"))
    assert second.messages == [{"role": m["role"], "content": m["content"]} for m in MESSAGES]
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


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text(st.characters(exclude_categories=("Cs",)))), min_size=1))
def test_the_canonical_spelling_is_read_back(turns):
    conversation = Conversation((*turns, ("assistant", "x")))
    assert Conversation.from_canonical(conversation.canonical) == conversation
    assert conversation.n_bytes == sum(len(content.encode()) for _, content in conversation.turns)


def test_a_pair_equals_its_messages():
    messages = [{"role": "user", "content": PAIR["prompt"]}, {"role": "assistant", "content": PAIR["answer"]}]
    assert Conversation.from_record(PAIR, "") == Conversation.from_record({"messages": messages}, "")


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"prompt": "x"}, "must have the field 'answer'"),
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
