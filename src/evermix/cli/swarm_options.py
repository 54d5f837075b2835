"""The arguments that `fit`, `propose` and `what-if` share: which runs to read, and what is asked of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evermix.cli.options import Verb, joined
from evermix.errors import MixtureError, RecipeError
from evermix.files import placed

if TYPE_CHECKING:
    from evermix.deciding import FittedLaw
    from evermix.observations import Reading
    from evermix.recipe.decision import StudyRecipe
    from evermix.study import Study

_SOURCE = "Runs: a folder with ratios and metrics tables, one table (CSV, JSONL, Parquet), or a study's folder."
WHERE = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="COLUMN=VALUE",
        help="Only the runs that have this, such as model_size=60M or n_tokens=1B; repeatable.",
    ),
]
_OPTIONS: dict[str, Any] = {
    "swarm": Annotated[Path, typer.Argument(metavar="SWARM", help=_SOURCE)],
    "metrics": Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE", help="The metrics table, if SWARM holds the shares.")
    ],
    "token_counts": Annotated[
        Path | None,
        typer.Option(
            "--token-counts", metavar="FILE", help="YAML: tokens available per domain (default: tokens.yaml)."
        ),
    ],
    "recipe": Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="YAML with everything below, and more.")
    ],
    "law": Annotated[
        str | None, typer.Option("--law", metavar="LAW", help="Family of the law (`evermix list-laws`); default auto.")
    ],
    "maximise": Annotated[
        list[str] | None,
        typer.Option(
            "--maximise",
            "--maximize",
            metavar="METRIC",
            help="Where higher is better; a name or a pattern; repeatable.",
        ),
    ],
    "drop": Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="METRIC", help="To leave out; a name or a pattern; repeatable."),
    ],
    "weight": Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="METRIC=WEIGHT", help="In the objective; repeatable; default: all alike."),
    ],
    "id_column": Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="Column that names the runs; default: found.")
    ],
    "where": WHERE,
    "drop_run": Annotated[
        list[str] | None,
        typer.Option("--drop-run", metavar="ID", help="A run to leave out; a name or a pattern; repeatable."),
    ],
    "drop_bad_runs": Annotated[
        bool, typer.Option("--drop-bad-runs", help="Leave out runs with cells that cannot be read, and list them.")
    ],
    "percent": Annotated[bool, typer.Option("--percent", help="The shares are percentages.")],
    "seed": Annotated[int | None, typer.Option("--seed", metavar="N", help="Of folds and resamples; default 0.")],
}
_REQUEST_OPTIONS: dict[str, Any] = {
    "tokens": Annotated[
        str | None, typer.Option("--tokens", metavar="AMOUNT", help="Tokens of the target run, as 1T; caps need it.")
    ],
    "max_epochs": Annotated[
        float | None,
        typer.Option(
            "--max-epochs", metavar="N", help="Most passes over any domain; default 4 where tokens are known."
        ),
    ],
    "prior": Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="PRIOR",
            help="natural, uniform, swarm or a JSON file of shares; default natural where tokens are known.",
        ),
    ],
    "kl": Annotated[
        str | None, typer.Option("--kl", metavar="KL", help="Pull towards the prior: a number >= 0, or auto (default).")
    ],
    "floor": Annotated[float | None, typer.Option("--floor", metavar="SHARE", help="Least share of every domain.")],
    "cap": Annotated[
        list[str] | None, typer.Option("--cap", metavar="DOMAIN=SHARE", help="At most so much; repeatable.")
    ],
    "fix": Annotated[
        list[str] | None, typer.Option("--fix", metavar="DOMAIN=SHARE", help="Exactly so much; repeatable.")
    ],
    "guard": Annotated[
        list[str] | None,
        typer.Option(
            "--guard",
            metavar="MIXTURE=FRACTION",
            help="No metric worse by more than this fraction than under natural, uniform, prior or best-observed; "
            "repeatable.",
        ),
    ],
    "compare": Annotated[
        list[Path] | None,
        typer.Option(
            "--compare", metavar="FILE", help="JSON, domain -> share: compare with it, by the file's name; repeatable."
        ),
    ],
    "resamples": Annotated[
        int | None, typer.Option("--resamples", metavar="N", help="Bootstrap resamples; default 200, 0 none.")
    ],
}


@dataclass(frozen=True)
class SwarmArguments:
    """What the shared arguments said, by their Python names."""

    given: dict[str, Any]

    @functools.cached_property
    def recipe(self) -> StudyRecipe:
        """The recipe file, if any, or the study's as it holds for its domains of today; with the options on top."""
        from evermix.recipe.decision import StudyRecipe

        path = self.given["recipe"]
        if path is not None:
            loaded = StudyRecipe.load(path)
        elif self.is_study:
            loaded = self._stored.now().recipe_today[0]
        else:
            loaded = StudyRecipe()
        return overlaid(loaded, self._overrides())

    @property
    def is_study(self) -> bool:
        """Whether the source is a study's project folder."""
        return (self.given["swarm"] / "ledger.sqlite").exists()

    def study(self) -> Study:
        """The study in the project folder, asked with its own recipe or, where anything was said, with `recipe`."""
        from evermix.study.study import Study

        own = self.given["recipe"] is None and not _laid_over({}, self._overrides())
        return Study(self.given["swarm"], recipe=None if own else self.recipe, where=as_where(self.given["where"]))

    def reading(self) -> Reading:
        """The observations, with all that was left out and noticed."""
        from evermix.observations import Reading, ReadOptions, read_observations

        if self.is_study:
            if self.given["drop_run"] or self.given["drop_bad_runs"]:
                raise RecipeError("--drop-run and --drop-bad-runs belong to a table of runs, not to a study")
            observations, left_out = self.study().observations()
            return Reading(observations, left_out, ())
        given, asked = self.given, self.recipe.objective
        options = ReadOptions(
            id=given["id_column"],
            percent=given["percent"],
            maximise=asked.maximise,
            drop=asked.drop,
            tokens_file=given["token_counts"],
            where=as_where(given["where"]),
            drop_runs=tuple(given["drop_run"] or ()),
            drop_bad_runs=given["drop_bad_runs"],
        )
        source = given["swarm"] if given["metrics"] is None else (given["swarm"], given["metrics"])
        return read_observations(source, options=options)

    def fitted(self, reading: Reading) -> FittedLaw:
        """The law of the runs; of a study within what its version fixes, over the metrics that enough runs know."""
        from evermix.deciding import fit

        if self.is_study:
            return self.study().now().fit()
        return fit(reading.observations, self.recipe, reading.left_out)

    @property
    def kl_before(self) -> float | None:
        """The relative pull of the last mixture that a study proposed, for where too few runs choose one."""
        return self.study().now().state.kl_before if self.is_study else None

    @functools.cached_property
    def _stored(self) -> Study:
        from evermix.study.study import Study

        return Study(self.given["swarm"])

    def _overrides(self) -> dict[str, Any]:
        given = self.given
        guards = [_guard(text) for text in given.get("guard") or []] or None
        objective = {
            "maximise": given["maximise"],
            "drop": given["drop"],
            "weights": shares(given["weight"], "--weight", "METRIC=WEIGHT"),
        }
        constraints = {
            "max_epochs": given.get("max_epochs"),
            "floor": given.get("floor"),
            "caps": shares(given.get("cap"), "--cap"),
            "fixed": shares(given.get("fix"), "--fix"),
        }
        kl = given.get("kl")
        return {
            "law": given["law"],
            "tokens": given.get("tokens"),
            "prior": prior_option(given.get("prior")),
            "kl": kl if kl in (None, "auto") else as_number("--kl", str(kl)),
            "guards": guards,
            "compare": {path.stem: read_shares(path) for path in given.get("compare") or []},
            "resamples": given.get("resamples"),
            "seed": given["seed"],
            "objective": _given_only(objective),
            "constraints": _given_only(constraints),
        }


