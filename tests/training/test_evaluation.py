"""Scores against closed forms and against the model's own loss; of conversations only what is learnt counts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from evermix.corpus import StoreSettings, TextSource, TokenStore, build_store, train_bpe
from evermix.domains import DomainSet
from evermix.errors import DomainError
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.schedule import MixtureSchedule
from evermix.training.data import open_stream
from evermix.training.evaluation import HeldoutText, evaluate, sequence_losses
from evermix.training.segment import LearningRate, Optimisation, Segment, train_segment


def _heldout(vocab: int) -> HeldoutText:
    generator = torch.Generator().manual_seed(0)
    sequences = tuple(torch.randint(0, vocab, (n, 16), generator=generator) for n in (5, 3))
    return HeldoutText(DomainSet(["a", "b"]), sequences, np.array([5 * 15 * 2.0, 3 * 15 * 4.0]))


def test_a_model_that_knows_nothing_scores_the_logarithm_of_the_vocabulary() -> None:
    model = build_model("0.2M", 300, 16, 0, seed=0)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    scores = evaluate(model, _heldout(300))
    assert scores.loss_nats == pytest.approx([math.log(300)] * 2)
    assert scores.perplexity == pytest.approx([300, 300])
    assert scores.bits_per_byte == pytest.approx([math.log2(300) / 2, math.log2(300) / 4])
    assert scores.stderr_nats == pytest.approx([0, 0], abs=1e-6)


def test_loss_is_the_model_s_own_and_the_error_that_of_the_mean() -> None:
    model = build_model("0.2M", 300, 16, 0, seed=1).train()
    heldout = _heldout(300)
    scores = evaluate(model, heldout)
    assert model.training
    with torch.no_grad():
        for j, ids in enumerate(heldout.sequences):
            each = [float(model(input_ids=row[None], labels=row[None]).loss) for row in ids]
            assert scores.loss_nats[j] == pytest.approx(np.mean(each), rel=1e-5)
            assert scores.stderr_nats[j] == pytest.approx(np.std(each, ddof=1) / math.sqrt(len(each)), rel=1e-3)


def test_per_domain_names_units() -> None:
    table = evaluate(build_model("0.2M", 300, 16, 0, seed=1), _heldout(300)).per_domain()
    assert set(table["a"]) == {"loss_nats", "loss_stderr_nats", "bits_per_byte", "perplexity"}


LENGTH = 64


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """A chat domain (answers of one to six words, some not ASCII) and a text domain."""
    folder = tmp_path_factory.mktemp("store")
    lines = [json.dumps({"prompt": f"count to {k}:", "answer": " größe" * (1 + k % 6)}) for k in range(80)]
    (folder / "talk.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "prose.txt").write_text("\n".join(f"one could count to {k} and back" for k in range(200)))
    sources = [
        TextSource("talk", ("talk.jsonl",), format="chat"),
        TextSource("prose", ("prose.txt",), documents="line"),
    ]
    tokenizer = train_bpe({"a": [(folder / "prose.txt").read_text()]}, 300)
    return build_store(sources, tokenizer, folder / "s", StoreSettings(LENGTH, 0.3, base=folder))


@pytest.fixture(scope="module")
def model(store: TokenStore) -> PreTrainedModel:
    return build_model("0.2M", store.vocab_size, LENGTH, store.end_id, seed=1)


def _answer_losses(model: PreTrainedModel, store: TokenStore) -> list[list[float]]:
    """Loss of every answer token of every held-out conversation, read alone and without padding."""
    found = []
    roles = store.roles(0, "test")
    assert roles is not None
    for row, kinds in zip(store.heldout(0, "test"), roles, strict=True):
        n = int((kinds > 0).sum())
        ids = torch.from_numpy(row[:n].astype(np.int64))
        with torch.no_grad():
            logs = functional.log_softmax(model.eval()(input_ids=ids[None]).logits[0], dim=-1)
        found.append([-float(logs[t - 1, ids[t]]) for t in range(1, n) if kinds[t] == 2])
    return found


def test_loss_is_the_mean_over_answer_tokens(store: TokenStore, model: PreTrainedModel) -> None:
    heldout = HeldoutText.from_store(store, "test")
    scores = evaluate(model, heldout)
    losses = _answer_losses(model, store)
    every = [loss for losses_of_one in losses for loss in losses_of_one]
    assert scores.loss_nats[0] == pytest.approx(np.mean(every), rel=1e-5)
    np.testing.assert_allclose(scores.sequence_losses[0], [np.mean(one) for one in losses], rtol=1e-4)
    assert len({len(one) for one in losses}) > 2
    assert heldout.n_predicted[0] == len(every)


def test_bits_per_byte_count_the_answers_bytes(store: TokenStore, model: PreTrainedModel) -> None:
    heldout = HeldoutText.from_store(store, "test")
    bits = sum(loss for one in _answer_losses(model, store) for loss in one) / math.log(2)
    answers = [row[kinds == 2] for row, kinds in zip(store.heldout(0, "test"), store.roles(0, "test"), strict=True)]
    n_bytes = sum(len(store.tokenizer.decode(ids[:-1]).encode()) for ids in answers)
    assert heldout.n_bytes[0] == n_bytes
    assert evaluate(model, heldout).bits_per_byte[0] == pytest.approx(bits / n_bytes, rel=1e-5)
    assert heldout.n_tokens == (store.roles(0, "test") > 0).sum() + store.heldout(1, "test").size


def test_the_error_is_that_of_a_ratio_of_sums(store: TokenStore, model: PreTrainedModel) -> None:
    """Against the jackknife, which agrees with the linearised ratio estimator to order 1 / sequences."""
    losses = _answer_losses(model, store)
    sums, counts = np.array([sum(one) for one in losses]), np.array([len(one) for one in losses])
    n = len(losses)
    without = (sums.sum() - sums) / (counts.sum() - counts)
    jackknife = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    assert evaluate(model, HeldoutText.from_store(store, "test")).stderr_nats[0] == pytest.approx(jackknife, rel=0.1)


def test_conversations_of_one_length_have_the_error_of_text(model: PreTrainedModel) -> None:
    """The general formula on rows that are learnt whole is the formula of text."""
    ids = torch.randint(0, 300, (7, 16), generator=torch.Generator().manual_seed(0))
    domains, n_bytes = DomainSet(["a"]), np.array([200.0])
    text = evaluate(model, HeldoutText(domains, (ids,), n_bytes))
    chat = evaluate(model, HeldoutText(domains, (ids,), n_bytes, (torch.full_like(ids, 2, dtype=torch.uint8),)))
    for key in ("loss_nats", "stderr_nats", "bits_per_byte"):
        np.testing.assert_allclose(getattr(chat, key), getattr(text, key), rtol=1e-6)


def test_padding_changes_nothing(store: TokenStore, model: PreTrainedModel) -> None:
    heldout = HeldoutText.from_store(store, "test").select(["talk"])
    ids, roles = heldout.sequences[0], heldout.roles[0]
    assert roles is not None
    longest = int((roles > 0).sum(dim=1).max())
    assert longest < LENGTH
    assert max(batch.ids.shape[1] for batch in heldout.batches()) == longest
    other = torch.where(roles > 0, ids, torch.randint(0, 300, ids.shape))
    scrambled = HeldoutText(heldout.domains, (other,), heldout.n_bytes, heldout.roles)
    assert evaluate(model, scrambled).loss_nats == pytest.approx(evaluate(model, heldout).loss_nats, rel=1e-6)


def test_text_is_scored_as_it_is_without_a_chat_domain(store: TokenStore, model: PreTrainedModel) -> None:
    both, alone = HeldoutText.from_store(store, "test"), HeldoutText.from_store(store.subset(["prose"]), "test")
    ids = alone.sequences[0]
    assert all(batch.labels is batch.ids for batch in alone.batches())
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits
        flat = functional.cross_entropy(logits[:, :-1].reshape(-1, 300), ids[:, 1:].reshape(-1), reduction="none")
    torch.testing.assert_close(sequence_losses(logits, ids), flat.view(len(ids), -1).mean(dim=1), rtol=0, atol=0)
    mine, theirs = evaluate(model, both), evaluate(model, alone)
    assert mine.loss_nats[1] == theirs.loss_nats[0] == theirs.sequence_losses[0].mean()
    assert mine.stderr_nats[1] == theirs.stderr_nats[0]
    assert mine.bits_per_byte[1] == theirs.bits_per_byte[0]


def test_select_keeps_the_given_order(store: TokenStore, model: PreTrainedModel) -> None:
    heldout = HeldoutText.from_store(store, "test", 5)
    turned = heldout.select(["prose", "talk"])
    assert turned.domains.names == ("prose", "talk")
    np.testing.assert_array_equal(evaluate(model, turned).loss_nats, evaluate(model, heldout).loss_nats[::-1])
    np.testing.assert_array_equal(turned.bits_per_byte_factor, heldout.bits_per_byte_factor[::-1])
    with pytest.raises(DomainError, match="must be in the domain set"):
        heldout.select(["verse"])


def _segment(schedule: MixtureSchedule, end_step: int = 3) -> Segment:
    optimisation = Optimisation(3e-3, LearningRate("wsd", 8, 0, 0), 4, weight_decay=0.0, clip_norm=1e9)
    return Segment(schedule, end_step, optimisation, 7, evaluate_at=(end_step,))


def test_training_takes_the_gradient_of_the_mean_over_all_answer_tokens_of_a_batch(
    store: TokenStore, tmp_path: Path
) -> None:
    """Each conversation alone and unpadded, losses summed and divided by their number of tokens: the same weights."""
    schedule = MixtureSchedule.constant(Mixture(store.domains, [1.0, 0.0]))
    trained, ours = (build_model("0.2M", store.vocab_size, LENGTH, store.end_id, seed=2) for _ in range(2))
    progress = train_segment(
        trained, store, _segment(schedule), tmp_path, heldout=HeldoutText.from_store(store, "test")
    )
    optimiser = torch.optim.AdamW(ours.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    stream = open_stream(store, schedule, 7)
    drawn = 0
    for _ in range(3):
        flat = stream.draw(4)
        ids, roles = store.read(flat), store.read_roles(flat)
        total, count = torch.zeros(()), 0
        for row, kinds in zip(ids, roles, strict=True):
            n = int((kinds > 0).sum())
            drawn += n
            logits = ours.train()(input_ids=torch.from_numpy(row[None, :n])).logits[0, :-1]
            learnt = torch.from_numpy(kinds[1:n] == 2)
            total = total + functional.cross_entropy(
                logits[learnt], torch.from_numpy(row[1:n])[learnt], reduction="sum"
            )
            count += int(learnt.sum())
        optimiser.zero_grad()
        (total / count).backward()
        optimiser.step()
    for mine, theirs in zip(ours.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert progress.curve[0]["n_tokens"] == pytest.approx(12 * store.mean_length(0), abs=0.5)
    assert progress.curve[0]["n_tokens"] == pytest.approx(drawn, rel=0.3)


def test_a_mixture_of_chat_and_text_is_learnt(store: TokenStore, tmp_path: Path) -> None:
    heldout = HeldoutText.from_store(store, "test")
    model = build_model("0.2M", store.vocab_size, LENGTH, store.end_id, seed=2)
    before = evaluate(model, heldout)
    train_segment(model, store, _segment(MixtureSchedule.constant(Mixture(store.domains, [0.5, 0.5])), 8), tmp_path)
    assert (evaluate(model, heldout).loss_nats < before.loss_nats - 0.5).all()
