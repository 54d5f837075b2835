"""OlmixBase on its published swarm: our proposal with every published setting, and where it differs from theirs.

    OMP_NUM_THREADS=1 python benchmarks/olmix_base.py [--workers N] [--per-floor 1]

Swarm: 127 proxies of 30M parameters on 24 topics of DCLM (shared/data/swarms/olmix-dclm). Objective: 52 tasks alike,
which is 7/52, 19/52 and 26/52 for the families math, code and question answering; MMLU's 57 subjects count as four
tasks, by their numbers of questions; five of the table's columns are excluded. k = 4, lambda = 0.05 per nat, prior as
published. Two studies:

- "update 0": R = 1T and 64 of the 127 runs. The published case study names the mixture that came out, so this is
  where total variation to it is measured.
- "6T": R = 6T and all runs. No mixture is published: it is compared with our base setting, and its gap is certified.

Each row changes one thing of its study's base. `gain` is the predicted gain in mean bits per byte over the prior, in
percent, judged by laws fitted to all 127 runs, so that rows are comparable. Facts: olmix_base.yaml.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import yaml
from harness import HERE, Target, write_results  # sets one thread, so before numpy
from olmix_restarts import DELTA, by_restarts
from swarms import DROPPED, SWARMS, dclm, need_swarms

from evermix.deciding import FittedLaw, propose
from evermix.deciding.fitting import build_objective, choose_prior, chosen_law
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.mapped import LinearlyMappedLaw, on_sampled
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.recipe.decision import StudyRecipe
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve
from evermix.trust.calibration import Calibration

FACTS = yaml.safe_load((HERE / "olmix_base.yaml").read_text())
FAMILY_WEIGHTS = {"math": 7 / 52, "code": 19 / 52, "qa": 26 / 52}
N_SUBSET, N_SPLITS = 64, 14
NOT_JUDGED = cast(Calibration, None)  # only resampling asks for it
Table = np.ndarray
Refit = Callable[[FittedLaw], MixingLaw]


@dataclass(frozen=True)
class Metrics:
    """A way to count the table: its columns, the recipe's objective, and each column's number in the published one."""

    columns: dict[str, Table]
    objective: dict[str, Any]

    def observations(self, swarm: Observations, runs: Table) -> Observations:
        values = np.column_stack([column[runs] for column in self.columns.values()])
        ids = tuple(swarm.run_ids[k] for k in runs) if swarm.run_ids else None
        return Observations(swarm.domains, swarm.weights[runs], tuple(self.columns), values, run_ids=ids)


@dataclass(frozen=True)
class Setting:
    """One row: what was changed, the runs and metrics it uses, its recipe, and a law in place of the recipe's."""

    changed: str
    runs: Table
    metrics: Metrics
    recipe: StudyRecipe
    refit: Refit | None = None
    unseen_free: bool = False


def family(metric: str) -> str:
    if metric.startswith("minerva_math"):
        return "math"
    return "code" if metric.startswith(("codex_humaneval", "mbpp", "mt_mbpp")) else "qa"


def subjects(group: str) -> dict[str, float]:
    """Columns of an MMLU group with their shares of its questions."""
    questions = FACTS["mmlu_questions"][group]
    return {f"mmlu_{name}:rc::olmes": count / sum(questions.values()) for name, count in questions.items()}


def by_task(swarm: Observations) -> dict[str, Table]:
    """The 57 tasks of the published fit, in its order: the table's, then four groups of MMLU."""
    column = {name: swarm.values[:, i] for i, name in enumerate(swarm.metrics)}
    tasks = {name: values for name, values in column.items() if not name.startswith("mmlu_")}
    for group in ("mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"):
        tasks[group] = sum(share * column[name] for name, share in subjects(group).items())
    return tasks


def families(names: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in FAMILY_WEIGHTS}
    for name in names:
        found[family(name)].append(name)
    return found


