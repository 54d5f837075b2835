"""Readers: every format and dataset gives the same documents; bad input names file and place in one line.

Datasets go through the library's own local builders (no network).
"""

from __future__ import annotations

import glob
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.corpus import StoreSettings, TextSource, build_store, train_bpe
from evermix.corpus.patterns import find_files, matches, remarks
from evermix.corpus.readers import format_of, read_documents
from evermix.corpus.source import iterate, source_files
from evermix.errors import CorpusError

TEXTS = ["first line\nsecond line", "Ünïcödé — 語 🙂", "a\tb\\n", "x" * 3000]


def read(folder: Path, *files: str, **options) -> list[str]:
    return list(iterate(TextSource("d", files, **options), folder))


def jsonl(texts, field="text") -> bytes:
    return "".join(
        json.dumps({"id": i, field: t}, ensure_ascii=i % 2 == 0) + "\n" for i, t in enumerate(texts)
    ).encode()


def refused(folder: Path, *files: str, **options) -> str:
    with pytest.raises(CorpusError) as caught:
        read(folder, *files, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def complaint(path: Path) -> str:
    """What is wrong with a file, or nothing when it reads as text; any other exception escapes."""
    try:
        texts = list(read_documents(path, format_of(path), "text", "paragraph"))
    except CorpusError as error:
        return str(error)
    return "" if all(isinstance(text, str) for text in texts) else "\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_every_record_format_gives_the_same_documents(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"id": [0, 1, 2, 3], "text": TEXTS}), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(jsonl(TEXTS)))
    elif name.endswith(".zst"):
        half = len(jsonl(TEXTS)) // 2  # two frames, as parallel compressors write
        frames = [jsonl(TEXTS)[:half], jsonl(TEXTS)[half:]]
        path.write_bytes(b"".join(zstandard.ZstdCompressor().compress(f) for f in frames))
    else:
        path.write_bytes(jsonl(TEXTS))
    assert read(tmp_path, name) == TEXTS


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1, max_size=8)
)
@settings(max_examples=30, deadline=None)
def test_any_text_survives_the_record_formats(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("f")
    (folder / "a.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(b"\n" + jsonl(texts)))
    pq.write_table(pa.table({"body": pa.array(texts, pa.large_string())}), folder / "a.parquet")
    assert read(folder, "a.jsonl.zst") == texts
    assert read(folder, "a.parquet", text_field="body") == texts


def test_dictionary_columns_and_large_parquet_files_are_streamed(tmp_path):
    texts = [f"document {i}" for i in range(5000)]
    table = pa.table({"text": pa.array(texts).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    assert read(tmp_path, "a.parquet") == texts


def test_plain_text_is_a_file_a_paragraph_or_a_line(tmp_path):
    content = "one\r\ntwo\n\n \nthree\nfour"
    (tmp_path / "a.md").write_bytes(content.encode())
    (tmp_path / "b.py.gz").write_bytes(gzip.compress(content.encode()))
    for name in ("a.md", "b.py.gz"):
        assert read(tmp_path, name) == [content]
        assert read(tmp_path, name, documents="paragraph") == ["one\ntwo", "three\nfour"]
        assert read(tmp_path, name, documents="line") == ["one", "two", "three", "four"]


def test_a_line_longer_than_a_block_is_one_line(tmp_path):
    long = "y" * 3_000_000
    (tmp_path / "a.txt").write_text(f"short\n{long}\nend")
    assert read(tmp_path, "a.txt", documents="line") == ["short", long, "end"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(["hello"]))
    assert read(tmp_path, "a.txt") == read(tmp_path, "a.jsonl") == ["hello"]


def test_globs_are_sorted_recursive_and_can_exclude(tmp_path):
    for name in ("b.txt", "a.txt", "deep/er/c.txt", "deep/skip.txt", "empty.txt", ".hidden.txt", "odd[1].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if name == "empty.txt" else name)
    assert read(tmp_path, "**/*.txt", "!deep/skip.txt") == ["a.txt", "b.txt", "deep/er/c.txt", "odd[1].txt"]
    assert read(tmp_path, "b.txt", "*.txt") == ["b.txt", "a.txt", "odd[1].txt"]
    assert read(tmp_path, "odd[1].txt") == ["odd[1].txt"]
    assert source_files(TextSource("d", (str(tmp_path / "a.txt"),)), Path("elsewhere")) == (tmp_path / "a.txt",)


TREE = ("a.txt", "b.md", "sub/c.txt", "sub/.hid/d.txt", "sub/deep/er/e.txt", ".top.txt", "odd[1].txt", "sub/x y/f.txt")
SEGMENTS = ("**", "*", "sub", "*.txt", "?.txt", "[ab].*", "deep", ".hid", "s*", ".*", "..", "er", "odd[[]1].txt")


@given(st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_glob_without_links_matches_as_the_standard_library_says(tmp_path_factory, segments):
    folder = tmp_path_factory.getbasetemp() / "tree/1/2/3/4/5"
    for name in TREE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    pattern = "/".join(segments)
    expected = {Path(p) for p in glob.glob(str(folder / pattern), recursive=True) if Path(p).is_file()}
    found = matches(pattern, folder).files
    assert {p.resolve() for p in found} == {p.resolve() for p in expected}
    if ".." not in segments:
        assert found == tuple(sorted(expected)) == matches(str(folder / pattern), Path("elsewhere")).files


def linked(folder: Path) -> Path:
    """a.txt and sub/b.txt; links to the folder itself, to its parent and to both files; three names of sub."""
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    for name, target in (
        ("sub/up", ".."),
        ("self", "."),
        ("also", "sub"),
        ("sub/c.txt", "../a.txt"),
        ("z.txt", "a.txt"),
    ):
        (folder / name).symlink_to(target)
    return folder


def test_every_file_counts_once_whatever_leads_to_it(tmp_path):
    folder = linked(tmp_path / "data")
    for patterns in (
        ["data/**/*.txt"],
        ["data/**/*"],
        ["data/**"],
        ["data/*.txt", "data/sub/*.txt", "data/also/*.txt"],
    ):
        found = find_files("d", patterns, tmp_path)
        assert {path.resolve() for path in found.files} == {folder / "a.txt", folder / "sub" / "b.txt"}
        assert len(found.files) == 2
        (remark,) = remarks({"d": found})
        assert "the same files are found by another name" in remark
    assert read(folder, "sub/../a.txt", "a.txt", "./a.txt", "self/self/a.txt") == ["a"]
    assert find_files("d", ["a.txt", "a.txt"], folder).repeated == ()


def test_a_folder_that_a_link_leads_to_is_read(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "part.txt").write_text("far")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "near").symlink_to("../far")
    (tmp_path / "data" / "again").symlink_to("../far")
    assert read(tmp_path, "data/**/*.txt") == read(tmp_path, "data/near/*") == ["far"]


def test_a_link_or_its_file_can_be_left_out(tmp_path):
    folder = linked(tmp_path / "data")
    assert read(tmp_path, "data/**/*.txt", "!data/z.txt", "!data/sub/c.txt") == ["a", "b"]
    assert read(tmp_path, "data/**/*.txt", "!data/a.txt") == ["b"]
    assert read(tmp_path, "data/**/*.txt", "!data/also/**") == ["a", "b"]
    (tmp_path / "link").symlink_to(folder)
    assert read(tmp_path / "link", "**/*.txt", "!a.txt") == ["b"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to("gone.txt")
    (tmp_path / "c.txt").symlink_to("c.txt")
    assert f"link {tmp_path / 'b.txt'} must lead to a file, got 'a link to gone.txt'" in refused(tmp_path, "*.txt")
    assert "c.txt" in refused(tmp_path, "a.txt", "c.txt")
    assert read(tmp_path, "*.txt", "!b.txt", "!c.txt") == ["a"]


def test_domains_that_share_a_file_are_named(tmp_path):
    folder = linked(tmp_path / "data")
    found = {"x": find_files("x", ["a.txt"], folder), "y": find_files("y", ["z.txt", "sub/b.txt"], folder)}
    assert list(remarks(found)) == [
        f"domains 'x' and 'y' both read {folder / 'z.txt'}; that text counts in each of them"
    ]
    assert list(remarks({"x": found["x"]})) == []


def test_many_links_between_folders_end(tmp_path):
    """Every folder links to every other: paths are without number, folders are twelve."""
    for i in range(12):
        (tmp_path / f"f{i}").mkdir()
        (tmp_path / f"f{i}" / "t.txt").write_text(f"{i}")
        for j in range(12):
            (tmp_path / f"f{i}" / f"to{j}").symlink_to(f"../f{j}")
    assert sorted(read(tmp_path, "**/*.txt"), key=int) == [str(i) for i in range(12)]
    assert sorted(read(tmp_path, "*/*/**/*.txt"), key=int) == [str(i) for i in range(12)]


def test_max_bytes_is_exact_and_never_splits_a_character(tmp_path):
    (tmp_path / "a.txt").write_text("aaaa\nüüü\nbbb")
    assert read(tmp_path, "a.txt", documents="line", max_bytes=7) == ["aaaa", "ü"]
    assert read(tmp_path, "a.txt", documents="line", max_bytes=100) == ["aaaa", "üüü", "bbb"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JSONL.GZ", "jsonl"), ("a.pq", "parquet"), ("README", "text"), ("x.zst", "text"), ("x.tar.gz", "text")],
)
def test_format_goes_by_name(name, expected):
    assert format_of(Path(name)) == expected


# ---- bad input


def test_missing_files_and_empty_globs_are_named(tmp_path):
    assert f"{tmp_path / 'no.txt'}" in refused(tmp_path, "no.txt")
    assert "glob must match" in refused(tmp_path, "*.parquet")
    (tmp_path / "sub").mkdir()
    assert "sub/**/*" in refused(tmp_path, "sub")
    (tmp_path / "a.txt").write_text("a")
    assert "keep at least one file" in refused(tmp_path, "a.txt", "!*.txt")


def test_empty_and_blank_files_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.txt").write_text(" \n \n")
    assert "empty.jsonl must not be empty" in refused(tmp_path, "empty.jsonl")
    assert "all of it is blank" in refused(tmp_path, "blank.txt")
    assert "all of it is blank" in refused(tmp_path, "*.jsonl")


def test_no_text_field_lists_what_there_is(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(["x"], field="content"))
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    assert "a.jsonl:1: " in refused(tmp_path, "a.jsonl")
    assert "fields found: id, content" in refused(tmp_path, "a.jsonl")
    assert "fields found: body, n" in refused(tmp_path, "a.parquet")


def test_text_that_is_no_string_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "ok"}\n\n{"text": 3}\n')
    (tmp_path / "n.jsonl").write_text('{"text": null}\n')
    (tmp_path / "s.jsonl").write_text('{"text": "\\ud800"}\n')
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["x", None]}), tmp_path / "n.parquet")
    assert "a.jsonl:3: text field 'text' must be a string, got 'int'" in refused(tmp_path, "a.jsonl")
    assert "NoneType" in refused(tmp_path, "n.jsonl")
    assert "surrogate" in refused(tmp_path, "s.jsonl")
    assert "int64" in refused(tmp_path, "a.parquet")
    assert "n.parquet row 1" in refused(tmp_path, "n.parquet")


@pytest.mark.parametrize("line", ["{", "[1, 2]", '"text"', "{'text': 'x'}", "[" * 100_000, '{"text": "x"} x'])
def test_invalid_json_names_the_line(tmp_path, line):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    assert "a.jsonl:2 must be" in refused(tmp_path, "a.jsonl")


@pytest.mark.parametrize("documents", ["file", "paragraph", "line"])
def test_bytes_that_are_not_utf8_are_located(tmp_path, documents):
    (tmp_path / "a.txt").write_bytes("é one\n\ntwo".encode() + b"\n\xe9t\xe9")
    assert "byte 12 is not, got b'\\xe9'" in refused(tmp_path, "a.txt", documents=documents)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "\xff"}\n')
    assert "byte 25 is not" in refused(tmp_path, "a.jsonl")


@pytest.mark.parametrize("cut", [5, 20, 60, -4, -1])
def test_truncated_archives_are_refused(tmp_path, cut):
    content = jsonl([f"some text {i * i}" for i in range(40)])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content)[:cut])
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(content)[:cut])
    assert "a.jsonl.gz must be whole" in refused(tmp_path, "a.jsonl.gz")
    assert "a.jsonl.zst must be whole" in refused(tmp_path, "a.jsonl.zst")


