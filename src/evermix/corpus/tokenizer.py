"""Tokenizers: train a byte-level BPE, load any `tokenizer.json`, and know how many bytes each token stands for."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.corpus.split import content_key
from evermix.errors import TokenizerError
from evermix.files import write_atomically

END_TOKEN = "<|endoftext|>"
_END_TOKENS = (
    *(END_TOKEN, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<EOS>", "<|im_end|>", "<|eot_id|>"),
    *("<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<EOS_TOKEN>", "<end_of_turn>"),
)
_WORD_MARKS = ("continuing_subword_prefix", "end_of_word_suffix")  # such as ## and </w>, which no text holds
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_BYTE_ALPHABET_SIZE = 256

Integers = npt.NDArray[np.int64]


class TextTokenizer:
    """A `tokenizers.Tokenizer` that encodes text as data: special tokens written in a text are ordinary characters.

    Args:
        backend: the tokenizer; padding and truncation are switched off.
        end_token: the token put after each document; found among the usual names if None.

    Raises:
        TokenizerError: if it does not have that token, or none of the usual names.
    """

    def __init__(self, backend: Any, end_token: str | None = None) -> None:
        # Set, so that a later fork (data loader workers) neither warns nor changes the setting.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        self.backend = _plain(backend)
        names = (end_token,) if end_token else _END_TOKENS
        ids = [i for i in map(backend.token_to_id, names) if i is not None]
        if not ids:
            special = [t.content for t in backend.get_added_tokens_decoder().values() if t.special]
            raise TokenizerError(
                "a tokenizer must have an end token, which stands after each document",
                received=f"none called {end_token}" if end_token else "none of the usual names",
                hint=f"set tokenizer.end_token; its special tokens are {', '.join(special[:12]) or 'none'}",
            )
        self.end_id: int = ids[0]

    @cached_property
    def vocab_size(self) -> int:
        """Largest token id plus one."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's JSON, first 16 hex digits."""
        return _fingerprint(self.backend)

    @cached_property
    def spelled_bytes(self) -> Integers:
        """UTF-8 bytes that each token spells, shape (vocab,); special tokens and unused ids spell none.

        What a token stands for in a text may be more or less (a letter that was decomposed, blanks that were dropped):
        see `bytes_of`.
        """
        spec = json.loads(self.backend.to_str())
        special = {t["id"]: t["special"] for t in spec.get("added_tokens", [])}
        byte_level = "ByteLevel" in json.dumps([spec.get("decoder"), spec.get("pre_tokenizer")])
        prefix, suffix = (spec["model"].get(name) or "" for name in _WORD_MARKS)
        table = np.zeros(self.vocab_size, dtype=np.int64)
        for token, i in self.backend.get_vocab(with_added_tokens=True).items():
            if i in special:
                table[i] = 0 if special[i] else len(token.encode())
            else:
                spelled = token.removeprefix(prefix).removesuffix(suffix)
                table[i] = len(spelled) if byte_level else _spelled_bytes(spelled)
        return table

    @cached_property
    def unknown_id(self) -> int | None:
        """The token for what the vocabulary does not hold, or None."""
        model = json.loads(self.backend.to_str())["model"]
        named = model.get("unk_token")
        found = self.backend.token_to_id(named) if named else model.get("unk_id")
        return None if found is None else int(found)

    def bytes_of(self, ids: npt.ArrayLike, n_bytes: int) -> Integers:
        """The bytes of a text shared over its tokens, shape (tokens,); the sum is `n_bytes` for every tokenizer.

        Each token gets what it spells. What the spelling of all leaves over goes to unknown tokens; where there are
        none, or too much is spelled (the text was normalised), all are scaled alike, to whole bytes.

        Args:
            ids: of the text, with the special tokens around it, shape (tokens,), at least one.
            n_bytes: UTF-8 bytes of the text.
        """
        tokens = np.asarray(ids)
        weights = self.spelled_bytes[tokens].astype(np.float64)
        unknown = tokens == (-1 if self.unknown_id is None else self.unknown_id)
        if unknown.any():
            weights[unknown] = max((n_bytes - weights[~unknown].sum()) / unknown.sum(), 1.0)
        if not weights.any():
            weights[:] = 1.0
        upto = np.cumsum(weights)
        shares: Integers = np.diff(np.rint(upto * (n_bytes / upto[-1])), prepend=0).astype(np.int64)
        return shares

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens; runs on the tokenizer's own threads."""
        return [e.ids for e in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        return str(self.backend.decode([int(i) for i in ids], skip_special_tokens=False))

    def save(self, path: Path) -> None:
        """Write `tokenizer.json` to `path`, atomically."""
        write_atomically(Path(path), self.backend.to_str(pretty=True).encode())


def train_bpe(
    texts_by_domain: Mapping[str, Iterable[str]], vocab_size: int, sample_bytes_per_domain: int = 2_000_000
) -> TextTokenizer:
    """Byte-level BPE on the same number of bytes of every domain, so that small domains count.

    Documents are sampled by content key from the end opposite to the held-out split; a domain smaller than the sample
    is repeated up to the size of the largest one. The same texts give the same tokenizer; <|endoftext|> has id 0.

    Raises:
        TokenizerError: if vocab_size < 257 (256 bytes and the end token), or there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size <= _BYTE_ALPHABET_SIZE:
        raise TokenizerError("a byte-level vocabulary must have at least 257 tokens", received=vocab_size)
    samples = [_sample(texts, sample_bytes_per_domain) for texts in texts_by_domain.values()]
    samples = [sample for sample in samples if sample]
    if not samples:
        raise TokenizerError("a tokenizer must be trained on some text", received="none")
    size = max(sum(len(t.encode()) for t in sample) for sample in samples)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(itertools.chain.from_iterable(_repeat(s, size) for s in samples), trainer)
    return TextTokenizer(backend)


def load_tokenizer(path_or_name: str | Path, end_token: str | None = None) -> TextTokenizer:
    """A tokenizer from a tokenizer.json file, a folder that holds one, or a hub name.

    The token after each document is `end_token`; else the `eos_token` that the checkpoint declares; else one of the
    usual names.

    Raises:
        TokenizerError: it cannot be found or read, or does not have that end token.
    """
    backend = _load(path_or_name)
    place = Path(path_or_name).expanduser()
    checkpoint = place.parent if place.name == "tokenizer.json" else path_or_name
    return TextTokenizer(backend, end_token or declared_tokens(checkpoint).get("eos_token"))


def fingerprint_of(path: Path) -> str:
    """The fingerprint of the tokenizer in a tokenizer.json file, whatever its end token is.

    Raises:
        TokenizerError: it cannot be read.
    """
    return _fingerprint(_plain(_load(path)))


def declared_tokens(checkpoint: str | Path) -> dict[str, str]:
    """Name -> text of the special tokens that a checkpoint declares, such as `eos_token`.

    Args:
        checkpoint: a folder or a hub name; anything else declares nothing.

    Raises:
        TokenizerError: a file that declares them is damaged.
    """
    found: dict[str, str] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        declared = checkpoint_record(checkpoint, name)
        for key in _SPECIAL_TOKENS:
            value = declared.get(key)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                found.setdefault(key, text)
    return {key: found[key] for key in _SPECIAL_TOKENS if key in found}


def checkpoint_file(checkpoint: str | Path, name: str) -> Path | None:
    """A file of a checkpoint folder, or of a hub name through the hub's cache; None if there is none."""
    folder = Path(checkpoint).expanduser()
    if folder.exists() or not isinstance(checkpoint, str) or not _HUB_NAME.fullmatch(checkpoint):
        return folder / name if (folder / name).is_file() else None
    from transformers.utils import cached_file

    quiet = ("missing_entries", "connection_errors", "gated_repo")
    try:
        found = cached_file(checkpoint, name, **{f"_raise_exceptions_for_{reason}": False for reason in quiet})
    except OSError:  # the hub does not know the name
        return None
    return None if found is None else Path(found)


def checkpoint_record(checkpoint: str | Path, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint (see `checkpoint_file`), empty if there is none.

    Raises:
        TokenizerError: it is damaged.
    """
    file = checkpoint_file(checkpoint, name)
    try:
        record = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{file} must be valid JSON ({error})", hint="fetch the checkpoint again") from None
    if not isinstance(record, dict):
        raise TokenizerError(f"{file} must be a JSON object", hint="fetch the checkpoint again")
    return record


_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def _load(path_or_name: str | Path) -> Any:
    """The backend of `load_tokenizer`."""
    from tokenizers import Tokenizer

    path = Path(path_or_name).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    if path.exists() and not file.is_file():
        raise TokenizerError("a tokenizer folder must hold tokenizer.json", received=str(path))
    if not file.is_file() and (path.suffix == ".json" or path.is_absolute() or str(path_or_name).startswith(".")):
        raise TokenizerError(
            "a tokenizer file must exist", received=str(path), hint="give tokenizer.json or a hub name"
        )
    try:
        return Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(str(path_or_name))
    except Exception as error:  # noqa: BLE001  the tokenizers library raises bare Exception for every failure
        reason = " ".join(str(error).split())[:200]
        raise TokenizerError(
            f"tokenizer {path_or_name} must be loadable ({reason})", hint="give tokenizer.json or a hub name"
        ) from None


def _plain(backend: Any) -> Any:
    """The same backend, which takes text as data and neither pads nor cuts it."""
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True
    return backend


def _fingerprint(backend: Any) -> str:
    return hashlib.sha256(backend.to_str().encode()).hexdigest()[:16]


def _sample(texts: Iterable[str], limit_bytes: int) -> list[str]:
    """Documents with the largest content keys, about `limit_bytes` together, in key order."""
    heap: list[tuple[int, int, str]] = []
    held = 0
    for position, text in enumerate(texts):
        n_bytes = len(text.encode())
        heapq.heappush(heap, (content_key(text), -position, text))
        held += n_bytes
        while len(heap) > 1 and held - len(heap[0][2].encode()) >= limit_bytes:
            held -= len(heapq.heappop(heap)[2].encode())
    return list(_repeat([text for _, _, text in sorted(heap, reverse=True)], min(limit_bytes, held)))


def _repeat(texts: Sequence[str], n_bytes: int) -> Iterator[str]:
    """`texts` again and again until `n_bytes` have passed; the last one is cut."""
    left = n_bytes
    for text in itertools.cycle(texts):
        raw = text.encode()
        yield text if len(raw) <= left else raw[:left].decode("utf-8", errors="ignore")
        left -= len(raw)
        if left <= 0:
            return


def _spelled_bytes(token: str) -> int:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("▁", " ").encode())
