"""The token store: what goes in comes out, once; nothing half-written is ever taken for whole."""

import copy
import json
import os
import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers

from evermix.corpus import StoreSettings, TextSource, TextTokenizer, TokenStore, build_store, train_bpe
from evermix.corpus.source import iterate
from evermix.errors import CorpusError, DomainError, ProjectError

LENGTH = 16
END = "<|endoftext|>"


def words(rng: np.random.Generator, n: int) -> str:
    return " ".join("".join(rng.choice(list("abcdefgh"), 4)) for _ in range(n))


@pytest.fixture
def corpus(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for name, n in (("large", 300), ("small", 40)):
        texts = [words(rng, int(rng.integers(5, 60))) for _ in range(n)]
        texts += texts[:5]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    (folder / "single.txt").write_text("\n".join(words(rng, 10) for _ in range(200)))
    return folder


SOURCES = (
    TextSource("web:large", ("large.jsonl",)),
    TextSource("small", ("*all.jsonl",)),
    TextSource("single", ("single.txt",)),
)


def tokenizer_of(corpus: Path):
    return train_bpe({s.name: iterate(s, corpus) for s in SOURCES}, 300)


def build(corpus: Path, folder: Path, sources=SOURCES, events=None, **options) -> TokenStore:
    settings = StoreSettings(**{"sequence_length": LENGTH, "base": corpus, **options})
    return build_store(sources, tokenizer_of(corpus), folder, settings, None if events is None else events.append)


def texts_of(store: TokenStore, sequences: np.ndarray) -> list[str]:
    """Documents that lie whole within packed sequences."""
    return store.tokenizer.decode(sequences.reshape(-1)).split(END)[:-1]


def sides_of(store: TokenStore, j: int) -> list[np.ndarray]:
    return [store.train(j), store.heldout(j, "decision"), store.heldout(j, "test")]


def test_sequences_hold_the_documents_of_their_side_and_no_other(corpus, tmp_path):
    store = build(corpus, tmp_path / "s", heldout_fraction=0.1)
    for j, source in enumerate(SOURCES[:2]):
        everything = list(iterate(source, corpus))
        train, decision, test = (texts_of(store, sequences) for sequences in sides_of(store, j))
        assert set(train) | set(decision) | set(test) <= set(everything)
        assert not set(train) & set(decision) | set(train) & set(test) | set(decision) & set(test)
        assert len(train) + len(decision) + len(test) >= len(everything) - 6  # but for the last, cut ones
        assert train != [t for t in everything if t in set(train)]  # shuffled
    whole = "".join(iterate(SOURCES[2], corpus))
    pieces = [set(texts_of(store, side)) for side in sides_of(store, 2)]
    assert all(piece in whole for side in pieces for piece in side)
    assert len(set.union(*pieces)) == sum(map(len, pieces))


def test_counts_add_up_to_the_corpus(corpus, tmp_path):
    store = build(corpus, tmp_path / "s")
    large, small, single = store.counts()
    assert (large["name"], large["n_duplicates"], small["n_duplicates"], single["n_duplicates"]) == (
        "web:large",
        5,
        5,
        0,
    )
    for source, row in zip(SOURCES, store.counts(), strict=True):
        texts = list(iterate(source, corpus))
        tokens = sum(map(len, store.tokenizer.encode_batch(texts)))
        splits = ("train", "decision", "test")
        assert sum(row[f"{split}_n_bytes"] for split in splits) == sum(len(t.encode()) for t in texts)
        if source.name != "single":
            assert sum(row[f"{split}_n_documents"] for split in splits) == len(texts)
            assert sum(row[f"{split}_n_tokens"] for split in splits) == tokens + len(texts)
        for split in splits:
            assert row[f"{split}_n_sequences"] == row[f"{split}_n_tokens"] // LENGTH > 0
    np.testing.assert_array_equal(store.domains.n_tokens, store.train_sizes * LENGTH)
    assert store.domains.names == ("web:large", "small", "single")


def test_flat_reads_equal_the_domains_sequences(corpus, tmp_path):
    store = build(corpus, tmp_path / "s")
    flat = np.concatenate([store.train(j) for j in range(3)])
    assert len(flat) == store.flat_offsets[-1]
    picked = np.random.default_rng(0).integers(0, len(flat), 100)
    np.testing.assert_array_equal(store.read(picked), flat[picked])
    assert store.read([]).shape == (0, LENGTH)
    assert store.read([0]).dtype == np.int64
    assert flat.dtype == np.uint16
    with pytest.raises(CorpusError, match="flat indices"):
        store.read([len(flat)])


@pytest.mark.parametrize("side", ["decision", "test"])
def test_bytes_measure_the_packed_text(corpus, tmp_path, side):
    store = build(corpus, tmp_path / "s")
    sequences = store.heldout(0, side)
    packed = store.tokenizer.decode(sequences.reshape(-1)).replace(END, "")
    assert store.heldout_bytes(0, side).shape == sequences.shape
    assert store.heldout_bytes(0, side).sum() == len(packed.encode())
    assert store.vocab_size == store.tokenizer.vocab_size
    assert store.end_id == 0


def test_bytes_are_those_of_the_documents_whatever_the_tokenizer_makes_of_them(tmp_path):
    texts = [f"{k} cafe\u0301 nai\u0308ve " + "u\u0308" * (k % 7) for k in range(400)]
    (tmp_path / "nfd.txt").write_text("\n".join(texts), encoding="utf-8")
    backend = train_bpe({"nfd": texts}, 300).backend
    backend.normalizer = normalizers.NFC()
    tokenizer = TextTokenizer(backend)
    settings = StoreSettings(sequence_length=LENGTH, base=tmp_path, heldout_fraction=0.3)
    store = build_store([TextSource("nfd", ("nfd.txt",), documents="line")], tokenizer, tmp_path / "s", settings)
    n_bytes = {tuple(tokenizer.encode_batch([text])[0]): len(text.encode()) for text in texts}
    for side in ("decision", "test"):
        flat, beside = store.heldout(0, side).reshape(-1), store.heldout_bytes(0, side).reshape(-1)
        ends = [0, *(np.flatnonzero(flat == store.end_id) + 1)]
        for start, end in pairwise(ends):
            assert beside[start:end].sum() == n_bytes[tuple(flat[start : end - 1].tolist())]
        assert len(ends) > 25


def test_a_second_build_tokenises_nothing_and_a_new_domain_only_itself(corpus, tmp_path):
    build(corpus, tmp_path / "s", SOURCES[:2])
    events: list = []
    build(corpus, tmp_path / "s", SOURCES[:2], events)
    assert {(e.domain, e.stage) for e in events} == {
        (n, s) for n in ("web:large", "small") for s in ("reading", "done")
    }
    events.clear()
    store = build(corpus, tmp_path / "s", SOURCES, events)
    assert {e.domain for e in events if e.stage == "tokenising"} == {"single"}
    opened = TokenStore.open(tmp_path / "s")
    assert opened.counts() == store.counts()
    assert opened.domains == store.domains


def test_the_key_is_the_content_not_the_path(corpus, tmp_path):
    first = build(corpus, tmp_path / "s")
    corpus = corpus.rename(tmp_path / "moved")
    os.utime(corpus / "small.jsonl", (1, 1))
    events: list = []
    assert build(corpus, tmp_path / "s", events=events).domains == first.domains
    assert not [e for e in events if e.stage == "tokenising"]
    with (corpus / "small.jsonl").open("a") as file:
        file.write('{"text": "one more document"}\n')
    events.clear()
    changed = build_store(SOURCES, first.tokenizer, tmp_path / "s", StoreSettings(LENGTH, base=corpus), events.append)
    assert {e.domain for e in events if e.stage == "tokenising"} == {"small"}
    assert [a == b for a, b in zip(changed.domains, first.domains, strict=True)] == [True, False, True]


def test_two_builds_are_equal_byte_for_byte(corpus, tmp_path):
    one, other = build(corpus, tmp_path / "a", workers=1), build(corpus, tmp_path / "b", workers=3)
    for j in range(3):
        for ours, theirs in zip(sides_of(one, j), sides_of(other, j), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_heldout_text_over_the_cap_is_not_trained_on(corpus, tmp_path):
    free, capped = (
        build(corpus, tmp_path / "s", heldout_fraction=0.3, heldout_max_sequences=cap) for cap in (10_000, 2)
    )
    for side in ("decision", "test"):
        assert [len(capped.heldout(j, side)) for j in range(3)] == [2, 2, 2]
        assert len(free.heldout(0, side)) > 50
    np.testing.assert_array_equal(free.train_sizes, capped.train_sizes)


@pytest.mark.parametrize("cap", [1, 7, 20])
def test_capped_sides_are_spread_over_all_their_documents(corpus, tmp_path, cap):
    """The first sequences would be those of a few documents; kept are every n-th, with their bytes."""
    every, capped = (
        build(corpus, tmp_path / "s", heldout_fraction=0.3, heldout_max_sequences=most) for most in (10_000, cap)
    )
    for side in ("decision", "test"):
        whole, kept = np.asarray(every.heldout(0, side)), np.asarray(capped.heldout(0, side))
        assert len(kept) == cap < len(whole)
        edges = np.arange(cap + 1) * len(whole) / cap
        places = [int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in kept]
        assert all(low <= place < high for place, (low, high) in zip(places, pairwise(edges), strict=True))
        lengths = np.asarray(every.heldout_bytes(0, side))[places]
        np.testing.assert_array_equal(np.asarray(capped.heldout_bytes(0, side)), lengths)


def test_a_store_travels_to_other_processes_without_its_maps(corpus, tmp_path):
    store = build(corpus, tmp_path / "s")
    store.train(0)
    sent = copy.deepcopy(store)  # by the same protocol as sending it to a worker
    assert not sent._maps
    np.testing.assert_array_equal(sent.read([3, 1]), store.read([3, 1]))


# ---- bad input


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if ".tmp-" in p.name]


def test_a_domain_shorter_than_a_sequence_is_named_with_its_count(corpus, tmp_path):
    (corpus / "tiny.txt").write_text("abc")
    with pytest.raises(
        CorpusError, match=r"domain 'tiny' must have at least one sequence of 16 tokens.*got '\d+ tokens"
    ):
        build(corpus, tmp_path / "s", (*SOURCES, TextSource("tiny", ("tiny.txt",))))
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "s" / "store.json").exists()