@given(st.binary(min_size=1, max_size=400), st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a"]))
@settings(max_examples=150, deadline=None)
def test_random_bytes_give_text_or_a_corpus_error(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    message = complaint(path)
    assert "\n" not in message
    assert not message or str(path) in message


@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["gz", "zst", "parquet"]))
@settings(max_examples=120, deadline=None)
def test_one_flipped_byte_gives_text_or_a_corpus_error(tmp_path_factory, place, value, kind):
    folder = tmp_path_factory.mktemp("flip")
    path = folder / ("a.parquet" if kind == "parquet" else f"a.jsonl.{kind}")
    if kind == "parquet":
        pq.write_table(pa.table({"text": TEXTS}), path)
    else:
        pack = gzip.compress if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
        path.write_bytes(pack(jsonl(TEXTS)))
    damaged = bytearray(path.read_bytes())
    damaged[place % len(damaged)] = value
    path.write_bytes(damaged)
    assert "\n" not in complaint(path)


def test_a_source_needs_exactly_one_origin():
    with pytest.raises(CorpusError, match="either files or a dataset"):
        TextSource("d")
    with pytest.raises(CorpusError, match="either files or a dataset"):
        TextSource("d", ("a",), {"path": "x"})
    with pytest.raises(CorpusError, match="max_bytes > 0"):
        TextSource("d", ("a",), max_bytes=0)


