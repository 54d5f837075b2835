"""Readers: every format and dataset gives the same documents; bad input names file and place in one line.

Datasets go through the library's own local builders (no network).
"""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import json
import lzma
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.corpus import StoreSettings, TextSource, blocks, build_store, train_bpe
from evermix.corpus.looking import look
from evermix.corpus.patterns import find_files, matches, remarks
from evermix.corpus.readers import format_of, read_documents, read_records
from evermix.corpus.source import conversations, iterate, source_files
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
    with contextlib.suppress(CorpusError):
        look(path)
    try:
        texts = list(read_documents(path, "auto", "text", "paragraph"))
    except CorpusError as error:
        return str(error)
    return "" if all(isinstance(text, str) for text in texts) else "\n"


def zstd(content: bytes) -> bytes:
    """Two frames after one to skip, as parallel compressors write, with the window of `--long=28`."""
    window = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    half = len(content) // 2
    packers = [zstandard.ZstdCompressor(compression_params=window).compressobj() for _ in range(2)]
    frames = [p.compress(part) + p.flush() for p, part in zip(packers, (content[:half], content[half:]), strict=True)]
    return b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab" + b"".join(frames)


PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}
OTHER_NAMES = {".gzip": ".gz", ".zstd": ".zst"}
SHARDS = ["", "-00000-of-00002", ".00001-of-00010", ".17"]


@pytest.mark.parametrize("packed", [*PACKERS, *OTHER_NAMES])
@pytest.mark.parametrize("kind", ["jsonl", "json", "ndjson", "jsonlines", "jl", "JSONL", "parquet", "pq"])
def test_every_record_format_gives_the_same_documents(tmp_path, kind, packed):
    """However it is compressed, and whether the shard's number comes before or after that."""
    if kind in ("parquet", "pq"):
        pq.write_table(pa.table({"id": [0, 1, 2, 3], "text": TEXTS}), tmp_path / "plain")
        content = (tmp_path / "plain").read_bytes()
    else:
        content = jsonl(TEXTS)
    content = PACKERS[OTHER_NAMES.get(packed, packed)](content)
    for shard in SHARDS:
        for name in {f"a.{kind}{shard}{packed}", f"a.{kind}{packed}{shard}", f"a{shard}.{kind}{packed}"}:
            (tmp_path / name).write_bytes(content)
            assert read(tmp_path, name) == TEXTS


@pytest.mark.parametrize("pack", PACKERS.values())
def test_compression_and_parquet_are_told_by_content(tmp_path, pack):
    (tmp_path / "a.jsonl").write_bytes(pack(jsonl(TEXTS)))
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "part-00000")
    (tmp_path / "b").write_bytes(pack((tmp_path / "part-00000").read_bytes()))
    assert read(tmp_path, "a.jsonl") == read(tmp_path, "part-00000") == read(tmp_path, "b") == TEXTS


def test_what_is_compressed_by_name_alone_is_refused(tmp_path):
    for suffix in (".gz", ".zst", ".bz2", ".xz"):
        (tmp_path / f"a.jsonl{suffix}").write_bytes(jsonl(TEXTS))
        assert "rename it if it is not compressed" in refused(tmp_path, f"a.jsonl{suffix}")


def test_archives_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "in.txt").write_text("text")
    for kind, name in (("zip", "a.zip"), ("tar", "a.tar"), ("gztar", "a.tar.gz"), ("xztar", "a.tar.xz")):
        shutil.make_archive(str(tmp_path / "a"), kind, tmp_path, "in.txt")
        assert "archive. Hint: unpack it" in refused(tmp_path, name)
    (tmp_path / "b.txt").write_bytes(b"\x04\x22\x4d\x18 and so on")
    assert "compress it again, as .gz" in refused(tmp_path, "b.txt")