def ways_to_count(swarm: Observations) -> dict[str, Metrics]:
    """Every metric set and objective that is compared, by name."""
    column = {name: swarm.values[:, i] for i, name in enumerate(swarm.metrics)}
    every = by_task(swarm)
    tasks = {name: values for name, values in every.items() if name not in DROPPED}
    kept = {name: values for name, values in column.items() if name not in DROPPED}
    qa = {name: [name] for name in families(list(tasks))["qa"] if not name.startswith("mmlu_")}
    qa |= {group: list(subjects(group)) for group in FACTS["mmlu_questions"]}
    nested = {f: {name: [name] for name in names} for f, names in families(list(tasks)).items()} | {"qa": qa}
    weighed = {"group_weights": FAMILY_WEIGHTS}
    as_run = [name for name in every if not name.startswith("mmlu_")]
    return {
        "52 tasks": Metrics(tasks, {"groups": families(list(tasks)), **weighed}),
        "57 tasks: none excluded": Metrics(every, {}),
        "a law per MMLU subject": Metrics(kept, {"groups": nested, **weighed}),
        "105 columns alike": Metrics(kept, {}),
        "families alike": Metrics(tasks, {"groups": families(list(tasks))}),
        "a law per family": per_family(tasks, list(tasks)),
        "a law per family, MMLU lost and nothing excluded": per_family(every, as_run),
    }


def per_family(tasks: dict[str, Table], names: list[str]) -> Metrics:
    means = {f: np.mean([tasks[name] for name in found], axis=0) for f, found in families(names).items()}
    return Metrics(means, {"weights": FAMILY_WEIGHTS})


def over_live(law: MixingLaw, asked: FittedLaw) -> MixingLaw:
    """The law fitted to the runs, unseen domains held at their prior share as in any study."""
    table = asked.observations
    if asked.unsampled_domains:
        live = tuple(name not in asked.unsampled_domains for name in table.domains.names)
        law = on_sampled(law, live, sum(asked.prior.mixture[name] for name in asked.unsampled_domains))
    return law.fit(Runs.of(table.weights, table.costs))


def published_loss(asked: FittedLaw) -> MixingLaw:
    """Our exact fit under the published loss."""
    return over_live(LogLinearLaw(huber_delta=DELTA, scaled=False, ridge=0.0), asked)


def at_start_value(fitted: FittedLaw) -> MixingLaw:
    """The same fit, but the slope of a domain that no run has seen stays at .05, the mean of the published starts."""
    inner, table = published_loss(fitted), fitted.observations
    if not isinstance(inner, LinearlyMappedLaw):
        return inner
    law, exact = LogLinearLaw(huber_delta=DELTA, scaled=False, ridge=0.0), inner.inner_
    assert isinstance(exact, LogLinearLaw)
    law.t_ = np.full((len(table.metrics), len(table.domains)), 0.05)
    law.t_[:, inner.A.any(axis=0)] = exact.t_
    law.c_, law.n_domains_, law.n_metrics_ = exact.c_, len(table.domains), len(table.metrics)
    return law


@dataclass(frozen=True, eq=False)
class Bench:
    """The swarm, its published mixture and prior, and the two judges."""

    swarm: Observations
    counted: dict[str, Metrics]
    published: Mixture
    prior: dict[str, float]
    judges: dict[str, MixingLaw]

    @classmethod
    def load(cls) -> Bench:
        swarm = dclm(dropped=False)
        counted = ways_to_count(swarm)
        table = counted["52 tasks"].observations(swarm, np.arange(swarm.n_runs))
        laws = (LogLinearLaw(huber_delta=DELTA, scaled=False, ridge=0.0), PowerLinkLaw())
        judges = {law.name: law.fit(Runs.of(table.weights, table.values)) for law in laws}
        shares = [FACTS["update_0"][name] for name in swarm.domains.names]
        prior = yaml.safe_load((SWARMS / "olmix-dclm" / "tokens.yaml").read_text())["relative_sizes"]
        return cls(swarm, counted, Mixture.normalised(swarm.domains, shares), prior, judges)

    def recipe(self, n_tokens: float) -> StudyRecipe:
        """Every published setting that a recipe can express."""
        content = {
            "law": "log-linear",
            "tokens": n_tokens,
            "prior": self.prior,
            "objective": self.counted["52 tasks"].objective,
            "constraints": {"max_epochs": 4},
            "kl_weight": 0.05,
            "resamples": 0,
        }
        return StudyRecipe.model_validate(content)

    def split(self, seed: int) -> Table:
        """64 of the runs: the second part of a permutation, as scikit-learn's train_test_split takes them."""
        return np.random.RandomState(seed).permutation(self.swarm.n_runs)[-N_SUBSET:]

    def restarts(self, per_floor: int) -> Refit:
        numbers = {name: i for i, name in enumerate(by_task(self.swarm))}

        def refit(fitted: FittedLaw) -> MixingLaw:
            table = fitted.observations
            return by_restarts(table.weights, table.values, [numbers[m] for m in table.metrics], per_floor)[0]

        return refit

    def gains(self, mixture: Mixture) -> dict[str, float]:
        """Percent of the prior's mean bits per byte over the 52 tasks, by each judge."""
        prior = Mixture.from_dict(self.swarm.domains, self.prior).weights
        return {
            name: float(100 * (1 - law.predict(mixture.weights).mean() / law.predict(prior).mean()))
            for name, law in self.judges.items()
        }


