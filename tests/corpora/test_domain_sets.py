"""The benchmark's domain sets name known corpora and have the shape that was promised before the experiments."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evermix.corpora import CORPORA

FOLDER = Path(__file__).parents[2] / "benchmarks" / "domain_sets"


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_domain_set(name: str) -> None:
    chosen = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    sizes = {domain["name"]: domain["max_bytes"] for domain in chosen["domains"]}
    assert all(domain["registry"] in CORPORA for domain in chosen["domains"])
    odd = {*chosen["junk"], *chosen["near_duplicates"]}
    assert set(chosen["clean"]) == set(sizes) - odd
    assert len(chosen["clean"]) >= 8
    assert max(sizes.values()) >= 20 * min(sizes.values())
    assert all(sizes[domain] >= sorted(sizes.values())[len(sizes) // 2] for domain in odd)
    assert set(chosen["skewed"]) <= set(chosen["clean"])
    assert sum(chosen["skewed"].values()) == pytest.approx(1)


def test_the_sets_share_no_corpus() -> None:
    a, b = (yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) for name in "ab")
    assert not {d["registry"] for d in a["domains"]} & {d["registry"] for d in b["domains"]}


def test_set_a_needs_only_pip_and_npm() -> None:
    a = yaml.safe_load((FOLDER / "a.yaml").read_text(encoding="utf-8"))
    assert all(CORPORA[domain["registry"]].kind != "debian" for domain in a["domains"])


def test_set_c_is_large() -> None:
    c = yaml.safe_load((FOLDER / "c.yaml").read_text(encoding="utf-8"))
    assert len(c["domains"]) == 24
    assert len(c["junk"]) == len(c["near_duplicates"]) == 2
    assert len(c["skewed"]) == 4
