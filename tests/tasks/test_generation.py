"""Written answers: the same as Hugging Face's generate one prompt at a time, whatever their neighbours."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError, TokenizerError
from evermix.tasks import generation as module
from evermix.tasks.generation import Generation, cut_at_stop, end_ids, greedy_answers
from evermix.tasks.likelihood_tasks import AnswerItem
from tests.tasks.models import ChatMarks, byte_tokenizer, gpt2, llama, memorised, unigram, word_tokenizer

PAIRS = {"house": "casa", "the dog": "il cane", "a": "una cosa", "night and day": "é"}
PROMPTS = ["the capital of France is", "2 + 2 =", "", "the", "Italy is Rome. the capital of France", "3"]


def _asked(*prompts: str) -> list[AnswerItem]:
    return [AnswerItem(prompt, "unused", f"here:{k}") for k, prompt in enumerate(prompts)]


def _one_by_one(model: PreTrainedModel, tokenizer: TextTokenizer, prompt: str, n_new: int) -> str:
    """Hugging Face's own loop for one prompt without a cache."""
    ids = torch.tensor([[0, *tokenizer.encode_batch([prompt])[0]]])
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=n_new,
        use_cache=False,
        pad_token_id=0,
    )
    return tokenizer.decode(written[0, ids.shape[1] :].tolist()).split("<|endoftext|>")[0]


@pytest.fixture(scope="module")
def translator() -> PreTrainedModel:
    """Knows PAIRS by heart, a new line after each, then anything."""
    tokenizer = byte_tokenizer()
    encode = tokenizer.encode_batch
    return memorised([([0, *encode([q])[0]], encode([a + "\n"])[0]) for q, a in PAIRS.items()], 257)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("most", [1, 40, 100000])
def test_a_batch_writes_what_each_prompt_gets_alone(make: object, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.BATCH_TOKENS, "cpu", most)
    tokenizer = word_tokenizer()
    model = make(tokenizer.vocab_size)  # type: ignore[operator]
    expected = [_one_by_one(model, tokenizer, prompt, 7) for prompt in PROMPTS]
    assert greedy_answers(model, tokenizer, _asked(*PROMPTS), Generation(7, stop=())) == expected
    assert len(set(expected)) > 3


def test_what_was_learnt_is_written_up_to_the_stop(translator: PreTrainedModel) -> None:
    tokenizer = byte_tokenizer()
    written = greedy_answers(translator, tokenizer, _asked(*PAIRS), Generation())
    assert written == list(PAIRS.values())
    assert greedy_answers(translator, tokenizer, _asked("the dog"), Generation(stop=("an", "l c"))) == ["i"]
    assert greedy_answers(translator, tokenizer, _asked("the dog"), Generation(max_new_tokens=3)) == ["il "]
    assert greedy_answers(translator, tokenizer, _asked("the dog  "), Generation()) == ["il cane"]