def fitted_to(setting: Setting, bench: Bench) -> FittedLaw:
    """What `evermix.deciding.fit` gives, without cross-validation, which no row needs."""
    table, recipe = setting.metrics.observations(bench.swarm, setting.runs), setting.recipe
    goal, prior = build_objective(table, recipe.objective), choose_prior(table, recipe.prior)
    asked = FittedLaw(recipe, table, chosen_law(recipe.law), goal, prior, NOT_JUDGED, ())
    return replace(asked, law=setting.refit(asked) if setting.refit else over_live(asked.law, asked))


def solved(setting: Setting, bench: Bench) -> tuple[MixtureProblem, Mixture, dict[str, Any]]:
    """The problem, the proposed mixture and what is known of it."""
    fitted = fitted_to(setting, bench)
    if setting.unseen_free:
        box = setting.recipe.constraints.build().bounds(bench.swarm.domains, float(setting.recipe.tokens or 1.0))
        kl = float(setting.recipe.kl_weight or 0.0)
        problem = MixtureProblem(fitted.law, fitted.objective, box, fitted.prior.mixture, kl)
        proposal = solve(problem)
    else:
        found = propose(fitted, setting.recipe)
        problem, proposal = found.problem, found.proposal
    size = abs(problem.value(proposal.mixture.weights))
    known = {
        "law": fitted.law_name,
        "unseen": list(fitted.unsampled_domains),
        "kl_weight": proposal.kl_weight,
        "binding": [name for name in proposal.binding if "lower" not in name],
        "gap": None if proposal.gap is None else proposal.gap / size,
    }
    return problem, proposal.mixture, known


def settings(bench: Bench, base: Setting) -> Iterator[Setting]:
    """The base with one thing changed; the caller adds what holds for its study only."""
    recipe, n_runs = base.recipe, bench.swarm.n_runs
    yield replace(base, changed="law: log-linear, loss of our recipe (Huber at half a deviation)", refit=None)
    for law in ("power-link", "auto"):
        yield replace(base, changed=f"law: {law}", refit=None, recipe=recipe.model_copy(update={"law": law}))
    for name, metrics in bench.counted.items():
        if name != "52 tasks":
            content = recipe.model_dump() | {"objective": metrics.objective}
            yield replace(base, changed=f"metrics: {name}", metrics=metrics, recipe=StudyRecipe.model_validate(content))
    yield replace(base, changed="prior: proportional to tokens", recipe=recipe.model_copy(update={"prior": "natural"}))
    for kl in (0.0, 0.02, 0.1):
        yield replace(base, changed=f"lambda: {kl:g}", recipe=recipe.model_copy(update={"kl_weight": kl}))
    other = 6e12 if recipe.tokens == 1e12 else 1e12
    yield replace(base, changed=f"R: {other:.0e} tokens", recipe=recipe.model_copy(update={"tokens": other}))
    free = recipe.model_dump() | {"tokens": None, "constraints": {"max_epochs": None}}
    yield replace(base, changed="no repetition caps", recipe=StudyRecipe.model_validate(free))
    if len(base.runs) < n_runs:
        yield replace(base, changed="runs: all 127", runs=np.arange(n_runs))
    defaults = {"tokens": recipe.tokens, "objective": base.metrics.objective, "resamples": 0}
    yield replace(base, changed="every default of our recipe", refit=None, recipe=StudyRecipe.model_validate(defaults))


def study(name: str, bench: Bench, base: Setting, extra: list[Setting], workers: int) -> list[dict[str, Any]]:
    """One row per setting, the base first."""
    problem, own, base_known = solved(base, bench)
    there = Mixture(bench.swarm.domains, problem.bounds.clip(bench.published.weights))
    asked = [*extra, *settings(bench, base)]
    found = [(own, base_known), *at_once(asked, bench, workers)]
    rows = []
    for setting, (mixture, known) in zip([base, *asked], found, strict=True):
        row = {
            "study": name,
            "changed": setting.changed,
            "runs": len(setting.runs),
            "metrics": len(setting.metrics.columns),
            "n_tokens": setting.recipe.tokens,
            **known,
            "tv_published": mixture.total_variation(bench.published),
            "tv_base": mixture.total_variation(own),
            "gain_percent": bench.gains(mixture),
            "shares": {k: round(v, 6) for k, v in mixture.as_dict.items()},
        }
        rows.append(row)
        gain = row["gain_percent"]
        print(
            f"{name:9s} tv published {row['tv_published']:.3f} base {row['tv_base']:.3f} gain "
            f"{gain['log-linear']:.2f} {gain['power-link']:.2f}  {setting.changed}",
            flush=True,
        )
    rows[0]["objective_minus_published"] = problem.total(own.weights) - problem.total(there.weights)
    return rows


