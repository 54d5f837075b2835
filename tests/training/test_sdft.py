"""Self-distillation: what is written, what it is compared with, the moving teacher, and going on after death."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.distributions import Categorical, kl_divergence

from evermix.corpus import TokenStore
from evermix.corpus.chat import TARGET, ChatEncoder
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.conversation import Conversation
from evermix.errors import TrainingError
from evermix.training.evaluation import HeldoutText
from evermix.training.sdft import SelfDistillation, TeacherPrompt, reverse_kl, sdft_trainer, taught_loss
from evermix.training.segment import TEACHER_FILE, Segment, TrainerParts, plain_trainer, train_segment

from ..corpus.chats import CHATML, chat_tokenizer
from .talks import new_model, segment_of, talk_store, weights

TOKENIZER = chat_tokenizer()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return talk_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def how(store: TokenStore) -> SelfDistillation:
    return SelfDistillation(TeacherPrompt.of(store.tokenizer, ChatTemplate.plain()), (store.end_id,))


def _trained(store: TokenStore, segment: Segment, folder: Path, how: SelfDistillation) -> Any:
    model = new_model(store)
    heldout = HeldoutText.from_store(store, "decision", 4)
    made = partial(sdft_trainer, how=how)
    return model, train_segment(model, store, segment, folder, heldout=heldout, make_trainer=made)


class _Killed(BaseException):
    pass


def _trainer(store: TokenStore, folder: Path, how: SelfDistillation, model: Any = None) -> Any:
    """A trainer before its first step."""
    made: list[Any] = []

    def keep(parts: TrainerParts) -> Any:
        made.append(sdft_trainer(parts, how))
        made[0].current_gradient_accumulation_steps = 1
        raise _Killed

    with pytest.raises(_Killed):
        train_segment(model or new_model(store), store, segment_of(store, 8), folder, make_trainer=keep)
    return made[0]


def _batch(store: TokenStore, rows: list[int]) -> dict[str, torch.Tensor]:
    from evermix.training.data import SequenceDataset, trimmed

    return trimmed(SequenceDataset(store).__getitems__(rows))


# what is shown and compared


@given(st.integers(0, 2**31))
def test_the_kl_is_that_of_torch(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(5, 11, generator=rng) * 4 for _ in range(2))
    expected = kl_divergence(Categorical(logits=a), Categorical(logits=b))
    torch.testing.assert_close(reverse_kl(a, b), expected, rtol=1e-4, atol=1e-5)


def test_the_kl_is_that_of_trl() -> None:
    losses = pytest.importorskip("trl.experimental.sdft.loss_utils")
    a, b = torch.randn(5, 11), torch.randn(5, 11)
    theirs = losses.compute_full_logit_self_distillation_loss(a, b, distillation_alpha=1.0)
    torch.testing.assert_close(reverse_kl(a, b), theirs)


@pytest.mark.parametrize("template", [ChatTemplate.plain(), ChatTemplate(CHATML)], ids=["plain", "chatml"])
@given(st.text("two pluso?", min_size=1).filter(str.strip), st.text("four is", min_size=1).filter(str.strip))
def test_the_teacher_is_asked_again_as_the_template_has_it(template: ChatTemplate, question: str, answer: str) -> None:
    encoder = ChatEncoder(TOKENIZER, template)
    question, answer = question.strip(), answer.strip()
    (row,) = encoder.encode([Conversation((("user", question), ("assistant", answer)))])
    prompt, demonstration = row.ids[row.roles != TARGET].tolist(), row.ids[row.roles == TARGET].tolist()
    shown = TeacherPrompt.of(TOKENIZER, template).ids(prompt, demonstration)
    turns = [("user", question), ("assistant", answer), ("user", question)]
    exact = encoder.prompt([{"role": role, "content": content} for role, content in turns])
    end = [TOKENIZER.end_id] if template.source is None else []  # the plain template's end has no text
    assert TOKENIZER.decode([i for i in shown if i not in end]) == TOKENIZER.decode([i for i in exact if i not in end])


@given(st.integers(0, 2**31), st.integers(0, 7))
def test_skipped_tokens_do_not_count(seed: int, skipped: int) -> None:
    """Whatever stands in them; of an answer that is skipped as a whole the loss is 0, and no weight is moved by it."""
    rng = torch.Generator().manual_seed(seed)
    a, b, other = (torch.randn(5, 11, generator=rng) * 4 for _ in range(3))
    a.requires_grad_()
    loss = taught_loss(a, b, skipped)
    changed = torch.cat([other[:skipped], b[skipped:]])
    assert torch.equal(taught_loss(a, changed, skipped), loss)
    kept = kl_divergence(Categorical(logits=a), Categorical(logits=b))[skipped:]
    torch.testing.assert_close(loss, kept.mean() if len(kept) else torch.zeros(()), rtol=1e-4, atol=1e-5)
    loss.backward()
    assert a.grad is not None
    assert not a.grad[:skipped].any()
    assert bool(a.grad[skipped:].any()) == (skipped < 5)


@pytest.mark.parametrize(("generations", "skipped"), [(1, 0), (3, 0), (3, 2)])
def test_the_loss_is_the_mean_over_rows_of_kl_and_of_cross_entropy(
    store: TokenStore, tmp_path: Path, how: SelfDistillation, generations: int, skipped: int
) -> None:
    """Against rows read one by one without padding; the teacher is another model, so that it is far off."""
    trainer = _trainer(store, tmp_path, replace(how, generations=generations, skipped_tokens=skipped))
    with torch.no_grad():
        for phi in trainer.teacher.parameters():
            phi.add_(0.3 * torch.randn(phi.shape, generator=torch.Generator().manual_seed(3)))
    talks, prose = [0, 3, 5], [int(store.flat_offsets[1])]
    batch = _batch(store, talks + prose)
    written: list[list[int]] = []
    write = trainer._written
    trainer._written = lambda *a: written.extend(write(*a)) or written
    model = trainer.model
    loss = float(trainer.training_step(model, batch))
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    expected: list[list[torch.Tensor]] = [[] for _ in (*talks, *prose)]
    for k, new in zip([*range(len(talks))] * generations, written, strict=True):
        n = int(batch["attention_mask"][k].sum())
        row, first = batch["input_ids"][k, :n].tolist(), int((batch["labels"][k] != -100).nonzero()[0])
        shown = how.teacher_prompt.ids(row[:first], row[first:])
        student = model(torch.tensor([row[:first] + new])).logits[0, first - 1 : -1]
        teacher = trainer.teacher(torch.tensor([shown + new])).logits[0, len(shown) - 1 : -1]
        kl = kl_divergence(Categorical(logits=student), Categorical(logits=teacher))[skipped:]
        expected[k].append(kl.mean() if len(kl) else torch.zeros(()))
        assert row[first : n - 1] in [row[j : j + n - 1 - first] for j in range(n)]
        assert store.tokenizer.decode(shown).count(store.tokenizer.decode(row[:first])) == 2
    text = batch["input_ids"][-1]
    expected[-1].append(torch.nn.functional.cross_entropy(model(text[None]).logits[0, :-1], text[1:]))
    whole = torch.stack([torch.stack(each).mean() for each in expected]).mean()
    assert loss == pytest.approx(float(whole.detach()), rel=1e-4)
    whole.backward()
    torch.testing.assert_close(
        gradient, torch.cat([p.grad.flatten() for p in model.parameters()]), rtol=1e-3, atol=1e-6
    )
    assert [len(each) for each in expected] == [generations] * len(talks) + [1]
    assert generations == 1 or any(written[k] != written[k + len(talks)] for k in range(len(talks)))
    counts = trainer.progress.counts
    asked = [int((batch["labels"][k] != -100).nonzero()[0]) for k in range(len(talks))]
    assert counts["n_generation_tokens"] == generations * sum(asked) + sum(map(len, written))
    assert counts["n_student_tokens"] == counts["n_generation_tokens"] + len(text)


def test_a_teacher_that_is_shown_nothing_teaches_nothing(store: TokenStore, tmp_path: Path) -> None:
    class Silent(TeacherPrompt):
        def ids(self, prompt: Any, demonstration: Any) -> list[int]:
            return list(prompt)

    trainer = _trainer(store, tmp_path, SelfDistillation(Silent(), (store.end_id,)))
    loss = trainer.training_step(trainer.model.train(), _batch(store, [0, 1, 2]))
    assert abs(float(loss)) < 1e-6
    assert max(float(p.grad.abs().max()) for p in trainer.model.parameters() if p.grad is not None) < 1e-5


# what is written


def test_answers_are_drawn_from_the_student(store: TokenStore, tmp_path: Path, how: SelfDistillation) -> None:
    """The frequencies of the first token of 3,000 answers, within 5 standard errors of its probabilities."""
    trainer = _trainer(store, tmp_path, how)
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight.mul_(3)  # a few likely tokens
    from evermix.training.sdft import _rows

    (row,) = _rows(_batch(store, [3]))
    drawn = [
        new[0] for _ in range(10) for new in trainer._written(trainer.model, [replace(row, demonstration=(5,))] * 300)
    ]
    with torch.no_grad():
        p = trainer.model.eval()(torch.tensor([row.prompt])).logits[0, -1].softmax(-1).double().numpy()
    found = np.bincount(drawn, minlength=len(p)) / len(drawn)
    assert (np.abs(found - p) < 5 * np.sqrt(p * (1 - p) / len(drawn)) + 3 / len(drawn)).all()
    assert 0.05 < p.max() < 0.9


def test_answers_end_with_an_end_or_at_twice_the_demonstration(
    store: TokenStore, tmp_path: Path, how: SelfDistillation
) -> None:
    trainer = _trainer(store, tmp_path, how)
    from evermix.training.sdft import _rows

    rows = list(_rows(_batch(store, list(range(12)))))
    most = 2 * max(len(row.demonstration) for row in rows)
    assert all(row.demonstration[-1] == store.end_id for row in rows)
    settings = trainer.model.generation_config
    trainer.model.train()
    for new in trainer._written(trainer.model, rows):
        assert 1 <= len(new) <= most
        assert store.end_id not in new[:-1]
        assert len(new) == most or new[-1] == store.end_id
    assert trainer.model.training
    assert trainer.model.generation_config is settings


def test_of_several_answers_the_last_is_written_anew() -> None:
    from evermix.training.sdft import _rows

    encoder = ChatEncoder(TOKENIZER, ChatTemplate.plain())
    turns = (("user", "two?"), ("assistant", "is"), ("user", "four?"), ("assistant", "it is"))
    (row,) = encoder.encode([Conversation(turns)])
    labels = np.where(row.roles == TARGET, row.ids, -100)
    (found,) = _rows({"input_ids": torch.tensor([row.ids.tolist()]), "labels": torch.tensor([labels.tolist()])})
    assert TOKENIZER.decode(found.prompt or []) == "two?is<|endoftext|>\n\nfour?"
    assert TOKENIZER.decode(found.demonstration) == "it is<|endoftext|>"


# training


def test_text_alone_is_learnt_as_the_plain_trainer_does(
    store: TokenStore, tmp_path: Path, how: SelfDistillation
) -> None:
    """Rows of text have one length, so that the mean over rows is that over tokens."""
    prose = store.subset(["prose"])
    plain, segment = new_model(store), segment_of(prose, 4, accumulation=2)
    train_segment(plain, prose, segment, tmp_path / "plain", make_trainer=plain_trainer)
    model, _ = _trained(prose, segment, tmp_path / "sdft", how)
    moved = (weights(plain) - weights(new_model(store))).norm()
    assert float((weights(plain) - weights(model)).norm() / moved) < 1e-3


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_teacher_is_a_moving_average(store: TokenStore, tmp_path: Path, how: SelfDistillation, rate: float) -> None:
    steps: list[torch.Tensor] = []
    model = new_model(store)
    expected = weights(model)

    def note(step: int) -> None:
        steps.append(weights(model))

    made = partial(sdft_trainer, how=replace(how, teacher_rate=rate))
    train_segment(model, store, segment_of(store, 4), tmp_path, report=note, make_trainer=made)
    for theta in steps:
        expected = expected + rate * (theta - expected)
    kept = load_file(tmp_path / "checkpoint-4" / TEACHER_FILE)
    teacher = torch.cat([kept[name].flatten() for name, _ in model.named_parameters()])
    torch.testing.assert_close(teacher, expected)
    assert len(steps) == 4


def test_the_teacher_of_a_fixed_student_comes_closer_by_the_rate(
    store: TokenStore, tmp_path: Path, how: SelfDistillation
) -> None:
    """phi_n - theta = (1 - rate)^n (phi_0 - theta); the default is the published rate."""
    trainer = _trainer(store, tmp_path, how)
    before = weights(trainer.teacher)
    with torch.no_grad():
        for theta in trainer.model.parameters():
            theta.add_(0.5)
    teaching = next(each for each in trainer.callback_handler.callbacks if type(each).__name__ == "_Teaching")
    for _ in range(50):
        teaching.on_step_end(trainer.args, trainer.state, trainer.control, model=trainer.model)
    left = weights(trainer.teacher) - weights(trainer.model)
    torch.testing.assert_close(left, 0.99**50 * (before - weights(trainer.model)), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", params=[1, 3], ids=["one generation", "three generations"])
def how_often(request: pytest.FixtureRequest, how: SelfDistillation) -> SelfDistillation:
    return replace(how, generations=request.param)


@pytest.fixture(scope="module")
def undisturbed(store: TokenStore, how_often: SelfDistillation, tmp_path_factory: pytest.TempPathFactory) -> Any:
    how = how_often
    return _trained(store, segment_of(store, 8, accumulation=2), tmp_path_factory.mktemp("whole"), how)


def test_a_killed_run_resumes_to_the_same_weights_and_counts(
    store: TokenStore, how_often: SelfDistillation, undisturbed: Any, tmp_path: Path
) -> None:
    (model, progress), how = undisturbed, how_often
    segment = segment_of(store, 8, accumulation=2)

    def die(step: int) -> None:
        if step == 6:
            raise _Killed

    made = partial(sdft_trainer, how=how)
    with pytest.raises(_Killed):
        train_segment(new_model(store), store, segment, tmp_path, report=die, make_trainer=made)
    torch.rand(7)  # random numbers of the process do not matter
    again, progress_again = _trained(store, segment, tmp_path, how)
    assert torch.equal(weights(model), weights(again))
    for name in ("n_student_tokens", "n_generation_tokens", "n_teacher_tokens"):
        assert progress.counts[name] == progress_again.counts[name] > 0
    assert 0 < progress.counts["generation_seconds"] < progress.seconds


def test_a_checkpoint_with_a_damaged_teacher_is_not_gone_on_with(
    store: TokenStore, how: SelfDistillation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, _ = _trained(store, segment_of(store, 8), tmp_path / "whole", how)
    _trained(store, segment_of(store, 4), tmp_path / "damaged", how)
    file = tmp_path / "damaged" / "checkpoint-4" / TEACHER_FILE
    file.write_bytes(file.read_bytes()[:-100] + bytes(100))
    anew, _ = _trained(store, segment_of(store, 8), tmp_path / "damaged", how)
    assert str(file) in caplog.text
    assert torch.equal(weights(undisturbed), weights(anew))


def test_divergence_is_named_though_the_student_must_write(
    store: TokenStore, how: SelfDistillation, tmp_path: Path
) -> None:
    segment = segment_of(store, 8)
    wild = replace(segment, optimisation=replace(segment.optimisation, learning_rate=1e30))
    with pytest.raises(
        TrainingError, match=r"training diverged at step \d of 8 \(.*\)\. Hint: lower training\.learning_rate"
    ):
        _trained(store, wild, tmp_path, how)


def test_a_progress_without_counts_is_written_as_before(store: TokenStore, tmp_path: Path) -> None:
    train_segment(new_model(store), store, segment_of(store, 4), tmp_path)
    record = json.loads((tmp_path / "checkpoint-4" / "evermix_progress.json").read_text())
    assert set(record) == {"curve", "measured", "seconds", "seal"}
    assert record["measured"] == []
