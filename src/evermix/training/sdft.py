"""On-policy self-distillation (SDFT, arXiv 2601.19897): the model, shown the demonstration, teaches itself.

With x a prompt, d its demonstration (the answer of the row), theta the student, phi the teacher, g generations per
prompt and s tokens skipped:

    y_1 ... y_g ~ p_theta(. | x)                                         what the student writes, at temperature 1
    loss of y = mean over t >= s of KL(p_theta(. | x, y_<t) || p_phi(. | x, d, x, y_<t))         nats per token
    loss of a row = mean over its y; loss of a batch = mean over its rows
    phi <- (1 - rate) phi + rate theta                                   after every step; phi = theta before the first

The KL is over the whole vocabulary; its gradient goes through the student's probabilities, not through y nor phi. An
answer that has no token after the skipped ones has the loss 0. The generations of a prompt are written together and
learnt one after the other: a step needs no more memory for several.

The teacher is shown the demonstration as a turn that came before: the conversation with its answer, then the same
question again. So any chat template serves, and a plain prompt becomes an example of itself. Of a conversation of
several answers the last is written anew, and the others are read. At most twice as many tokens are written as the
longest demonstration of the batch has.

Rows of text, and conversations that begin with an answer, have no prompt: their loss is the mean of -ln p(token) over
their learnt tokens, as the plain trainer has it.

TRL's experimental trainer of this method takes prompts alone, so that nothing can be replayed as text, and does not
keep its teacher in checkpoints. This one gives the same weights if it is killed and resumed: what is written depends on
weights, seed and step only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from evermix.corpus.chat import TARGET, ChatEncoder
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.conversation import Conversation
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import CheckpointError
from evermix.training.data import IGNORE_INDEX, Example, SequenceDataset, trimmed
from evermix.training.segment import TEACHER_FILE, StreamTrainer, TrainerParts

TEACHER_SEQUENCES = 3
"""What a teacher may read at once, in sequences: the conversation, its question again, and what was written."""


@dataclass(frozen=True)
class TeacherPrompt:
    """How a question is asked a second time.

    Attributes:
        opening: ids that stand only before the first question of a conversation, such as a system prompt.
        between: ids between the end of an answer and the question after it.
    """

    opening: tuple[int, ...] = ()
    between: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokenizer: TextTokenizer, template: ChatTemplate) -> TeacherPrompt:
        """As `template` writes a conversation in which one question is asked twice."""
        asked_twice = Conversation((("user", "a"), ("assistant", "b"), ("user", "a"), ("assistant", "b")))
        (row,) = ChatEncoder(tokenizer, template).encode([asked_twice])
        starts, ends = _learnt_spans(row.roles == TARGET)
        first, second = row.ids[: starts[0]].tolist(), row.ids[ends[0] : starts[-1]].tolist()
        alike = 0
        while alike < min(len(first), len(second)) and first[-1 - alike] == second[-1 - alike]:
            alike += 1
        if not alike:
            return cls()
        return cls(tuple(first[:-alike]), tuple(second[:-alike]))

    def ids(self, prompt: Sequence[int], demonstration: Sequence[int]) -> list[int]:
        """The prompt, its answer, and the prompt again."""
        n = len(self.opening)
        again = prompt[n:] if tuple(prompt[:n]) == self.opening else prompt
        return [*prompt, *demonstration, *self.between, *again]


@dataclass(frozen=True)
class SelfDistillation:
    """How a model teaches itself.

    Attributes:
        teacher_prompt: how the teacher is shown the demonstration.
        end_ids: tokens that end an answer, besides those that the model's own settings name.
        generations: answers that are written to a prompt.
        skipped_tokens: of every answer, so many at its beginning have no loss.
        teacher_rate: of the teacher's exponential moving average; 0 keeps it as it is before the first step.
    """

    teacher_prompt: TeacherPrompt
    end_ids: tuple[int, ...]
    generations: int = 1
    skipped_tokens: int = 0
    teacher_rate: float = 0.01


def sdft_trainer(parts: TrainerParts, how: SelfDistillation) -> Trainer:
    """The trainer of a segment whose conversations are learnt by self-distillation.

    It counts the tokens that the student is trained on, that it reads and writes to write, and that the teacher reads:
    `n_student_tokens`, `n_generation_tokens`, `n_teacher_tokens`, and the seconds of the latter two.

    The model must have positions for `TEACHER_SEQUENCES` sequences (`models.loading.check_context`).
    """
    return _SelfDistillationTrainer(parts, how)


@dataclass(frozen=True)
class _Row:
    """A row of a batch without its padding: `prompt` is None where nothing is written anew."""

    ids: list[int]
    learnt: list[bool]
    prompt: list[int] | None = None
    demonstration: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Part:
    """What a step learns at once: one answer to each prompt. The weights of all parts of a batch sum to 1.

    Attributes:
        pairs: rows with what was written for them; None of those that are learnt plainly.
    """

    pairs: tuple[tuple[_Row, list[int] | None], ...]
    weights: tuple[float, ...]


class _SelfDistillationTrainer(StreamTrainer):
    """HF Trainer with the loss of this module; a copy of the model is the teacher."""

    def __init__(self, parts: TrainerParts, how: SelfDistillation) -> None:
        self.how, self.progress, self.seed = how, parts.progress, parts.segment.seed
        self._step, self._parts_of_step = -1, 0
        self.teacher = deepcopy(parts.model).eval().requires_grad_(False)
        super().__init__(
            model=parts.model,
            args=parts.arguments,
            train_dataset=SequenceDataset(parts.store),
            data_collator=trimmed if parts.store.has_chat else None,
            callbacks=[_Teaching(self.teacher, how.teacher_rate), *parts.callbacks],
            optimizers=parts.optimizers,
            sampler=parts.sampler,
        )
        self.teacher.to(self.args.device)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over rows: accumulated parts are averaged

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The student's weights, and the teacher's if the checkpoint has them."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        _load_teacher(self.teacher, Path(resume_from_checkpoint) / TEACHER_FILE)

    def training_step(self, model: Any, inputs: Example, num_items_in_batch: Any = None) -> torch.Tensor:
        """The gradients of one part after the other are added up; the loss is that of the batch."""
        parts = self._parts(model, list(_rows(inputs)))
        losses = [super(_SelfDistillationTrainer, self).training_step(model, {"part": part}) for part in parts]
        return torch.stack(losses).sum()

    def _parts(self, model: Any, rows: Sequence[_Row]) -> list[_Part]:
        """Rows with the first answers written for them; then, for every other generation, the prompts with theirs."""
        asked, g = [row for row in rows if row.prompt is not None], self.how.generations
        written = self._written(model, asked * g) if asked else []
        answers = iter(written)
        first = tuple((row, None if row.prompt is None else next(answers)) for row in rows)
        weights = tuple(1 / len(rows) if new is None else 1 / (g * len(rows)) for _, new in first)
        others = [tuple(zip(asked, answers, strict=False)) for _ in range(g - 1)] if asked else []
        return [_Part(first, weights), *(_Part(pairs, (1 / (g * len(rows)),) * len(pairs)) for pairs in others)]

    def compute_loss(
        self, model: Any, inputs: dict[str, _Part], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """What a part adds to the loss of its batch, shape ()."""
        part = inputs["part"]
        losses = self._losses(model, part.pairs)
        loss = torch.stack([weight * each for weight, each in zip(part.weights, losses, strict=True)]).sum()
        return (loss, None) if return_outputs else loss

    def _losses(self, model: Any, pairs: Sequence[tuple[_Row, list[int] | None]]) -> list[torch.Tensor]:
        """Of each row, with what was written for it or None."""
        read = [row.ids if row.prompt is None else [*row.prompt, *(new or ())] for row, new in pairs]
        self._count("n_student_tokens", sum(map(len, read)))
        ids, mask = _padded(read, self.args.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        taught = iter(self._taught([(row, new) for row, new in pairs if new is not None]))
        losses = []
        for k, (row, new) in enumerate(pairs):
            if row.prompt is None or new is None:
                losses.append(_plain_loss(logits[k], row))
            else:
                begin = len(row.prompt) - 1
                student = logits[k, begin : begin + len(new)]
                losses.append(taught_loss(student, next(taught), self.how.skipped_tokens))
        return losses

    @torch.no_grad()
    def _taught(self, pairs: Sequence[tuple[_Row, list[int]]]) -> list[torch.Tensor]:
        """The teacher's logits of what was written, per row of shape (tokens, vocab)."""
        if not pairs:
            return []
        started = time.monotonic()
        shown = [self.how.teacher_prompt.ids(row.prompt or (), row.demonstration) for row, _ in pairs]
        read = [[*before, *new] for before, (_, new) in zip(shown, pairs, strict=True)]
        ids, mask = _padded(read, self.args.device)
        with self.accelerator.autocast():  # in the student's precision, whose rounding the loss would see otherwise
            logits = self.teacher(input_ids=ids, attention_mask=mask, use_cache=False).logits
        begins = [len(before) - 1 for before in shown]
        found = [logits[k, b : b + len(new)] for k, (b, (_, new)) in enumerate(zip(begins, pairs, strict=True))]
        self._count("n_teacher_tokens", sum(map(len, read)))
        self.progress.count("teacher_seconds", time.monotonic() - started)
        return found

    @torch.no_grad()
    def _written(self, model: Any, rows: Sequence[_Row]) -> list[list[int]]:
        """What the student writes after each row's prompt, up to an end token or the most there may be.

        A row that is there several times gets several answers.
        """
        started = time.monotonic()
        student = self.accelerator.unwrap_model(model)
        prompts = [list(row.prompt or ()) for row in rows]
        most = 2 * max(len(row.demonstration) for row in rows)
        with _sampling(student, self.how.end_ids, most) as ends, self._own_randomness():
            ids, mask = _padded(prompts, self.args.device, fill=ends[0], left=True)
            new = student.generate(input_ids=ids, attention_mask=mask)[:, ids.shape[1] :].tolist()
        written = [_up_to_end(row, ends) for row in new]
        self._count("n_generation_tokens", sum(map(len, prompts)) + sum(map(len, written)))
        self.progress.count("generation_seconds", time.monotonic() - started)
        return written

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Random numbers that depend on seed, step, part of the step and rank only."""
        step = self.state.global_step
        self._parts_of_step = self._parts_of_step + 1 if step == self._step else 0
        self._step = step
        key = [self.seed, step, self._parts_of_step, self.args.process_index]
        device = self.args.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
            yield

    def _count(self, name: str, n_tokens: int) -> None:
        """Over all processes, taking each for like this one."""
        self.progress.count(name, n_tokens * self.args.world_size)


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(student || teacher) of each token in nats: logits (tokens, vocab) twice -> (tokens,)."""
    log_p = functional.log_softmax(student.float(), dim=-1)
    log_q = functional.log_softmax(teacher.float(), dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def taught_loss(student: torch.Tensor, teacher: torch.Tensor, skipped: int) -> torch.Tensor:
    """Mean KL of the tokens after the first `skipped` ones, 0 if there are none: logits (tokens, vocab) twice -> ()."""
    each = reverse_kl(student[skipped:], teacher[skipped:])
    return each.sum() / max(len(each), 1)


def _plain_loss(logits: torch.Tensor, row: _Row) -> torch.Tensor:
    """Mean of -ln p over the learnt tokens of a row: logits (length, vocab) -> ()."""
    ids = torch.tensor(row.ids, device=logits.device)
    learnt = torch.tensor(row.learnt, device=logits.device)[1:]
    return functional.cross_entropy(logits[: len(ids) - 1].float()[learnt], ids[1:][learnt])


def _rows(inputs: Example) -> Iterator[_Row]:
    """The rows of a batch."""
    masks = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    for ids, labels, mask in zip(inputs["input_ids"].cpu(), inputs["labels"].cpu(), masks.cpu(), strict=True):
        n = int(mask.sum())
        row, learnt = ids[:n].tolist(), (labels[:n] != IGNORE_INDEX).tolist()
        if learnt[0]:
            yield _Row(row, learnt)
            continue
        starts, ends = _learnt_spans(np.array(learnt))
        yield _Row(row, learnt, row[: starts[-1]], tuple(row[starts[-1] : ends[-1]]))


def _learnt_spans(learnt: np.ndarray) -> tuple[list[int], list[int]]:
    """Where the runs of learnt tokens start and end."""
    edges = np.diff(np.concatenate([[0], learnt.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()


def _padded(
    rows: Sequence[Sequence[int]], device: torch.device, fill: int = 0, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), each of shape (rows, longest)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for k, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[k, place] = torch.tensor(row, dtype=torch.long)
        mask[k, place] = 1
    return ids.to(device), mask.to(device)


def _up_to_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The ids up to the first end, which is the last of them."""
    return list(ids[: next((k + 1 for k, i in enumerate(ids) if i in ends), len(ids))])


@contextmanager
def _sampling(student: PreTrainedModel, end_ids: Sequence[int], most: int) -> Iterator[list[int]]:
    """The student in evaluation mode, writing at temperature 1 over the whole vocabulary; its settings are put back."""
    settings, was_training = student.generation_config, student.training
    named = getattr(settings, "eos_token_id", None)
    own = named if isinstance(named, list) else [] if named is None else [named]
    ends = sorted({*end_ids, *own})
    student.eval()
    student.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        use_cache=True,
        max_new_tokens=most,
        eos_token_id=ends,
        pad_token_id=ends[0],
        remove_invalid_values=True,  # a student that diverged must reach its loss, which says so
    )
    try:
        yield ends
    finally:
        student.generation_config = settings
        student.train(was_training)


class _Teaching(TrainerCallback):
    """Moves the teacher after every step, and keeps it in checkpoints before they are marked whole."""

    def __init__(self, teacher: PreTrainedModel, rate: float) -> None:
        self.teacher, self.rate = teacher, rate

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> TrainerControl:
        """phi <- (1 - rate) phi + rate theta."""
        for phi, theta in zip(self.teacher.parameters(), context["model"].parameters(), strict=True):
            phi.lerp_(theta, self.rate)
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> TrainerControl:
        """The teacher beside the student."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file({name: phi.contiguous() for name, phi in self.teacher.named_parameters()}, folder / TEACHER_FILE)
        return control


def _load_teacher(teacher: PreTrainedModel, file: Path) -> None:
    """The teacher's weights of a checkpoint; as they are, if it has none."""
    if not file.exists():
        return
    try:
        kept = load_file(file)
        with torch.no_grad():
            for name, phi in teacher.named_parameters():
                phi.copy_(kept[name])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{file}: the teacher of a checkpoint to go on from must be whole ({error})",
            hint=f"delete the folder {file.parent.parent} and run the same command again: that part is trained anew",
        ) from error