def test_a_text_shared_by_two_domains_is_on_one_side_in_both(tmp_path):
    rng = np.random.default_rng(1)
    shared, *own = ([words(rng, 20) for _ in range(150)] for _ in range(3))
    for name, texts in zip("ab", own, strict=True):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in [*texts, *shared])
        (tmp_path / f"{name}.jsonl").write_text(lines)
    sources = [TextSource(name, (f"{name}.jsonl",)) for name in "ab"]
    tokenizer = train_bpe({"shared": shared}, 300)
    settings = StoreSettings(LENGTH, heldout_fraction=0.3, base=tmp_path)
    store = build_store(sources, tokenizer, tmp_path / "s", settings)
    both = [[set(texts_of(store, side)) & set(shared) for side in sides_of(store, j)] for j in range(2)]
    for here in range(3):
        assert len(both[0][here]) > 10
        assert not any(both[0][here] & both[1][there] for there in range(3) if there != here)


@pytest.mark.parametrize(("sizes", "side"), [([60], "decision"), ([60, 60], "test"), ([3, 3, 3], "train")])
def test_a_domain_too_small_for_a_side_is_named_with_the_side(corpus, tmp_path, sizes, side):
    rng = np.random.default_rng(2)
    (corpus / "tiny.txt").write_text("\n".join(words(rng, n) for n in sizes))
    source = TextSource("tiny", ("tiny.txt",), documents="line")
    pattern = rf"domain 'tiny' must have at least one sequence of 16 tokens in its {side} part, got '\d+ tokens"
    with pytest.raises(CorpusError, match=pattern) as caught:
        build(corpus, tmp_path / "s", (source,))
    assert "\n" not in str(caught.value)


