"""`evermix design`: which mixtures to measure. Its options are keys of a recipe, laid over the recipe's own."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import evermix as em
from evermix.cli.options import AsJson, Everything, Verb, joined
from evermix.cli.swarm_options import WHERE, as_where, overlaid, prior_option, shares
from evermix.cli.terminal import bar, console, print_json
from evermix.errors import DomainError, MixtureError, RecipeError

if TYPE_CHECKING:
    from evermix.domains import DomainSet
    from evermix.mixture import Mixture
    from evermix.observations import Observations
    from evermix.recipe import StudyRecipe

Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Write ratios.csv and tokens.yaml into this folder.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite ratios.csv if it exists.")]
KINDS = ("auto", "dirichlet", "sparse", "dense", "nested", "space-filling", "adaptive")
_SOURCE = "YAML with each domain's tokens (`web: 1200000000`), or the folder of a swarm or study: then the next runs."
_KIND = (
    "dirichlet: around the prior; sparse: with many zeros, for topics; dense: no zeros, for curated sources; nested: "
    "level by level; space-filling; adaptive: after measured runs. Default: adaptive for a swarm, else nested where "
    "names are, else dirichlet."
)
_OPTIONS: dict[str, Any] = {
    "domains": Annotated[Path, typer.Argument(metavar="DOMAINS", help=_SOURCE)],
    "runs": Annotated[
        int | None, typer.Option("--runs", metavar="N", min=1, help="How many; default: what the law wants, or 8.")
    ],
    "kind": Annotated[str | None, typer.Option("--kind", metavar="KIND", help=_KIND)],
    "prior": Annotated[
        str | None,
        typer.Option("--prior", metavar="PRIOR", help="natural, uniform, or a JSON file of shares; default natural."),
    ],
    "strength": Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--strength", metavar="LEAST MOST", help="Least and greatest concentration of the Dirichlet, such as 0.1 5."
        ),
    ],
    "temperature": Annotated[
        float | None,
        typer.Option("--temperature", metavar="T", help="The prior to this power: 1 as it is (default), 0 uniform."),
    ],
    "minimum_weight": Annotated[
        float | None, typer.Option("--minimum", metavar="SHARE", help="Least share that is not zero.")
    ],
    "grid": Annotated[
        float | None, typer.Option("--grid", metavar="STEP", help="Round shares to multiples of this, such as 0.01.")
    ],
    "coverage": Annotated[
        int | None, typer.Option("--coverage", metavar="N", help="Least runs with every domain; default 3.")
    ],
    "floor": Annotated[
        float | None, typer.Option("--floor", metavar="SHARE", help="Least share of every domain in every run.")
    ],
    "caps": Annotated[
        list[str] | None,
        typer.Option("--cap", metavar="DOMAIN=SHARE", help="At most so much in every run; repeatable."),
    ],
    "law": Annotated[
        str | None, typer.Option("--law", metavar="LAW", help="Family of the law, for the number of runs and adaptive.")
    ],
    "recipe": Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            metavar="FILE",
            help="YAML with all of these (design: ...), per-level settings, and the objective.",
        ),
    ],
    "where": WHERE,
    "seed": Annotated[int | None, typer.Option("--seed", metavar="N", help="Default 0.")],
}
_OF_DESIGN = ("strength", "temperature", "minimum_weight", "grid", "coverage", "floor", "caps")
_OPTION_OF = {"minimum_weight": "minimum", "caps": "cap"}


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

    @property
    def is_adaptive(self) -> bool:
        """Whether the next runs are asked for.

        Raises:
            RecipeError: an unknown kind, no measured runs, or an option that means nothing beside them.
        """
        kind = self.given["kind"] or "auto"
        if kind not in KINDS:
            raise RecipeError("--kind must be a known one", received=kind, hint=f"known: {', '.join(KINDS)}")
        if self.given["where"] and not self.is_swarm:
            raise RecipeError(
                "--where chooses among measured runs", received=str(self.source), hint="give a swarm's folder"
            )
        if kind != "adaptive" and not (kind == "auto" and self.is_swarm):
            return False
        unused = [_OPTION_OF.get(name, name) for name in _OF_DESIGN if self.given[name]]
        if unused:
            raise RecipeError("an adaptive design has no such option", received=f"--{unused[0]}", hint="leave it out")
        if not self.is_swarm:
            raise RecipeError(
                "an adaptive design needs measured runs", received=str(self.source), hint="give a swarm's folder"
            )
        return True

    @functools.cached_property
    def recipe(self) -> StudyRecipe:
        """The recipe file, or the study's, with the options on top."""
        loaded = em.StudyRecipe()
        if self.given["recipe"] is not None:
            loaded = em.StudyRecipe.load(self.given["recipe"])
        elif self.is_study:
            loaded = em.Study(self.source).recipe
        given = {name: self.given[name] for name in _OF_DESIGN} | {"caps": shares(self.given["caps"], "--cap")}
        kind = None if self.given["kind"] == "adaptive" else self.given["kind"]
        prior = prior_option(self.given["prior"])
        keys = {"law": self.given["law"], "seed": self.given["seed"], "prior": prior}
        return overlaid(loaded, {**keys, "design": {**given, "kind": kind}})

    def check_free(self, folder: Path, force: bool) -> None:
        """MixtureError if the folder has a ratios.csv that nobody asked to overwrite."""
        path = folder / "ratios.csv"
        if path.exists() and not force:
            raise MixtureError(
                f"{path}: a design must not overwrite another", hint="choose another folder, or say --force"
            )

    def measured(self) -> tuple[Observations, list[Mixture]]:
        """The runs so far, and the mixtures of those that are still pending."""
        if self.is_study:
            study = em.Study(self.source, recipe=self.recipe, where=as_where(self.given["where"]))
            return study.observations()[0], [asked.mixture for asked in study.pending()]
        asked = self.recipe.objective
        options = em.ReadOptions(maximise=asked.maximise, drop=asked.drop, where=as_where(self.given["where"]))
        return em.read_observations(self.source, options=options).observations, []

    def domain_set(self) -> DomainSet:
        """The domains, from their token counts or from the runs so far."""
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
        return em.DomainSet(em.Domain(name, n_tokens) for name, n_tokens in counts.items())


def takes_design(verb: Verb) -> Verb:
    """Give a verb the arguments of a design, as its first parameter."""
    return joined(_OPTIONS, DesignArguments, "domains")(verb)


@takes_design
def design(
    asked: DesignArguments, out: Out = None, force: Force = False, everything: Everything = False, json: AsJson = False
) -> None:
    """Choose the mixtures to measure: a first swarm, or the next runs worth most.

    Train a small model on each and put its metrics beside ratios.csv as metrics.csv, with the same run
    ids: `evermix fit` reads that folder. Given a swarm that is measured already, the next runs are chosen
    where they tell most about the best mixture, and it says how much they could still change it.

    \b
    Examples:
      evermix design tokens.yaml --out swarm/
      evermix design tokens.yaml --runs 64 --kind sparse --prior uniform --json
      evermix design swarm/ --runs 8 --out swarm-2/
    """
    from evermix.reports.design_tables import print_design, write_design

    if out is not None:
        asked.check_free(out, force)
    with bar("designing"):
        adaptive = asked.is_adaptive
        known, pending = asked.measured() if adaptive else (asked.domain_set(), [])
        designed = em.design(known, asked.recipe, asked.given["runs"], pending)
    if out is not None:
        write_design(designed, out)
    if json:
        print_json(designed.as_dict)
        return
    print_design(designed, console(), out, everything)