def test_rows_end_by_themselves(translator: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generation goes on only as long as the longest answer needs, and a finished row stays as it was."""
    lengths: list[int] = []
    own = translator.generate

    def counted(**arguments: object) -> torch.Tensor:
        written: torch.Tensor = own(**arguments)
        lengths.append(written.shape[1] - arguments["input_ids"].shape[1])  # type: ignore[attr-defined]
        return written

    monkeypatch.setattr(translator, "generate", counted)
    greedy_answers(translator, byte_tokenizer(), _asked(*PAIRS), Generation(40))
    assert lengths == [len("una cosa\n")]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(list(PAIRS)), min_size=1, max_size=9))
def test_neighbours_do_not_count(translator: PreTrainedModel, prompts: list[str]) -> None:
    found = greedy_answers(translator, byte_tokenizer(), _asked(*prompts), Generation(12))
    assert found == [PAIRS[prompt] for prompt in prompts]


def test_the_model_stays_as_it_was(translator: PreTrainedModel) -> None:
    model = copy.deepcopy(translator).train()
    own = copy.deepcopy(model.generation_config)
    own.do_sample, own.temperature, own.repetition_penalty = True, 5.0, 3.0
    model.generation_config = own
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert greedy_answers(model, byte_tokenizer(), _asked("the dog"), Generation()) == ["il cane"]
    assert model.training
    assert model.generation_config is own
    assert (own.do_sample, own.temperature, own.max_new_tokens) == (True, 5.0, None)
    assert model.config.use_cache is False
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_adapters_write_too(translator: PreTrainedModel, task_type: str | None) -> None:
    tokenizer = byte_tokenizer()
    base = copy.deepcopy(translator)
    own = base.generation_config
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type=task_type))
    assert greedy_answers(adapted, tokenizer, _asked(*PAIRS), Generation()) == list(PAIRS.values())
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    changed = greedy_answers(adapted, tokenizer, _asked(*PAIRS), Generation())
    assert changed != list(PAIRS.values())
    assert changed == greedy_answers(adapted.merge_and_unload(), tokenizer, _asked(*PAIRS), Generation())
    assert base.generation_config is own


def test_a_long_prompt_loses_its_beginning() -> None:
    tokenizer = byte_tokenizer()
    model = llama(257, context=16)
    written = greedy_answers(model, tokenizer, _asked("x" * 50 + "the capital"), Generation(5, stop=()))
    ids = torch.tensor([tokenizer.encode_batch(["the capital"])[0]])
    alone = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=5, pad_token_id=0)
    assert written == [tokenizer.decode(alone[0, 11:].tolist()).split("<|endoftext|>")[0]]
    with pytest.raises(TaskError, match=r"less than the model's context of 16 tokens, got 16\. Hint: lower max_new"):
        greedy_answers(model, tokenizer, _asked("x"), Generation(16))


def test_faults_of_a_model_are_told() -> None:
    tokenizer = byte_tokenizer()
    with pytest.raises(TokenizerError, match="it embeds 200, not 257"):
        greedy_answers(llama(200), tokenizer, _asked("x"), Generation())
    broken = llama(257)
    settings_before = broken.generation_config
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TaskError, match=r"here:0: .* not NaN"):
        greedy_answers(broken.train(), tokenizer, _asked("x"), Generation())
    assert broken.training
    assert broken.generation_config is settings_before


def test_a_template_s_answer_ends_with_its_turn() -> None:
    chat = ChatMarks()
    tokenizer = chat.tokenizer()
    encode = tokenizer.encode_batch
    rows = [
        (
            [257, *encode([f"user\n{q}"])[0], 258, *encode(["\n"])[0], 257, *encode(["assistant\n"])[0]],
            [*encode([a])[0]],
        )
        for q, a in PAIRS.items()
    ]
    model = memorised([(read, [*learnt, 258]) for read, learnt in rows], 259)
    assert end_ids(model, tokenizer, chat.render) == (0, 258)
    assert end_ids(model, tokenizer, None) == (0,)
    written = greedy_answers(model, tokenizer, _asked(*PAIRS), Generation(render=chat.render))
    assert written == list(PAIRS.values())


def test_ids_beyond_the_tokenizer_are_no_fault() -> None:
    """A model whose embedding was padded may write ids that stand for nothing."""
    logits = torch.zeros(300)
    logits[290] = 5.0
    assert greedy_answers(unigram(logits), byte_tokenizer(), _asked("x"), Generation(4)) == [""]


@given(st.text(alphabet="ab\n ", max_size=12), st.lists(st.text(alphabet="ab\n", min_size=1, max_size=3), max_size=3))
def test_a_cut_text_is_the_longest_beginning_without_a_stop(text: str, stops: list[str]) -> None:
    cut = cut_at_stop(text, stops)
    assert text.startswith(cut)
    assert all(stop not in cut for stop in stops)
    assert cut == text or any(text[len(cut) :].startswith(stop) for stop in stops)


def test_a_stop_across_many_tokens_is_found(translator: PreTrainedModel) -> None:
    """Bytes of "é" are two tokens; a stop may begin within the text and end with the last token."""
    assert greedy_answers(translator, byte_tokenizer(), _asked("night and day"), Generation(stop=("é",))) == [""]
    assert greedy_answers(translator, byte_tokenizer(), _asked("a"), Generation(stop=("na cosa",))) == ["u"]
