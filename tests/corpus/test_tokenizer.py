"""Tokenizers: lossless, deterministic, and exact about bytes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evermix.corpus.tokenizer import TextTokenizer, declared_tokens, load_tokenizer, train_bpe
from evermix.errors import TokenizerError

PROSE = ["The quick brown fox jumps over the lazy dog. " * 20, "Größe und Maß, naïve café — 語学 🙂. " * 20]
CODE = [f"def f{i}(x):\n    return x * {i}\n" for i in range(40)]
BPE = train_bpe({"prose": PROSE, "code": CODE}, 400)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("  <|endoftext|>\n\n\tgrün <|endoftext|>")
@example("\x00\x7f\ufeff\u2028")
@settings(deadline=None)
def test_tokens_sum_to_the_bytes_of_the_text_and_decode_to_it(text):
    (ids,) = BPE.encode_batch([text])
    assert BPE.spelled_bytes[ids].sum() == len(text.encode())
    assert BPE.decode(ids) == text
    assert BPE.end_id not in ids  # a text that spells the end token does not end a document


def test_ids_and_sizes():
    assert (BPE.end_id, BPE.vocab_size, len(BPE.spelled_bytes)) == (0, 400, 400)
    assert BPE.spelled_bytes[0] == 0
    assert BPE.spelled_bytes[1:].min() == 1


def test_training_is_deterministic_across_processes():
    script = (
        "from evermix.corpus.tokenizer import train_bpe\n"
        f"print(train_bpe({{'prose': {PROSE!r}, 'code': {CODE!r}}}, 400).fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == BPE.fingerprint


def test_small_domains_count_as_much_as_large_ones():
    large = [f"alpha beta gamma {i} delta\n" for i in range(4000)]
    tokenizer = train_bpe({"large": large, "small": ["zyxwvutsrq"]}, 300)
    assert len(tokenizer.encode_batch(["zyxwvutsrq"])[0]) == 1


def test_save_and_load_give_the_same_tokenizer(tmp_path):
    BPE.save(tmp_path / "m" / "tokenizer.json")
    for place in (tmp_path / "m", tmp_path / "m" / "tokenizer.json"):
        loaded = load_tokenizer(place)
        assert (loaded.fingerprint, loaded.end_id) == (BPE.fingerprint, BPE.end_id)
        assert loaded.encode_batch(["a b"]) == BPE.encode_batch(["a b"])


def test_padding_and_truncation_of_a_loaded_tokenizer_are_switched_off(tmp_path):
    backend = Tokenizer.from_str(BPE.backend.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).fingerprint == BPE.fingerprint


def _byte_level(normalizer=None, prefix=False):
    backend = Tokenizer.from_str(BPE.backend.to_str())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    if normalizer is not None:
        backend.normalizer = normalizer
    return TextTokenizer(backend)


def _with_end(model, special=("</s>",), **parts):
    backend = Tokenizer(model)
    for name, part in parts.items():
        setattr(backend, name, part)
    backend.add_special_tokens(list(special))
    return TextTokenizer(backend, "</s>")


LETTERS = {
    letter: k for k, letter in enumerate("abcdefgé語 ", 20)
}  # from 20: with unused ids, and the end token among them
WORDS = {"[UNK]": 0, "naive": 1, "cafe": 2, "##s": 3, "the": 4}
PIECES = {"<unk>": 0, "<0x0A>": 1, "▁": 2, "é": 3, "▁é": 4} | {f"<0x{b:02X}>": 100 + b for b in range(256) if b != 10}
SPACED = {"u": 0, "u</w>": 1, "n": 2, "n</w>": 3, "un</w>": 4, "é</w>": 5}
KINDS = {
    "byte level": _byte_level(),
    "NFC": _byte_level(normalizers.NFC()),
    "NFKC": _byte_level(normalizers.NFKC()),
    "lowercase without accents": _byte_level(normalizers.BertNormalizer(lowercase=True)),
    "blank before": _byte_level(prefix=True),
    "</w>": _with_end(
        models.BPE(SPACED, [("u", "n</w>")], end_of_word_suffix="</w>"), pre_tokenizer=pre_tokenizers.WhitespaceSplit()
    ),
    "[UNK]": _with_end(
        models.WordPiece(WORDS, unk_token="[UNK]"), ("</s>", "[UNK]"), pre_tokenizer=pre_tokenizers.BertPreTokenizer()
    ),
    "letters alone, others dropped": _with_end(models.BPE(LETTERS, [])),
    "byte fallback": _with_end(
        models.BPE(PIECES, [("▁", "é")], unk_token="<unk>", byte_fallback=True),
        pre_tokenizer=pre_tokenizers.Metaspace(),
    ),
    "unigram": _with_end(
        models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("é", -2.0), ("▁un", -1.5)], 0, False),
        pre_tokenizer=pre_tokenizers.Metaspace(),
    ),
}
BITS = st.sampled_from(["e\u0301", "é", "ﬁ", "un", " ", "\n", "語", "🙂", "naive", "CAFÉ", "\x00"])


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(BITS | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=8).map("".join))
@example("unun é\n語")
@settings(deadline=None)
def test_the_tokens_of_a_document_sum_to_its_own_bytes(kind, text):
    tokenizer = KINDS[kind]
    (ids,) = tokenizer.encode_batch([text])
    n_bytes = tokenizer.bytes_of([*ids, tokenizer.end_id], len(text.encode()))
    assert (n_bytes.shape, n_bytes.dtype) == ((len(ids) + 1,), np.int64)
    assert n_bytes.sum() == len(text.encode())
    assert n_bytes.min() >= 0
    if ids:
        assert n_bytes[-1] == 0  # the end token stands for nothing where there is another


def test_bytes_go_to_the_tokens_that_stand_for_them():
    nfc, words, spaced = KINDS["NFC"], KINDS["[UNK]"], KINDS["</w>"]
    decomposed = "e\u0301" * 9 + "x"
    (ids,) = nfc.encode_batch([decomposed])
    assert nfc.spelled_bytes[ids].sum() == 19
    assert nfc.bytes_of(ids, 28).sum() == 28
    assert words.bytes_of(words.encode_batch(["naive語語cafe"])[0], 15).tolist() == [15]
    assert words.bytes_of(words.encode_batch(["naive 語語 cafes"])[0], 17).tolist() == [5, 7, 4, 1]
    assert spaced.bytes_of(spaced.encode_batch(["un un"])[0], 5).tolist() == [2, 3]
    assert KINDS["letters alone, others dropped"].bytes_of([9], 4).tolist() == [4]


def test_sentencepiece_tokens_spell_blanks_and_bytes():
    tokenizer = KINDS["byte fallback"]
    (ids,) = tokenizer.encode_batch([" é é\né"])
    assert tokenizer.spelled_bytes[ids].tolist() == [3, 3, 1, 2]
    assert tokenizer.bytes_of(ids, 9).tolist() == [3, 3, 1, 2]


def test_bad_tokenizers_are_refused(tmp_path):
    with pytest.raises(TokenizerError, match="at least 257"):
        train_bpe({"a": ["text"]}, 256)
    with pytest.raises(TokenizerError, match="some text"):
        train_bpe({"a": []}, 300)
    with pytest.raises(TokenizerError, match="must exist"):
        load_tokenizer(tmp_path / "none.json")
    with pytest.raises(TokenizerError, match=r"must hold tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(TokenizerError, match="must be loadable") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(TokenizerError, match="end token"):
        TextTokenizer(Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(TokenizerError, match=r"none called <stop>.*set tokenizer\.end_token.*are <\|endoftext\|>"):
        TextTokenizer(Tokenizer.from_str(BPE.backend.to_str()), end_token="<stop>")
    BPE.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json must be valid JSON"):
        load_tokenizer(tmp_path)


def _with_tokens(folder, *tokens, **declared):
    backend = Tokenizer.from_str(BPE.backend.to_str())
    backend.add_special_tokens(list(tokens))
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    return folder


@pytest.mark.parametrize(
    ("declared", "asked", "expected"),
    [
        ({"eos_token": "</s>"}, None, "</s>"),
        ({"eos_token": {"content": "<stop>", "lstrip": False}}, None, "<stop>"),
        ({"eos_token": "</s>"}, "<stop>", "<stop>"),
        ({"eos_token": None}, None, "<|endoftext|>"),
        ({}, None, "<|endoftext|>"),
    ],
)
def test_the_end_token_is_the_asked_one_then_the_declared_one_then_a_guess(tmp_path, declared, asked, expected):
    folder = _with_tokens(tmp_path, "</s>", "<stop>", **declared)
    for place in (folder, folder / "tokenizer.json"):
        tokenizer = load_tokenizer(place, asked)
        assert tokenizer.backend.id_to_token(tokenizer.end_id) == expected


def test_a_declared_token_that_is_not_there_is_no_reason_to_guess(tmp_path):
    with pytest.raises(TokenizerError, match=r"none called <gone>.*set tokenizer\.end_token"):
        load_tokenizer(_with_tokens(tmp_path, eos_token="<gone>"))


def test_a_transformers_checkpoint_and_a_hub_name_declare_theirs(tmp_path, monkeypatch):
    backend = Tokenizer.from_str(BPE.backend.to_str())
    backend.add_special_tokens(["<s>", "</s>"])
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path / "m")
    assert load_tokenizer(tmp_path / "m").end_id == backend.token_to_id("</s>")
    assert declared_tokens(tmp_path / "m") == {"bos_token": "<s>", "eos_token": "</s>"}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--some--model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots").mkdir()
    (tmp_path / "m").rename(kept / "snapshots" / ("0" * 40))
    assert declared_tokens("some/model") == {"bos_token": "<s>", "eos_token": "</s>"}
    assert declared_tokens("some/model-that-is-nowhere") == {}
