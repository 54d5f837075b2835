"""What text a project was begun with: text that has changed since is not tokenised and trained anew without a word.

The ledger keeps, per domain, how its text is read and what was found: files, documents, bytes, and the fingerprint of
the content. A recipe that reads a domain otherwise than before says so itself; that is no change behind its back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass

from evermix.corpus.source import source_files, survey
from evermix.errors import ProjectError
from evermix.ledger import Project, content_hash
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import sources_of, store_folder
from evermix.recipe import Recipe

_KIND = "text"


@dataclass(frozen=True)
class KnownText:
    """The text of a domain at a time.

    Attributes:
        read: hash of how it is read.
        n_files: None for a dataset.
        n_bytes: UTF-8, of all documents.
    """

    read: str
    fingerprint: str
    n_files: int | None
    n_documents: int
    n_bytes: int

    def __str__(self) -> str:
        files = "" if self.n_files is None else f"{self.n_files:,} file{'s' if self.n_files != 1 else ''}, "
        return f"{files}{self.n_documents:,} document{'s' if self.n_documents != 1 else ''}, {self.n_bytes:,} bytes"


def check_known_text(recipe: Recipe, project: Project, reporter: Reporter, accept_changed: bool) -> None:
    """Compare the text of a recipe with what the project has known of it, before anything is tokenised.

    The text of phases that were begun is compared with them (`lifecycle/changes.py`), for nothing can change it.

    Args:
        recipe: over every text of its phases.
        accept_changed: whether changed text is trained on; else it is refused.

    Raises:
        ProjectError: text has changed since; it says what, before and after.
        CorpusError: as `source.iterate`.
    """
    known = _known(project)
    if not known:
        return
    with reporter.part("corpus", "reading the text", None) as report:
        texts = dict(_texts(recipe, project, reporter, known, report))
    changed = {
        name: now
        for name, now in texts.items()
        if now.read == known[name].read and now.fingerprint != known[name].fingerprint
    }
    told = "; ".join(f"'{name}': {known[name]} before, {now} now" for name, now in changed.items())
    if changed and accept_changed:
        reporter.say(f"changed text is taken: {told}")
    elif changed and not (recipe.phases and set(changed) <= _begun(project)):
        raise ProjectError(
            f"{project.folder}: text must be what the project began with, and that of {len(changed)} domain"
            f"{'s' if len(changed) > 1 else ''} has changed: {told}",
            hint="put it back, choose another `project:`, or take the new text with --accept-changed-text "
            "(accept_changed_text=True): it is tokenised, and what depends on it is trained anew",
        )


def note_text(recipe: Recipe, project: Project, reporter: Reporter) -> None:
    """Keep what the project knows of its text now, if that is news; what was changed and accepted stands beside it."""
    known = _known(project)
    texts = dict(_texts(recipe, project, reporter, {domain.name for domain in recipe.domains}, lambda _: None))
    news = {name: asdict(text) for name, text in texts.items() if known.get(name) != text}
    if not news:
        return
    before = {name: asdict(known[name]) for name in news if name in known}
    number = len(project.ledger.entries(_KIND)) + 1
    project.ledger.append(_KIND, f"{number:04d}", {"domains": news, "before": before})


def _known(project: Project) -> dict[str, KnownText]:
    """Domain -> its text as it was last."""
    entries = project.ledger.entries(_KIND)
    return {name: KnownText(**row) for entry in entries for name, row in entry.payload["domains"].items()}


def _begun(project: Project) -> set[str]:
    """Domains of phases that were begun."""
    entries = project.ledger.entries("phase-begun")
    return {name for entry in entries for name in entry.payload["content"]["domains"]}


def _texts(
    recipe: Recipe, project: Project, reporter: Reporter, among: Collection[str], report: Callable[[int], None]
) -> Iterator[tuple[str, KnownText]]:
    """The texts of some domains today, read anew where their files have changed."""
    by_name = {domain.name: domain for domain in recipe.domains if domain.name in among}
    surveys = store_folder(recipe, project) / "surveys"
    for source in sources_of(by_name.values(), reporter):
        found = survey(source, recipe.base, surveys, report)
        n_files = len(source_files(source, recipe.base)) if source.files else None
        read = content_hash(by_name[source.name].model_dump(mode="json"))
        yield source.name, KnownText(read, found.fingerprint, n_files, found.n_documents, found.n_bytes)
