"""From the recipe's domains to a tokenised store: registry corpora fetched, tokenizer trained or loaded."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from evermix.corpora import prepare
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.patterns import find_files, remarks
from evermix.corpus.source import TextSource, iterate, survey
from evermix.corpus.store import StoreProgress, StoreSettings, TokenStore, build_store
from evermix.corpus.tokenizer import TextTokenizer, checkpoint_file, fingerprint_of, load_tokenizer, train_bpe
from evermix.errors import TokenizerError
from evermix.files import placed, say_damaged, stored, write_record
from evermix.ledger import Project, content_hash
from evermix.lifecycle.progress import Reporter
from evermix.models.loading import resolve_checkpoint
from evermix.recipe import DomainRecipe, Recipe

_PINNED = "pinned"


def open_text(
    recipe: Recipe,
    project: Project,
    reporter: Reporter,
    for_tokenizer: Collection[str] | None = None,
    together: Sequence[Collection[str]] | None = None,
) -> TokenStore:
    """Tokenise every domain that is not in the store yet, and open it.

    Args:
        for_tokenizer: names of the domains that a tokenizer is trained on; None for all.
        together: names of the domains of each phase, where there are phases; files that two of them share are said.

    Raises:
        CorpusError, TokenizerError: on bad files; nothing half-written is left.
    """
    folder = store_folder(recipe, project)
    sources = sources_of(recipe.domains, reporter)
    for remark in remarks({s.name: find_files(s.name, s.files, recipe.base) for s in sources if s.files}, together):
        reporter.say(remark)
    learnt_from = [source for source in sources if for_tokenizer is None or source.name in for_tokenizer]
    tokenizer = _tokenizer(recipe, project, learnt_from, folder, reporter)
    settings = StoreSettings(
        sequence_length=recipe.corpus.sequence_length,
        heldout_fraction=recipe.corpus.heldout_fraction,
        heldout_max_sequences=recipe.corpus.heldout_sequences,
        base=recipe.base,
        workers=recipe.corpus.workers,
        chat_template=chat_template(recipe),
    )
    done: dict[str, int] = {}
    totals: dict[str, int] = {}
    with reporter.part("corpus", "tokenising", None, unit="bytes") as report:

        def progress(event: StoreProgress) -> None:
            if event.total_bytes is not None:
                totals[event.domain] = event.total_bytes
            done[event.domain] = 0 if event.stage == "reading" else event.done_bytes
            report(sum(done.values()), sum(totals.values()) if len(totals) == len(sources) else None)

        return build_store(sources, tokenizer, folder, settings, progress)


def store_folder(recipe: Recipe, project: Project) -> Path:
    """Where the tokenised text lies."""
    return placed(recipe.corpus.store, recipe.base) if recipe.corpus.store else project.tokens


def sources_of(domains: Iterable[DomainRecipe], reporter: Reporter) -> list[TextSource]:
    """Where the text of domains comes from; corpora of registries are prepared."""
    return [_source(domain, reporter) for domain in domains]


def _source(domain: DomainRecipe, reporter: Reporter) -> TextSource:
    files = domain.files or ()
    if domain.registry is not None:
        with reporter.part("corpus", f"preparing {domain.registry}", None) as report:
            files = (str(prepare(domain.registry, progress=report.describe)),)
    return TextSource(
        name=domain.name,
        files=files,
        dataset=domain.dataset,
        text_field=domain.text_field,
        format=domain.format,
        documents=domain.documents,
        max_bytes=domain.max_bytes,
    )


def chat_template(recipe: Recipe) -> ChatTemplate:
    """The template that `corpus.chat_template` names; auto is the checkpoint's own, or plain if it has none.

    Raises:
        CorpusError: a path leads to no template, or the template is no Jinja.
    """
    named, checkpoint = recipe.corpus.chat_template, recipe.model.checkpoint
    if named == "plain":
        return ChatTemplate.plain()
    if named != "auto":
        return ChatTemplate.from_path(Path(resolve_checkpoint(named, recipe.base)))
    if checkpoint is None:
        return ChatTemplate.plain()
    return ChatTemplate.from_checkpoint(resolve_checkpoint(checkpoint, recipe.base)) or ChatTemplate.plain()


def pin_tokenizer(project: Project, store: TokenStore) -> None:
    """Keep the tokenizer through all updates of the domain set: other tokens would make every proxy worthless."""
    project.ledger.append("tokenizer", _PINNED, {"fingerprint": store.tokenizer_fingerprint})


def _tokenizer(
    recipe: Recipe, project: Project, sources: list[TextSource], folder: Path, reporter: Reporter
) -> TextTokenizer:
    """The recipe's tokenizer; that of the checkpoint; the pinned one; or one trained on the text and kept."""
    path = recipe.tokenizer.path or recipe.model.checkpoint
    if path is not None:
        with reporter.part("corpus", f"opening {path}", None):
            return load_tokenizer(resolve_checkpoint(path, recipe.base), recipe.tokenizer.end_token)
    pinned = project.ledger.find("tokenizer", _PINNED)
    kept = None if pinned is None else _kept_tokenizer(folder, pinned.payload["fingerprint"])
    if kept is not None:
        return kept
    found = _trained_tokenizer(recipe, sources, folder, reporter)
    if pinned is not None and found.fingerprint != pinned.payload["fingerprint"]:
        raise TokenizerError(
            f"{_file(folder, pinned.payload['fingerprint'])}: the tokenizer of the project must be there, and the text "
            "gives another one today",
            hint="put the file back, or choose another `project:`",
        )
    return found