@pytest.mark.parametrize("content", [jsonl(TEXTS), jsonl(["one"]), json.dumps([{"a": 1}, {"a": 2}], indent=1).encode()])
@pytest.mark.parametrize("name", ["a.txt", "part-00000", "a.dat.gz"])
def test_text_that_looks_like_json_lines_is_refused_with_the_key_to_set(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert "set `format: jsonl`" in refused(tmp_path, name)
    assert read(tmp_path, name, format="text") == [content.decode()]


@pytest.mark.parametrize(
    "content", ['{"a": 1}\nand prose', '{ return "x"; }', "[1] A. Author", '{\n  "a": 1\n}\n', "{}"]
)
def test_text_with_braces_is_text(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    assert read(tmp_path, "a.txt") == [content]


@given(
    st.lists(st.fixed_dictionaries({"text": st.text(st.characters(exclude_categories=["Cs"])), "n": st.integers()})),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(["", " ", "\r\n"]),
)
@settings(max_examples=40, deadline=None)
def test_an_array_of_records_is_read_as_its_lines_are(tmp_path_factory, records, indent, blank):
    path = tmp_path_factory.getbasetemp() / "a.json"
    path.write_text(blank + json.dumps(records, indent=indent, ensure_ascii=False) + blank, newline="")
    assert [record for _, record in read_records(path)] == records


@pytest.mark.parametrize(
    "content",
    ['[{"text": "a"}', '[{"text": "a"},', '[{"text": "a"} {"text": "b"}]', "[3]", '[{"text": "a"}] x', "[", "[,"],
)
def test_an_array_that_is_not_whole_names_the_record(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert re.search(r"a\.json record [12] must be", refused(tmp_path, "a.json"))


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "a", "meta": {"k": 1}, "text": "b"}\n')
    assert "a.jsonl:2 must be valid JSON (key 'text' is given twice)" in refused(tmp_path, "a.jsonl")
    (tmp_path / "a.json").write_text('[{"text": "a"}, {"meta": {"k": 1, "k": 1}, "text": "b"}]')
    assert "a.json record 2 must be valid JSON (key 'k' is given twice)" in refused(tmp_path, "a.json")


def test_a_text_field_may_lie_within_another(tmp_path):
    records = [{"id": 1, "doc": {"text": text, "n": {"m": 2}}} for text in TEXTS]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    (tmp_path / "dotted.jsonl").write_text('{"doc.text": "dotted", "doc": {"text": "nested"}}')
    for name in ("a.jsonl", "a.parquet"):
        assert read(tmp_path, name, text_field="doc.text") == TEXTS
        assert "fields found: id, doc.text, doc.n.m; set text_field" in refused(tmp_path, name)
        assert "must have the text field 'doc.body'" in refused(tmp_path, name, text_field="doc.body")
        assert "must be a string" in refused(tmp_path, name, text_field="doc.n")
    assert read(tmp_path, "dotted.jsonl", text_field="doc.text") == ["dotted"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_machine(tmp_path, end, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 7)  # ends fall on both sides of a block
    lines = ["one", "", "", "two two two", "three", "  ", "x" * 40, "last"]
    (tmp_path / "a.txt").write_bytes((end.join(lines) + end).encode())
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS).replace(b"\n", end.encode()))
    assert read(tmp_path, "a.txt", documents="line") == [line for line in lines if line.strip()]
    assert read(tmp_path, "a.txt", documents="paragraph") == ["one", "two two two\nthree", "x" * 40 + "\nlast"]
    assert read(tmp_path, "a.jsonl") == TEXTS
    found = list(blocks.read_lines(tmp_path / "a.txt"))
    assert [(number, raw.decode()) for number, _, raw in found] == list(enumerate(lines, 1))
    content = (tmp_path / "a.txt").read_bytes()
    assert all(content[offset:].startswith(raw) for _, offset, raw in found)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_and_nul_bytes_are_refused(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("some words\n".encode(encoding))
    (tmp_path / "a.jsonl").write_bytes(jsonl(["x"]).decode().encode(encoding))
    for name in ("a.txt", "a.jsonl"):
        assert "convert the file to UTF-8" in refused(tmp_path, name)
    (tmp_path / "b.txt").write_bytes(b"two lines\nand\0 a NUL")
    for documents in ("file", "paragraph", "line"):
        assert "byte 13 is not, got b'\\x00'" in refused(tmp_path, "b.txt", documents=documents)


def test_a_small_file_that_unpacks_to_more_than_a_record_may_hold_is_refused(tmp_path, monkeypatch):
    """By file and line, and by no more memory than the limit; records within it are read however many they are."""
    monkeypatch.setattr(blocks, "MOST_RECORD_BYTES", 300_000)
    record = b'{"text": "' + b"a" * 2_000_000 + b'"}\n'
    for suffix, pack in PACKERS.items():
        (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(jsonl(["fine"]) + record))
        assert f"a.jsonl{suffix}:2: a line must hold at most 0.3 MB" in refused(tmp_path, f"a.jsonl{suffix}")
    (tmp_path / "a.json").write_bytes(b'[{"text": "' + b'a",\n"' * 100_000)
    assert "a.json record 1" in refused(tmp_path, "a.json")
    (tmp_path / "a.txt").write_bytes(b"line\n" * 100_000)
    assert "set `documents: paragraph`" in refused(tmp_path, "a.txt")
    assert "a paragraph must hold at most 0.3 MB. Hint: set `documents: line`" in refused(
        tmp_path, "a.txt", documents="paragraph"
    )
    assert len(read(tmp_path, "a.txt", documents="line")) == 100_000
    pq.write_table(pa.table({"text": ["fine", "a" * 2_000_000]}), tmp_path / "a.parquet")
    assert "a.parquet row 1: a document must hold at most 0.3 MB" in refused(tmp_path, "a.parquet")


def test_a_bomb_is_unpacked_piece_by_piece(tmp_path):
    """1 GB of one line in 50 kB: the process grows by the limit and not by that."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    with (tmp_path / "a.txt.zst").open("wb") as file:
        for _ in range(64):
            file.write(packer.compress(b"a" * (1 << 24)))
        file.write(packer.flush())
    program = (
        "import resource, sys; from pathlib import Path; from evermix.corpus.readers import read_documents\n"
        "try: list(read_documents(Path(sys.argv[1]), 'text', 'text', 'line'))\n"
        "except Exception as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.txt.zst")]
    said, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "a.txt.zst:1: a line must hold at most 256 MB" in said
    assert int(peak) < 1000


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
@settings(max_examples=100, deadline=None)
def test_a_glob_without_links_matches_as_the_standard_library_says(tmp_path_factory, segments):
    folder = tmp_path_factory.getbasetemp() / "tree/1/2/3/4/5"
    for name in TREE if not folder.exists() else ():
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
    assert "must lead to a file" in refused(tmp_path, "**/*.txt")
    assert "must lead to a file" in refused(tmp_path, "**")
    assert read(tmp_path, "*.txt", "!b.txt", "!c.txt") == ["a"]


def test_domains_that_share_a_file_are_named(tmp_path):
    folder = linked(tmp_path / "data")
    found = {"x": find_files("x", ["a.txt"], folder), "y": find_files("y", ["z.txt", "sub/b.txt"], folder)}
    line = f"domains 'x' and 'y' both read {folder / 'z.txt'}; that text counts in each of them"
    assert remarks(found) == remarks(found, [["x"], ["y", "x"], ["x", "y"]]) == [line]
    assert remarks(found, [["x"], ["y"]]) == remarks({"x": found["x"]}) == []


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
    [
        ("a.JSONL.GZ", "jsonl"),
        ("a.pq", "parquet"),
        ("README", "text"),
        ("x.zst", "text"),
        ("x.tar.gz", "text"),
        ("v1.0", "text"),
        ("a.jl.3", "jsonl"),
    ],
)
def test_format_goes_by_name(name, expected):
    assert format_of(Path(name)) == expected


# ---- bad input

KEYS = (
    "messages",
    "conversations",
    "prompt",
    "answer",
    "instruction",
    "input",
    "output",
    "history",
    "system",
    "text",
    "doc",
)
KEYS += ("role", "from", "value", "content", "tools", "weight", "tool_calls")


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
    for suffix in (".xz", ".bz2"):
        (tmp_path / f"a.jsonl{suffix}").write_bytes(PACKERS[suffix](content)[:cut])
        assert f"a.jsonl{suffix} must be whole" in refused(tmp_path, f"a.jsonl{suffix}")
    assert "a.jsonl.gz must be whole" in refused(tmp_path, "a.jsonl.gz")
    assert "a.jsonl.zst must be whole" in refused(tmp_path, "a.jsonl.zst")


@given(
    st.binary(min_size=1, max_size=400),
    st.sampled_from(["a.jsonl", "a.json.gz", "a.jsonl.zst", "a.txt.xz", "a.bz2", "a.parquet", "a"]),
)
@settings(max_examples=150, deadline=None)
def test_random_bytes_give_text_or_a_corpus_error(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    message = complaint(path)
    assert "\n" not in message
    assert not message or str(path) in message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS_OF_RECORDS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5)


@given(st.lists(KEYS_OF_RECORDS, min_size=1, max_size=3), st.sampled_from(["text", "doc.text"]))
@settings(max_examples=40, deadline=None)
def test_any_records_give_text_or_a_corpus_error(tmp_path_factory, records, field):
    """As text, as conversations, and when they are looked into."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    for attempt in (
        lambda: look(path),
        lambda: list(read_documents(path, "jsonl", field, "file")),
        lambda: list(conversations(TextSource("d", ("any.jsonl",), format="chat"), path.parent)),
    ):
        with contextlib.suppress(CorpusError):
            attempt()


def test_deep_records_are_read(tmp_path):
    deep = '{"a": ' * 900 + "1" + "}" * 900
    (tmp_path / "a.jsonl").write_text(f'{{"deep": {deep}, "text": "words"}}\n')
    assert look(tmp_path / "a.jsonl").text_field == "text"
    assert read(tmp_path, "a.jsonl") == ["words"]
    assert "fields found: deep.a.a" in refused(tmp_path, "a.jsonl", text_field="none")


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
