"""The page: whole, self-contained, safe for any name, and there for unfinished projects too."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import evermix as em
from evermix.errors import ProjectError
from evermix.ledger import Ledger

from .synthetic_result import NAMES, result

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Balance(HTMLParser):
    """Collects ids and text, and notes tags that are closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(project: Path, content: dict[str, object] | None) -> tuple[str, Balance]:
    project.mkdir(exist_ok=True)
    if content is not None:
        (project / "result.json").write_text(json.dumps(content), encoding="utf-8")
    page = em.report(project).read_text(encoding="utf-8")
    parsed = Balance()
    parsed.feed(page)
    assert parsed.faults == []
    assert parsed.open == []
    return page, parsed


@pytest.mark.parametrize("n_domains", [1, 10, 25])
def test_page_is_whole_and_self_contained(tmp_path: Path, n_domains: int) -> None:
    page, parsed = page_of(tmp_path / "demo", result(n_domains))
    assert len(parsed.ids) == len(set(parsed.ids))
    outside = set(re.findall(r"https?://[^\s\"'<>]+", page)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert outside == set()
    assert "<script" not in page
    assert "@import" not in page
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page) == []
    assert page.count("<svg") == 5


def test_names_are_escaped_and_kept(tmp_path: Path) -> None:
    page, parsed = page_of(tmp_path / "demo", result())
    assert "<b>books" not in page
    text = " ".join(parsed.text)
    for name in NAMES:
        assert name in text


def test_answer_comes_first(tmp_path: Path) -> None:
    _, parsed = page_of(tmp_path / "demo", result(gain=0.05))
    text = " ".join(" ".join(parsed.text).split())
    answer = text.index("4.9% under uniform")
    assert answer < text.index("11.1% on top of") < text.index("Quality on held-out text")
    _, parsed = page_of(tmp_path / "demo", result(gain=0.001))
    assert "within the noise: no gain" in " ".join(parsed.text)


def test_same_result_same_page(tmp_path: Path) -> None:
    assert page_of(tmp_path / "demo", result())[0] == page_of(tmp_path / "demo", result())[0]
    assert [path.name for path in (tmp_path / "demo").iterdir() if path.name.startswith(".")] == []


def test_every_part_may_be_missing(tmp_path: Path) -> None:
    """A project that is cut short, or of an older version, lacks keys: the page shows the rest."""
    whole = result(1)
    arm_keys, decision_keys = list(whole["arms"]["evermix"]), list(whole["decisions"][0])
    for key in whole:
        page_of(tmp_path / "cut", {name: value for name, value in whole.items() if name != key})
    for key in decision_keys:
        cut = copy.deepcopy(whole)
        del cut["arms"], cut["decisions"][0][key]
        page_of(tmp_path / "cut", cut)
    for key in arm_keys:
        cut = copy.deepcopy(whole)
        cut["arms"]["natural"][key], cut["decisions"] = None, []
        page_of(tmp_path / "cut", cut)


def test_running_project_shows_what_there_is(tmp_path: Path) -> None:
    project = tmp_path / "running"
    decision = result()["decisions"][0]
    del decision["realised_loss_nats"], decision["arm"]
    ledger = Ledger(project / "ledger.sqlite")
    ledger.append("recipe", "a", {"seed": 3, "constraints": {"max_epochs": 4.0}, "training": {"tokens": 1000}})
    ledger.append("corpus", "b", {"domains": [{"name": name, "train_n_tokens": 500} for name in NAMES]})
    _, parsed = page_of(project, None)
    assert "Not finished" in " ".join(parsed.text)
    ledger.append("decision", "c", decision)
    page, parsed = page_of(project, None)
    assert "still running" in " ".join(parsed.text)
    assert "Decision at 40% of the budget" in " ".join(parsed.text)
    assert page.count("<svg") == 1


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="must exist"):
        em.report(tmp_path / "absent")
    with pytest.raises(ProjectError, match="neither ledger nor result"):
        em.report(tmp_path)
    (tmp_path / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(ProjectError, match=r"result\.json: must be valid JSON"):
        em.report(tmp_path)
    assert not (tmp_path / "report.html").exists()