def overlaid(recipe: StudyRecipe, overrides: dict[str, Any]) -> StudyRecipe:
    """The recipe with some keys replaced; RecipeError names the first key that does not fit."""
    from pydantic import ValidationError

    from evermix.recipe.decision import StudyRecipe

    data = recipe.model_dump(mode="json", exclude_unset=True)
    try:
        return StudyRecipe.model_validate(_laid_over(data, overrides))
    except ValidationError as error:
        fault = error.errors()[0]
        message = str(fault["msg"]).removeprefix("Value error, ")
        message = f"{message[:1].lower()}{message[1:]}"
        raise RecipeError(f"{_option(fault['loc'])}: {message}", received=fault["input"]) from error


def _laid_over(data: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, but for a prior, which is one thing; anything else is replaced; None replaces nothing."""
    merged = dict(data)
    for key, value in overrides.items():
        if isinstance(value, dict) and key != "prior":
            below = merged.get(key)
            found = _laid_over(below if isinstance(below, dict) else {}, value)
            if found:
                merged[key] = found
        elif value is not None:
            merged[key] = value
    return merged


def _option(location: tuple[int | str, ...]) -> str:
    """The option that a key of the recipe came from: ("constraints", "caps", "web") -> "--cap web"."""
    named = {"max_epochs": "max-epochs", "caps": "cap", "fixed": "fix", "weights": "weight", "guards": "guard"}
    named["minimum_weight"] = "minimum"
    sections = ("objective", "constraints", "design")
    keys = [str(key) for key in location if key not in sections and not isinstance(key, int)]
    keys = keys or [str(key) for key in location] or ["recipe"]
    rest = [key for key in keys[1:2] if keys[0] in ("caps", "fixed", "weights")]
    return " ".join([f"--{named.get(keys[0], keys[0])}", *rest])


def takes_swarm(*, request: bool) -> Callable[[Verb], Verb]:
    """Give a verb the shared arguments: it gets them as one `SwarmArguments`, its first parameter."""
    return joined({**_OPTIONS, **(_REQUEST_OPTIONS if request else {})}, SwarmArguments, "swarm")


def shares(pairs: list[str] | None, option: str, form: str = "DOMAIN=SHARE") -> dict[str, float] | None:
    """`["web=0.3"]` -> {"web": 0.3}; None stays None. The last `=` splits, for names that hold one."""
    if not pairs:
        return None
    found: dict[str, float] = {}
    for pair in pairs:
        name, sign, number = pair.rpartition("=")
        if not sign or not name:
            raise RecipeError(f"{option} must be {form}", received=pair)
        if name in found:
            raise RecipeError(f"{option} must name '{name}' once", received=pair)
        found[name] = as_number(option, number)
    return found


def as_where(pairs: list[str] | None) -> dict[str, str | float]:
    """`["model_size=60M"]` -> {"model_size": "60M"}; the last `=` splits."""
    found: dict[str, str | float] = {}
    for pair in pairs or []:
        name, _, value = pair.rpartition("=")
        if not name.strip() or not value.strip():
            raise RecipeError("--where must be COLUMN=VALUE", received=pair)
        if name.strip() in found:
            raise RecipeError(f"--where must name '{name.strip()}' once", received=pair)
        found[name.strip()] = value.strip()
    return found


def prior_option(text: str | None) -> str | dict[str, float] | None:
    """A prior's name as it is, or the shares of a file."""
    return read_shares(placed(text, Path())) if text is not None and text.endswith(".json") else text


def read_shares(path: Path) -> dict[str, float]:
    """domain -> share from a JSON file; MixtureError naming the file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MixtureError(f"{path}: shares must be a JSON object, domain -> share", received=str(error)) from error
    numbers = isinstance(record, dict) and all(
        isinstance(share, int | float) and not isinstance(share, bool) for share in record.values()
    )
    if not numbers:
        raise MixtureError(
            f"{path}: shares must be a JSON object, domain -> share", hint="as `propose --out` writes it"
        )
    return {str(name): float(share) for name, share in record.items()}


def _guard(text: str) -> dict[str, Any]:
    ((reference, tolerance),) = (shares([text], "--guard", "MIXTURE=TOLERANCE") or {}).items()
    return {"reference": reference.replace("-", " "), "tolerance": tolerance}


def as_number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RecipeError(f"{option} must be a number", received=text) from error


def _given_only(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
