"""The arguments of `evermix design`, and the design that they ask for."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evermix.cli.options import Verb, joined
from evermix.cli.swarm_options import overlaid, prior_option, shares
from evermix.errors import DomainError, MixtureError, RecipeError

if TYPE_CHECKING:
    from evermix.designs import DirichletOptions, SwarmRules
    from evermix.domains import DomainSet
    from evermix.mixture import Mixture
    from evermix.observations import Observations
    from evermix.recipe.decision import StudyRecipe

KINDS = ("auto", "dirichlet", "sparse", "dense", "nested", "space-filling", "adaptive")
_SOURCE = "YAML with each domain's tokens (`web: 1200000000`), or the folder of a swarm or study: then the next runs."
_KIND = (
    "dirichlet: around the prior; sparse: with many zeros, for topics; dense: no zeros, for curated sources; nested: "
    "level by level; space-filling; adaptive: after measured runs. Default: adaptive for a swarm, else nested where "
    "names are, else dirichlet."
)
_OPTIONS: dict[str, Any] = {
    "domains": Annotated[Path, typer.Argument(help=_SOURCE)],
    "runs": Annotated[int | None, typer.Option("--runs", min=1, help="How many; default: what the law wants, or 8.")],
    "kind": Annotated[str | None, typer.Option("--kind", help=_KIND)],
    "prior": Annotated[
        str | None, typer.Option("--prior", help="natural, uniform, or a JSON file of shares; default natural.")
    ],
    "strength": Annotated[
        tuple[float, float] | None,
        typer.Option("--strength", help="Least and greatest concentration of the Dirichlet, such as 0.1 5."),
    ],
    "temperature": Annotated[
        float | None, typer.Option("--temperature", help="The prior to this power: 1 as it is (default), 0 uniform.")
    ],
    "minimum": Annotated[float | None, typer.Option("--minimum", help="Least share that is not zero.")],
    "grid": Annotated[float | None, typer.Option("--grid", help="Round shares to multiples of this, such as 0.01.")],
    "coverage": Annotated[int | None, typer.Option("--coverage", help="Least runs with every domain; default 1.")],
    "floor": Annotated[float | None, typer.Option("--floor", help="Least share of every domain in every run.")],
    "cap": Annotated[
        list[str] | None,
        typer.Option("--cap", metavar="DOMAIN=SHARE", help="At most so much in every run; repeatable."),
    ],
    "law": Annotated[str | None, typer.Option("--law", help="Family of the law, for the number of runs and adaptive.")],
    "recipe": Annotated[Path | None, typer.Option("--recipe", help="YAML with the objective, for adaptive.")],
    "seed": Annotated[int | None, typer.Option("--seed", help="Default 0.")],
}
_NOT_ADAPTIVE = ("strength", "temperature", "minimum", "grid", "coverage", "floor", "cap")


def takes_design(verb: Verb) -> Verb:
    """Give a verb the arguments of a design, as its first parameter."""
    return joined(_OPTIONS, DesignArguments, "domains")(verb)


@dataclass(frozen=True)
class DesignArguments:
    """What the arguments said, by their Python names."""

    given: dict[str, Any]

    @property
    def source(self) -> Path:
        """Where the domains, or the runs made so far, are."""
        path: Path = self.given["domains"]
        return path

    @property
    def is_study(self) -> bool:
        """Whether the source is a study's project folder."""
        return (self.source / "ledger.sqlite").exists()

    @property
    def is_swarm(self) -> bool:
        """Whether the source holds measured runs."""
        from evermix.observations.raw import stem_and_suffix

        folder = self.source
        return self.is_study or (folder.is_dir() and any(stem_and_suffix(path)[1] for path in folder.iterdir()))

    @functools.cached_property
    def kind(self) -> str:
        """The kind of design; RecipeError if it is not a known one."""
        kind = self.given["kind"] or "auto"
        if kind not in KINDS:
            raise RecipeError("--kind must be a known one", received=kind, hint=f"known: {', '.join(KINDS)}")
        if kind != "auto":
            return str(kind)
        if self.is_swarm:
            return "adaptive"
        return "nested" if any(":" in name for name in self.domain_set().names) else "dirichlet"

    @functools.cached_property
    def recipe(self) -> StudyRecipe:
        """The recipe file, or the study's, with the options on top."""
        from evermix.recipe.decision import StudyRecipe

        loaded = StudyRecipe()
        if self.given["recipe"] is not None:
            loaded = StudyRecipe.load(self.given["recipe"])
        elif self.is_study:
            from evermix.study import Study

            loaded = Study(self.source).recipe
        prior = prior_option(self.given["prior"])
        return overlaid(loaded, {"law": self.given["law"], "seed": self.given["seed"], "prior": prior})

    def check_free(self, folder: Path, force: bool) -> None:
        """MixtureError if the folder has a ratios.csv that nobody asked to overwrite."""
        path = folder / "ratios.csv"
        if path.exists() and not force:
            raise MixtureError(
                f"{path}: a design must not overwrite another", hint="choose another folder, or say --force"
            )

    @property
    def n_runs(self) -> int | None:
        """How many runs are asked for, if that was said."""
        n: int | None = self.given["runs"]
        return n

    def check_adaptive(self) -> None:
        """RecipeError if there are no measured runs, or an option was given that means nothing beside them."""
        unused = [name for name in _NOT_ADAPTIVE if self.given[name]]
        if unused:
            raise RecipeError("an adaptive design has no such option", received=f"--{unused[0]}", hint="leave it out")
        if not self.is_swarm:
            raise RecipeError(
                "an adaptive design needs measured runs", received=str(self.source), hint="give a swarm's folder"
            )

    def measured(self) -> tuple[Observations, list[Mixture]]:
        """The runs so far, and the mixtures of those that are still pending."""
        from evermix.observations import ReadOptions, read_observations

        if self.is_study:
            from evermix.study import Study

            study = Study(self.source, recipe=self.recipe)
            return study.observations()[0], [asked.mixture for asked in study.pending()]
        asked = self.recipe.objective
        options = ReadOptions(maximise=asked.maximise, drop=asked.drop)
        return read_observations(self.source, options=options).observations, []

    def domain_set(self) -> DomainSet:
        """The domains, from their token counts or from the runs so far."""
        from evermix.domains import Domain, DomainSet
        from evermix.observations.sources import read_token_counts

        if self.is_swarm:
            return self.measured()[0].domains
        path = self.source / "tokens.yaml" if self.source.is_dir() else self.source
        if not path.is_file():
            raise DomainError(
                f"{self.source}: domains must be a YAML file of token counts, or a swarm's folder, that exists",
                hint="write one line per domain, as `web: 1200000000`",
            )
        counts, _ = read_token_counts(path)
        return DomainSet(Domain(name, n_tokens) for name, n_tokens in counts.items())

    def rules(self, domains: DomainSet) -> SwarmRules:
        """What holds for every mixture; ConstraintError if caps and floors leave none."""
        from evermix.constraints import Constraints
        from evermix.designs import SwarmRules

        caps, floor = shares(self.given["cap"], "--cap") or {}, self.given["floor"] or 0.0
        coverage = 1 if self.given["coverage"] is None else self.given["coverage"]
        bounds = Constraints(floor=floor, caps=caps).bounds(domains, 1.0) if caps or floor else None
        return SwarmRules(bounds, coverage, self.given["grid"])

    def scatter(self) -> DirichletOptions:
        """How far mixtures scatter around the prior."""
        from evermix.designs import DirichletOptions

        base = {"sparse": DirichletOptions.sparse(), "dense": DirichletOptions.dense()}
        named = {"strength": "strength", "temperature": "temperature", "minimum": "minimum_weight"}
        changes = {field: self.given[name] for name, field in named.items() if self.given[name] is not None}
        return replace(base.get(self.kind, DirichletOptions()), **changes)