ROWS = [f"document number {i} says {i * 7}" for i in range(50)]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def dataset(tmp_path, kind: str, **more) -> TextSource:
    if kind == "json":
        path = tmp_path / "a.jsonl"
        path.write_text("".join(f'{{"n": {i}, "body": "{t}"}}\n' for i, t in enumerate(ROWS)))
    else:
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"body": ROWS}), path)
    return TextSource("hub", dataset={"path": kind, "data_files": str(path), **more}, text_field="body")


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_rows_are_streamed_in_order(tmp_path, kind):
    assert list(iterate(dataset(tmp_path, kind), tmp_path)) == ROWS


def test_a_store_is_built_from_a_dataset_and_notices_its_change(tmp_path):
    source = dataset(tmp_path, "json")
    tokenizer = train_bpe({"hub": ROWS}, 300)
    first = build_store([source], tokenizer, tmp_path / "s", StoreSettings(8))
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"n": 1, "body": "one more"}\n')
    assert build_store([source], tokenizer, tmp_path / "s", StoreSettings(8)).domains != first.domains


def test_bad_datasets_are_refused(tmp_path):
    good = dataset(tmp_path, "json")
    with pytest.raises(CorpusError, match=r"row 0: a record must have the text field 'text'.*fields found: n, body"):
        list(iterate(TextSource("hub", dataset=good.dataset), tmp_path))
    with pytest.raises(CorpusError, match="must be loadable") as caught:
        list(iterate(dataset(tmp_path, "json", split="validation"), tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(CorpusError, match="must be loadable"):
        list(iterate(TextSource("hub", dataset={"path": str(tmp_path / "none")}), tmp_path))
    with pytest.raises(CorpusError, match="name its `path`"):
        list(iterate(TextSource("hub", dataset={"split": "train"}), tmp_path))


def test_secrets_of_a_dataset_come_from_the_environment_and_are_not_shown(tmp_path, monkeypatch):
    with pytest.raises(CorpusError, match="token refers to the environment variable A_TOKEN, which is not set"):
        list(iterate(dataset(tmp_path, "json", token="$A_TOKEN"), tmp_path))
    monkeypatch.setenv("A_TOKEN", "s3cret")
    assert list(iterate(dataset(tmp_path, "json", token="${A_TOKEN}"), tmp_path)) == ROWS
    with pytest.raises(CorpusError, match="token was hidden when it was written down"):
        list(iterate(dataset(tmp_path, "json", token="***"), tmp_path))
    for more in (
        {"password": "s3cret"},
        {"secret": "s3cret", "name": "s3cret"},
        {"split": "s3cret", "token": "s3cret"},
    ):
        source = dataset(tmp_path, "json", **more)
        with pytest.raises(CorpusError, match="must be loadable") as caught:
            list(iterate(source, tmp_path))
        assert "s3cret" not in str(caught.value) + repr(source)
