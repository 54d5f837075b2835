"""Chat templates against the rendering of transformers' own tokenizers; their parts join to the whole text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from evermix.corpus.chat_template import ChatTemplate
from evermix.errors import CorpusError

from .chats import CHATML, START, STOP, TRIMMING, chat_tokenizer

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
    assert "".join(span.text for span in ChatTemplate(CHATML).spans(CHAT, generate)) == expected


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_parts_join_to_the_text_and_contents_are_found_whole(turns):
    chat = [
        {"role": role, "content": content}
        for pair in turns
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    spans = ChatTemplate(CHATML).spans(chat)
    assert "".join(span.text for span in spans) == ChatTemplate(CHATML).render(chat, False)
    assert contents(spans, "content") == [user for user, _ in turns]
    assert contents(spans, "answer") == [answer for _, answer in turns]


def test_contents_that_a_template_trims_are_found_without_their_blanks():
    template = ChatTemplate(TRIMMING, (("eos_token", STOP),))
    spans = template.spans(CHAT)
    assert "".join(span.text for span in spans) == template.render(CHAT, False)
    assert contents(spans, "answer") == ["Hello, 語", f"{STOP}!"]


def test_the_plain_template_adds_nothing_to_a_pair():
    plain = ChatTemplate.plain()
    pair = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    assert plain.render(pair, False) == "2+2=4"
    assert plain.render(pair[:1], True) == "2+2="
    longer = [{"role": "system", "content": "S"}, *pair, *pair]
    assert plain.render(longer, False) == "S\n\n2+2=4\n\n2+2=4"
    assert [span.kind for span in plain.spans(pair)] == ["template", "content", "answer", "end"]


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
    for value in (TRIMMING, [{"name": "tools", "template": "x"}, {"name": "default", "template": TRIMMING}]):
        config = {"chat_template": value, "eos_token": {"content": STOP}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        assert ChatTemplate.from_checkpoint(tmp_path) == ChatTemplate(TRIMMING, (("eos_token", STOP),))


def test_paths_without_a_template_are_refused_and_fingerprints_differ(tmp_path):
    for path in (tmp_path, tmp_path / "none.jinja"):
        with pytest.raises(CorpusError, match=r"corpus\.chat_template must be auto, plain"):
            ChatTemplate.from_path(path)
    (tmp_path / "bad.jinja").write_bytes(b"\xff")
    with pytest.raises(CorpusError, match="UTF-8"):
        ChatTemplate.from_path(tmp_path / "bad.jinja")
    templates = (ChatTemplate(), ChatTemplate(CHATML), ChatTemplate(CHATML, (("eos_token", "x"),)))
    assert len({template.fingerprint for template in templates}) == 3
