"""Parts of a corpus are disjoint, and the set of 64 domains is one that they can make."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from evermix.corpora import CORPORA

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parts_of_corpora", BENCHMARKS / "parts_of_corpora.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_document_belongs_to_the_first_part_that_matches(parts: ModuleType) -> None:
    entries = [{"name": "sea", "matching": "fish"}, {"name": "land", "matching": "(?m)^cow"}, {"name": "rest"}]
    documents = ["cow and fish", "a\ncow", "bird", "a cow"]
    found = list(parts.parted(documents, entries))
    assert [name for name, _ in found] == ["sea", "land", "rest", "rest"]
    assert [document for _, document in parts.parted(documents, entries[:2])] == documents[:2]


def test_a_recipe_gets_files_of_parts_and_whole_corpora_by_name(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "animals.jsonl"
    corpus.write_text('{"text": "fish"}\n{"text": "cow"}\n{"text": "two fish"}\n')
    monkeypatch.setattr(parts, "prepare", lambda name: corpus)
    whole = {"name": "stones", "registry": "stones", "max_bytes": 5}
    sea = {"name": "animals:sea", "registry": "animals", "matching": "fish", "max_bytes": 9}
    made = parts.in_recipe([whole, sea, {"name": "animals:land", "registry": "animals"}], tmp_path / "parts")
    assert made[0] == whole
    assert [Path(entry["files"][0]).read_text().count("\n") for entry in made[1:]] == [2, 1]
    assert made[1]["max_bytes"] == 9
    assert not {"registry", "matching"} & {*made[1], *made[2]}


def test_the_set_of_64_domains() -> None:
    chosen = yaml.safe_load((BENCHMARKS / "domain_sets" / "d64.yaml").read_text(encoding="utf-8"))
    sizes = {domain["name"]: domain["max_bytes"] for domain in chosen["domains"]}
    assert len(sizes) == len(chosen["domains"]) == 64
    assert all(domain["registry"] in CORPORA for domain in chosen["domains"])
    assert all(re.compile(domain.get("matching", "")) for domain in chosen["domains"])
    assert set(chosen["clean"]) == set(sizes) - {*chosen["junk"], *chosen["near_duplicates"]}
    assert max(sizes.values()) >= 30 * min(sizes.values())
    assert set(chosen["skewed"]) <= set(chosen["clean"])
    assert sum(chosen["skewed"].values()) == pytest.approx(1)
