"""From a recipe with a chat domain to its store: which template is taken, and what the ledger keeps of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.tokenizer import load_tokenizer
from evermix.errors import CorpusError
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import chat_template, corpus_record, open_text
from evermix.recipe import Recipe

SOURCE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
Make = Callable[..., dict[str, object]]


@pytest.fixture
def recipe(tmp_path: Path, tiny_recipe: Make) -> Callable[..., Recipe]:
    lines = [json.dumps({"prompt": f"{k} + 1 =", "answer": f" {k + 1}"}) for k in range(200)]
    (tmp_path / "talk.jsonl").write_text("\n".join(lines))
    plain = tiny_recipe(tmp_path / "project")

    def make(template: str = "auto", **model: str) -> Recipe:
        talk = {"name": "talk", "files": [str(tmp_path / "talk.jsonl")], "format": "chat"}
        corpus = {**plain["corpus"], "chat_template": template, "store": None}  # type: ignore[dict-item]
        changes = {"domains": [*plain["domains"], talk], "corpus": corpus, "phases": [{"name": "one"}]}  # type: ignore[misc]
        if model:
            changes["model"] = model
        return Recipe.model_validate(plain | changes).model_copy(update={"base": tmp_path})

    return make


def test_the_template_is_the_recipe_s_or_the_checkpoint_s(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text(SOURCE)
    assert chat_template(recipe()) == chat_template(recipe("plain")) == ChatTemplate.plain()
    assert chat_template(recipe("mine.jinja")) == ChatTemplate(SOURCE)
    (tmp_path / "bare").mkdir()
    assert chat_template(recipe(checkpoint="bare")) == ChatTemplate.plain()
    store = open_text(recipe(), Project(tmp_path / "p"), Reporter(Project(tmp_path / "p"), None))
    file = str(store.folder / f"tokenizer-{store.tokenizer_fingerprint}.json")
    PreTrainedTokenizerFast(tokenizer_file=file, chat_template=SOURCE).save_pretrained(tmp_path / "chatty")
    assert chat_template(recipe(checkpoint="chatty")) == ChatTemplate(SOURCE)
    assert chat_template(recipe("chatty")) == ChatTemplate(SOURCE)
    assert chat_template(recipe("plain", checkpoint="chatty")) == ChatTemplate.plain()
    with pytest.raises(CorpusError, match=r"corpus\.chat_template must be auto, plain"):
        chat_template(recipe("nowhere"))


def test_a_store_of_text_and_chat(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    store = open_text(recipe(), project, Reporter(project, None))
    assert [store.is_chat(j) for j in range(4)] == [False, False, False, True]
    record = corpus_record(store)
    assert record["chat_templates"] == {"talk": ChatTemplate.plain().fingerprint}
    assert "chat_templates" not in corpus_record(store.subset(["code"]))
    (tmp_path / "mine.jinja").write_text(SOURCE)
    other = open_text(recipe("mine.jinja"), project, Reporter(project, None))
    assert corpus_record(other) != record
    assert other.subset(["code"]).manifest == store.subset(["code"]).manifest
    assert load_tokenizer(store.folder / f"tokenizer-{store.tokenizer_fingerprint}.json").end_id == store.end_id


def test_links_and_shared_files_are_said(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "talk2.jsonl").symlink_to("talk.jsonl")
    base = recipe()
    talk = base.domains[-1]
    domains = (talk.model_copy(update={"files": ("**/*.jsonl",)}), talk.model_copy(update={"name": "same"}))
    project, shown = Project(tmp_path / "p"), io.StringIO()
    reporter = Reporter(project, Console(file=shown, width=500))
    store = open_text(base.model_copy(update={"domains": domains}), project, reporter)
    counts = store.counts()
    assert [count["train_n_documents"] for count in counts] == [counts[0]["train_n_documents"]] * 2
    assert "up and 1 more passed over" in shown.getvalue()
    assert "domains 'talk' and 'same' both read" in shown.getvalue()
