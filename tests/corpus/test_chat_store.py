"""Chat domains in the token store: rows and roles, what is left out, real tokens counted, nothing half-written."""

import copy
import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from evermix.corpus import StoreSettings, TextSource, TokenStore, build_store
from evermix.corpus.chat import CONTEXT, PADDING, TARGET
from evermix.corpus.chat_template import ChatTemplate
from evermix.errors import CorpusError
from evermix.training.data import SequenceDataset, trimmed

from .chats import chat_tokenizer, pairs, write_jsonl

LENGTH = 24
TOKENIZER = chat_tokenizer()
LINES = ChatTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}")
SOURCES = (TextSource("talk", ("talk.jsonl",), format="chat"), TextSource("prose", ("prose.txt",), documents="line"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    too_long = {"prompt": "word " * 100, "answer": "no"}
    write_jsonl(folder / "talk.jsonl", [*pairs(60), pairs(1)[0], too_long])
    (folder / "prose.txt").write_text("\n".join(f"what is {i} plus two, I think?" for i in range(300)))
    return folder


def build(folder, target, sources=SOURCES, events=None, **options) -> TokenStore:
    settings = StoreSettings(**{"sequence_length": LENGTH, "base": folder, "heldout_fraction": 0.2, **options})
    return build_store(sources, TOKENIZER, target, settings, None if events is None else events.append)


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    return build(folder, tmp_path_factory.mktemp("store"))


def rows_of(store: TokenStore, split: str):
    ids = store.train(0) if split == "train" else store.heldout(0, split)
    return zip(ids.tolist(), store.roles(0, split).tolist(), strict=True)


def test_rows_are_the_conversations_padded_on_the_right(store):
    found = {"train": [], "decision": [], "test": []}
    for split, texts in found.items():
        for ids, roles in rows_of(store, split):
            n = LENGTH - roles.count(PADDING)
            assert roles[n:] == [PADDING] * (LENGTH - n)
            assert ids[n:] == [store.end_id] * (LENGTH - n)
            answer = [i for i, role in zip(ids, roles, strict=True) if role == TARGET]
            assert ids[n - 1] == answer[-1] == store.end_id
            prompt = [i for i, role in zip(ids, roles, strict=True) if role == CONTEXT]
            texts.append((TOKENIZER.decode(prompt), TOKENIZER.decode(answer[:-1])))
    expected = [(p["prompt"], p["answer"]) for p in [*pairs(60), pairs(1)[0]]]
    assert sorted(itertools.chain(*found.values())) == sorted(expected)
    assert sum(len(set(texts)) for texts in found.values()) == len(set(expected))  # each on one side
    assert all(found.values())
    assert found["train"] != [pair for pair in expected if pair in set(found["train"])]  # shuffled


def test_counts_are_of_real_tokens(store):
    talk, prose = store.counts()
    splits = ("train", "decision", "test")
    roles = [store.roles(0, split) for split in splits]
    assert [talk[f"{split}_n_tokens"] for split in splits] == [(kinds != PADDING).sum() for kinds in roles]
    assert (talk["n_too_long"], talk["n_duplicates"], talk["train_n_sequences"]) == (1, 1, len(store.train(0)))
    assert sum(talk[f"{split}_n_bytes"] for split in splits) == sum(
        len((p["prompt"] + p["answer"]).encode()) for p in [*pairs(60), pairs(1)[0]]
    )
    assert "n_too_long" not in prose
    np.testing.assert_allclose(store.mean_lengths, [(roles[0] != PADDING).sum() / len(roles[0]), LENGTH])
    np.testing.assert_array_equal(store.domains.n_tokens, [talk["train_n_tokens"], len(store.train(1)) * LENGTH])
    half = store.limited([10, 5]).domains.n_tokens
    np.testing.assert_array_equal(half, [round(10 * store.mean_length(0)), 5 * LENGTH])


def test_roles_are_read_beside_the_tokens(store):
    picked = np.random.default_rng(0).integers(0, store.flat_offsets[-1], 50)
    roles = store.read_roles(picked)
    owner = np.searchsorted(store.flat_offsets, picked, side="right") - 1
    for index, j, row in zip(picked, owner, roles, strict=True):
        expected = store.roles(0, "train")[index] if j == 0 else np.full(LENGTH, TARGET)
        np.testing.assert_array_equal(row, expected)
    assert (store.is_chat(0), store.is_chat(1), store.has_chat) == (True, False, True)
    assert store.roles(1, "train") is None
    assert not store.subset(["prose"]).has_chat
    np.testing.assert_array_equal(copy.deepcopy(store).read_roles([0]), store.read_roles([0]))
    with pytest.raises(CorpusError, match="flat indices"):
        store.read_roles([store.flat_offsets[-1]])


def test_batches_of_a_text_store_are_what_they_were(store):
    text = store.subset(["prose"])
    item = SequenceDataset(text)[3]
    assert set(item) == {"input_ids", "labels"}
    assert item["labels"] is item["input_ids"]
    np.testing.assert_array_equal(item["input_ids"], text.train(0)[3])


def test_labels_pass_over_what_is_read_and_batches_lose_common_padding(store):
    data = SequenceDataset(store)
    first_text = int(store.flat_offsets[1])
    for order in ([0, 1, 2, 3], [0, first_text]):
        (batch,) = DataLoader(data, batch_size=len(order), sampler=order, collate_fn=trimmed)
        roles = torch.from_numpy(store.read_roles(order))
        longest = int((roles != PADDING).sum(dim=1).max())
        assert batch["input_ids"].shape == (len(order), longest)
        assert (longest < LENGTH) == (first_text not in order)
        kept = roles[:, :longest]
        np.testing.assert_array_equal(batch["input_ids"], store.read(order)[:, :longest])
        np.testing.assert_array_equal(batch["attention_mask"], kept != PADDING)
        np.testing.assert_array_equal(batch["labels"], batch["input_ids"].masked_fill(kept != TARGET, -100))


def test_only_what_changed_is_tokenised_again(folder, tmp_path):
    first = build(folder, tmp_path)
    for template, again in ((ChatTemplate.plain(), set()), (LINES, {"talk"})):
        events: list = []
        changed = build(folder, tmp_path, events=events, chat_template=template)
        assert {event.domain for event in events if event.stage == "tokenising"} == again
        assert (changed.manifest == first.manifest) == (not again)
        assert changed.domains.domains[0].fingerprint == first.domains.domains[0].fingerprint
    assert TokenStore.open(tmp_path).chat_templates == {"talk": LINES.fingerprint}
    text = build(folder, tmp_path, (TextSource("talk", ("talk.jsonl",), text_field="prompt"),))
    assert text.domains.domains[0].fingerprint != first.domains.domains[0].fingerprint


def test_most_must_fit_a_row(folder, tmp_path):
    write_jsonl(
        tmp_path / "long.jsonl", [{"prompt": f"{k} " + "word " * 60, "answer": "x"} for k in range(6)] + pairs(4)
    )
    source = TextSource("long", (str(tmp_path / "long.jsonl"),), format="chat")
    with pytest.raises(CorpusError, match=r"domain 'long': at least half.*6 of 10 longer ones.*raise corpus"):
        build(folder, tmp_path / "s", (source,))
    assert not [p for p in (tmp_path / "s").rglob("*") if ".tmp-" in p.name]
    assert not list((tmp_path / "s").glob("*/meta.json"))


@pytest.mark.parametrize(("n", "side"), [(1, "decision"), (2, "test")])
def test_fewer_than_three_conversations_are_too_few(folder, tmp_path, n, side):
    write_jsonl(tmp_path / "few.jsonl", pairs(n) * 5)
    source = TextSource("few", (str(tmp_path / "few.jsonl"),), format="chat")
    with pytest.raises(CorpusError, match=f"domain 'few' must have at least one conversation in its {side} part"):
        build(folder, tmp_path / "s", (source,))


def test_three_conversations_fill_every_side(folder, tmp_path):
    write_jsonl(tmp_path / "three.jsonl", [*pairs(3), *pairs(1) * 40])
    (row,) = build(
        folder, tmp_path / "s", (TextSource("three", (str(tmp_path / "three.jsonl"),), format="chat"),)
    ).counts()
    numbers = [row[f"{split}_n_sequences"] for split in ("train", "decision", "test")]
    assert sorted(numbers) == [1, 1, 41]


def test_a_template_that_fails_names_domain_and_conversation(folder, tmp_path):
    strict = ChatTemplate(
        "{% for m in messages %}{% if '7 + 7' in m.content %}{{ raise_exception('no sevens') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    with pytest.raises(CorpusError, match=r"domain 'talk', conversation 8: .*\(no sevens\)") as caught:
        build(folder, tmp_path, chat_template=strict)
    assert "\n" not in str(caught.value)


def test_damaged_roles_are_refused(folder, tmp_path):
    store = build(folder, tmp_path)
    file = tmp_path / store.entries[0]["folder"] / "train_roles.npy"
    np.testing.assert_array_equal(np.load(file), store.roles(0, "train"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CorpusError, match="damaged"):
        TokenStore.open(tmp_path).roles(0, "train")


def test_a_chat_dataset_is_read_through_the_datasets_library(folder, tmp_path):
    pytest.importorskip("datasets")
    spec = {"path": "json", "data_files": str(folder / "talk.jsonl"), "streaming": False, "cache_dir": str(tmp_path)}
    source = TextSource("talk", dataset=spec, format="chat")
    assert build(folder, tmp_path / "s", (source,)).counts()[0]["train_n_sequences"] > 0
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "x"}])
    source = TextSource("talk", dataset={**spec, "data_files": str(bad)}, format="chat")
    with pytest.raises(CorpusError, match="dataset json row 0: a conversation must have the field 'answer'"):
        build(folder, tmp_path / "s", (source,))


def test_metas_are_json_anyone_can_read(store):
    meta = json.loads((store.folder / store.entries[0]["folder"] / "meta.json").read_text())
    assert meta["chat_template"] == ChatTemplate.plain().fingerprint
    assert not list((store.folder / store.entries[0]["folder"]).glob("flat.*"))


SLOW_BUILD = """
import sys, time
from pathlib import Path
from evermix.corpus import StoreSettings, TextSource, build_store, load_tokenizer
data, store, tokenizer = map(Path, sys.argv[1:])
def slow(event):
    print(event.stage, flush=True)
    time.sleep(0.2)
build_store([TextSource("talk", ("talk.jsonl",), format="chat")], load_tokenizer(tokenizer), store,
            StoreSettings(24, 0.2, base=data), slow)
"""


@pytest.mark.parametrize("stage", ["tokenising", "packing"])
def test_a_killed_build_is_done_again(folder, tmp_path, stage):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    target = tmp_path / "s"
    command = [sys.executable, "-c", SLOW_BUILD, str(folder), str(target), str(tmp_path / "tokenizer.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.strip() == stage for line in process.stdout)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert list(target.glob("talk-*.tmp-*"))
    built, whole = (build(folder, path, SOURCES[:1]) for path in (target, tmp_path / "whole"))
    assert not list(target.glob("talk-*.tmp-*"))
    np.testing.assert_array_equal(built.train(0), whole.train(0))
    for side in ("decision", "test"):
        np.testing.assert_array_equal(built.roles(0, side), whole.roles(0, side))
