"""Text in, training sequences out: readers, held-out split, tokenizer, token store, mixture stream.

Nothing heavy is imported here: tokenizers, pyarrow and datasets are imported on use, torch not at all.
"""

from evermix.corpus.source import TextSource
from evermix.corpus.store import StoreProgress, StoreSettings, TokenStore, build_store
from evermix.corpus.stream import MixtureStream
from evermix.corpus.tokenizer import TextTokenizer, load_tokenizer, train_bpe

__all__ = [
    "MixtureStream",
    "StoreProgress",
    "StoreSettings",
    "TextSource",
    "TextTokenizer",
    "TokenStore",
    "build_store",
    "load_tokenizer",
    "train_bpe",
]