def test_three_documents_of_a_sequence_each_fill_every_side(corpus, tmp_path):
    (corpus / "three.txt").write_text("\n".join(words(np.random.default_rng(k), 60) for k in range(3)))
    store = build(corpus, tmp_path / "s", (TextSource("three", ("three.txt",), documents="line"),))
    assert all(len(side) for side in sides_of(store, 0))


def test_bad_files_are_found_before_anything_is_tokenised(corpus, tmp_path):
    (corpus / "bad.jsonl").write_text('{"text": "ok"}\n{"body": "?"}\n')
    events: list = []
    with pytest.raises(CorpusError, match=r"bad\.jsonl:2: a record must have the text field"):
        build(corpus, tmp_path / "s", (*SOURCES, TextSource("bad", ("bad.jsonl",))), events)
    assert not [e for e in events if e.stage == "tokenising"]
    assert not list((tmp_path / "s").glob("*/train.npy"))


def test_duplicate_names_and_bad_settings_are_refused(corpus, tmp_path):
    with pytest.raises(DomainError, match="unique"):
        build(corpus, tmp_path / "s", (SOURCES[0], SOURCES[0]))
    for options in ({"sequence_length": 1}, {"heldout_fraction": 0}, {"heldout_fraction": 1}, {"workers": 0}):
        with pytest.raises(CorpusError, match="must"):
            build(corpus, tmp_path / "s", **options)