def _trained_tokenizer(recipe: Recipe, sources: list[TextSource], folder: Path, reporter: Reporter) -> TextTokenizer:
    """One trained on the text, or the one that was: `trained-<hash of the text>.json` says which it is."""
    with reporter.part("corpus", "reading the text", None, unit="bytes") as report:
        surveys = [asdict(survey(source, recipe.base, folder / "surveys", report)) for source in sources]
    key = content_hash([[found["fingerprint"] for found in surveys], recipe.tokenizer.vocab_size])
    record = stored(folder / f"trained-{key}.json", "fingerprint")
    kept = None if record is None else _kept_tokenizer(folder, record["fingerprint"])
    if kept is not None:
        return kept
    with reporter.part("corpus", f"training a tokenizer of {recipe.tokenizer.vocab_size} tokens", None):
        texts = {source.name: iterate(source, recipe.base) for source in sources}
        made = train_bpe(texts, recipe.tokenizer.vocab_size)
    made.save(_file(folder, made.fingerprint))
    write_record(folder / f"trained-{key}.json", {"fingerprint": made.fingerprint})
    return load_tokenizer(_file(folder, made.fingerprint))


def _kept_tokenizer(folder: Path, fingerprint: str) -> TextTokenizer | None:
    """The store's tokenizer of that fingerprint; None, and a warning, if it is damaged."""
    file = _file(folder, fingerprint)
    try:
        if file.exists() and (found := load_tokenizer(file)).fingerprint == fingerprint:
            return found
        fault = f"{file} holds another tokenizer" if file.exists() else f"{file} is gone"
    except TokenizerError as error:
        fault = error.rule
    say_damaged(fault)
    return None


def _file(folder: Path, fingerprint: str) -> Path:
    return folder / f"tokenizer-{fingerprint}.json"


def fingerprint_beside(checkpoint: str) -> str | None:
    """The fingerprint of the tokenizer that lies beside a checkpoint's weights, or None if there is none."""
    file = checkpoint_file(checkpoint, "tokenizer.json")
    return fingerprint_of(file) if file else None


def corpus_record(store: TokenStore) -> dict[str, object]:
    """What the ledger keeps of the text: counts per domain, the fingerprint of each, and where the tokens lie."""
    counts = json.loads(json.dumps(store.counts()))
    fingerprints = {domain.name: domain.fingerprint for domain in store.domains}
    record = {
        "domains": counts,
        "fingerprints": fingerprints,
        "tokenizer": store.tokenizer_fingerprint,
        "store": str(store.folder.absolute()),
    }
    return {**record, "chat_templates": store.chat_templates} if store.has_chat else record
