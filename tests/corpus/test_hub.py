"""HuggingFace datasets, through the library's own local builders (no network)."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evermix.corpus import StoreSettings, TextSource, build_store, train_bpe
from evermix.corpus.source import iterate
from evermix.errors import CorpusError

TEXTS = [f"document number {i} says {i * 7}" for i in range(50)]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def dataset(tmp_path, kind: str, **more) -> TextSource:
    if kind == "json":
        path = tmp_path / "a.jsonl"
        path.write_text("".join(f'{{"n": {i}, "body": "{t}"}}\n' for i, t in enumerate(TEXTS)))
    else:
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"body": TEXTS}), path)
    return TextSource("hub", dataset={"path": kind, "data_files": str(path), **more}, text_field="body")


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_rows_are_streamed_in_order(tmp_path, kind):
    assert list(iterate(dataset(tmp_path, kind), tmp_path)) == TEXTS


def test_a_store_is_built_from_a_dataset_and_notices_its_change(tmp_path):
    source = dataset(tmp_path, "json")
    tokenizer = train_bpe({"hub": TEXTS}, 300)
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