_WAITING: tuple[list[Setting], Bench] | None = None  # what forked workers inherit: laws and settings are not pickled


def _numbered(position: int) -> tuple[Mixture, dict[str, Any]]:
    assert _WAITING is not None
    _, mixture, known = solved(_WAITING[0][position], _WAITING[1])
    return mixture, known


def at_once(asked: list[Setting], bench: Bench, workers: int) -> list[tuple[Mixture, dict[str, Any]]]:
    """The proposals of several settings, in forked processes."""
    global _WAITING
    _WAITING = asked, bench
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(_numbered, range(len(asked))))


def other_splits(bench: Bench, base: Setting, workers: int) -> dict[str, Any]:
    """Total variation to the published mixture where other 64 runs are drawn."""
    drawn = [replace(base, runs=bench.split(seed)) for seed in range(1, N_SPLITS + 1)]
    found = [mixture.total_variation(bench.published) for mixture, _ in at_once(drawn, bench, workers)]
    quantiles = {"least": min(found), "median": float(np.median(found)), "greatest": max(found)}
    print("other splits", quantiles, flush=True)
    return {"study": "update 0", "changed": f"runs: {N_SPLITS} other draws of 64", "tv_published": quantiles}


def by_domain(bench: Bench, mixtures: dict[str, Mixture]) -> list[dict[str, Any]]:
    """Published share, ours, difference; update 0."""
    rows = []
    for name in bench.swarm.domains.names:
        shares = {label: mixture[name] for label, mixture in mixtures.items()}
        difference = shares["ours"] - bench.published[name]
        row = {"domain": name, "prior": bench.prior[name], "published": bench.published[name], **shares}
        rows.append(
            {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} | {"difference": difference}
        )
    return sorted(rows, key=lambda row: -abs(row["difference"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-floor", type=int, default=1, help="starts per floor of the fit as published; theirs: 30")
    parser.add_argument("--workers", type=int, default=1, help="settings at a time")
    given = parser.parse_args()
    need_swarms()
    bench, n = Bench.load(), given.workers
    base = Setting("base", bench.split(0), bench.counted["52 tasks"], bench.recipe(1e12), published_loss)
    as_theirs = replace(base, changed="unseen domain free, its slope at the published start", refit=at_start_value)
    starts = replace(base, changed=f"law: best of {10 * given.per_floor} starts", refit=bench.restarts(given.per_floor))
    rows = study("update 0", bench, base, [replace(s, unseen_free=True) for s in (as_theirs, starts)], n)
    rows.append(other_splits(bench, base, n))
    large = replace(base, runs=np.arange(bench.swarm.n_runs), recipe=bench.recipe(6e12))
    started = replace(large, changed=starts.changed, refit=starts.refit, unseen_free=True)
    further = study("6T", bench, large, [started], n)
    ours, theirs = (Mixture.normalised(bench.swarm.domains, list(rows[k]["shares"].values())) for k in (0, 2))
    table = by_domain(bench, {"ours": ours, "fit_by_restarts": theirs})
    write_results("olmix_base", [0], rows + further + table, targets(rows, further, bench))


def targets(rows: list[dict[str, Any]], further: list[dict[str, Any]], bench: Bench) -> list[Target]:
    gaps = [row["gap"] for row in rows + further if row.get("gap") is not None]
    judged, published = rows[0]["gain_percent"], bench.gains(bench.published)
    lost = max(published[name] - judged[name] for name in judged)
    above, above_6t = rows[0]["objective_minus_published"], further[0]["objective_minus_published"]
    return [
        Target("total variation to the published mixture, our recipe", rows[0]["tv_published"], 0.05, "", False),
        Target("total variation to it, fit by restarts as published", rows[2]["tv_published"], 0.05, "", False),
        Target("greatest certified gap, relative", max(gaps), 1e-6, "", False),
        Target("update 0: objective above the published mixture", above, 0, "", False),
        Target("6T: objective above the published mixture in the caps", above_6t, 0, "", False),
        Target("gain short of the published mixture, judged by all runs", lost, 0.1, "percent", False),
    ]


if __name__ == "__main__":
    main()