def test_opening_what_is_not_a_store_is_refused(corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"must hold store\.json"):
        TokenStore.open(tmp_path)
    store = build(corpus, tmp_path / "s")
    (tmp_path / "s" / store.entries[1]["folder"] / "meta.json").unlink()
    with pytest.raises(CorpusError, match="part of the token store is gone"):
        TokenStore.open(tmp_path / "s")
    assert build(corpus, tmp_path / "s").counts() == store.counts()


def test_sequences_are_standard_npy_files_and_damaged_ones_are_refused(corpus, tmp_path):
    store = build(corpus, tmp_path / "s")
    file = tmp_path / "s" / store.entries[0]["folder"] / "train.npy"
    np.testing.assert_array_equal(np.load(file), store.train(0))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorpusError, match="damaged"):
        TokenStore.open(tmp_path / "s").train(0)
    file.unlink()
    with pytest.raises(CorpusError, match="gone"):
        TokenStore.open(tmp_path / "s").train(0)


@pytest.mark.parametrize("name", ["train.npy", "decision.npy", "test_bytes.npy", "meta.json", "surveys"])
def test_what_is_damaged_is_tokenised_again_and_said(corpus, tmp_path, caplog, name):
    store = build(corpus, tmp_path / "s")
    before = content_of(tmp_path / "s")
    folder = tmp_path / "s" / (name if name == "surveys" else store.entries[0]["folder"])
    file = next(folder.iterdir()) if name == "surveys" else folder / name
    raw = file.read_bytes()
    middle = len(raw) // 2
    file.write_bytes(raw[:middle] + bytes(min(64, len(raw) - middle)) + raw[middle + 64 :])
    if name != "surveys":
        with pytest.raises((CorpusError, ProjectError), match=name):
            TokenStore.open(tmp_path / "s")
    build(corpus, tmp_path / "s")
    assert str(file) in caplog.text
    assert content_of(tmp_path / "s") == before


def content_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_full_disk_leaves_nothing_half_written(corpus, tmp_path):
    """A limit on file size makes the system refuse real writes in mid-file, as a full disk does."""
    tokenizer = tokenizer_of(corpus)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CorpusError, match="disk must have room") as caught:
            build_store(SOURCES, tokenizer, tmp_path / "s", StoreSettings(LENGTH, base=corpus))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []
    assert not list((tmp_path / "s").glob("*/meta.json"))
    store = build_store(SOURCES, tokenizer, tmp_path / "s", StoreSettings(LENGTH, base=corpus))
    assert len(store.train(0)) > 0


SLOW_BUILD = """
import sys, time
from itertools import pairwise
from pathlib import Path
from evermix.corpus import StoreSettings, TextSource, build_store, load_tokenizer
data, store = Path(sys.argv[1]), Path(sys.argv[2])
names = [("web:large", "large.jsonl"), ("small", "*all.jsonl"), ("single", "single.txt")]
def slow(event):
    print(event.domain, event.stage, flush=True)
    time.sleep(0.2)
build_store([TextSource(n, (f,)) for n, f in names], load_tokenizer(data / "tokenizer.json"), store,
            StoreSettings(16, base=data, workers=1), slow)
"""


@pytest.mark.parametrize("stage", ["web:large tokenising", "web:large packing", "small packing"])
def test_a_killed_build_is_done_again(corpus, tmp_path, stage):
    tokenizer_of(corpus).save(corpus / "tokenizer.json")
    command = [sys.executable, "-c", SLOW_BUILD, str(corpus), str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.strip() == stage for line in process.stdout)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert leftovers(tmp_path)  # it was cut in the middle
    store, whole = build(corpus, tmp_path / "s"), build(corpus, tmp_path / "whole")
    assert leftovers(tmp_path) == []
    for j in range(3):
        np.testing.assert_array_equal(store.train(j), whole.train(j))
    assert store.counts() == whole.counts()
