"""Five updates of a domain set on real text: every strategy of reuse, proxies and target really trained.

    python benchmarks/reuse.py [--seeds 0 1 2]      one process per seed; goes on where it stopped

A chain is a strategy and a law. It begins with a swarm over the topics and lives through the updates of evolving.py;
after each it proposes a mixture from which the next one freezes its proportions. Full recomputation has no memory: its
mixture is that of a swarm of its own over the last domain set (its runs at the other updates are counted, and trained
with --all-stages). The target is trained on every final mixture; gains are in mean bits per byte over the held-out text
of all domains, against the natural mixture.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from case_study import MAX_EPOCHS, TARGET, TARGET_TOKENS, full_design, one_thread, proxies, targets
from evolving import VOCABULARY, open_text, stages
from harness import RUNS, Target, mean_and_error, write_results

from evermix.deciding import fit, propose
from evermix.domain_updates import Add, Change, Partition, Remove, Revise
from evermix.files import write_json
from evermix.measure.swarm import MeasuredProxy, Proxy, Swarm, measure_proxy
from evermix.mixture import Mixture
from evermix.models.ladder import counted_parameters
from evermix.models.loading import load_to_score
from evermix.observations import Observations
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from evermix.training.evaluation import HeldoutText, evaluate

STUDIES = RUNS / "evolving" / "studies"
RELEASED = {"add sources": ("topic:reference",), "partition manuals": ("source:wordnet",)}  # what a person would free
REVISED_SINCE = 3  # the stage from which `source:mail` means another text


@dataclass(frozen=True)
class Chain:
    """A way through the updates.

    Attributes:
        small: K = unknowns + 1 instead of 3 (unknowns + 1).
    """

    name: str
    strategy: str
    law: str
    small: bool = False


CHAINS = (
    Chain("full", "full", "power-link"),
    Chain("full, log-linear", "full", "log-linear"),
    Chain("full, K = m + 1", "full", "power-link", small=True),
    Chain("mixture reuse", "mixture", "power-link"),
    Chain("mixture reuse, K = m + 1", "mixture", "power-link", small=True),
    Chain("auto", "auto", "power-link"),
    Chain("auto, K = m + 1", "auto", "power-link", small=True),
    Chain("partial reuse", "partial", "power-link"),
    Chain("swarm reuse", "swarm", "power-link"),
)

ONCE = ("partial reuse", "swarm reuse")  # with the first seed only


@dataclass
class Outcome:
    """A chain at its end."""

    mixture: Mixture
    n_runs: int
    flops: float
    seconds: float
    by_stage: list[dict[str, Any]]


class Bench:
    """One seed: text, proxies, and what has been trained."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.stages = stages()
        self.stores = [open_text(stage) for stage in self.stages]

    def swarm(self, stage: int) -> Swarm:
        return proxies(self.stores[stage], self.seed)

    def measure(self, proxies_wanted: Sequence[Proxy]) -> list[MeasuredProxy]:
        """Train and score what is not there yet; in this process, so that one process per seed keeps a core busy."""
        for proxy in proxies_wanted:
            if not proxy.marker.exists():
                measure_proxy(proxy.arguments, lambda done, total: None)
        return [proxy.result() for proxy in proxies_wanted]

    def named(self, stage: int, metrics: dict[str, float]) -> dict[str, float]:
        """Metrics by names that tell the revised text from the old one."""
        return {self.metric(stage, name): value for name, value in metrics.items()}

    def metric(self, stage: int, domain: str) -> str:
        return f"{domain} (2)" if domain == "source:mail" and stage >= REVISED_SINCE else domain

    def recipe(self, stage: int, law: str) -> StudyRecipe:
        """The published settings: lambda = 0.05 in bits per byte, natural prior, caps; every domain counts alike."""
        weights = {self.metric(stage, name): 1.0 for name in self.stores[stage].domains.names}
        return StudyRecipe.model_validate(
            {
                "law": law,
                "tokens": TARGET_TOKENS,
                "objective": {"weights": weights},
                "constraints": {"max_epochs": MAX_EPOCHS},
                "kl_weight": 0.05,
                "resamples": 0,
                "seed": self.seed,
            }
        )

    def update(self, stage: int) -> tuple[Change, ...]:
        """From the stage before to this one."""
        before, after = self.stores[stage - 1].domains, self.stores[stage].domains
        known = {domain.name: domain for domain in before}
        changes: list[Change] = []
        for name in known:
            parts = tuple(domain for domain in after if domain.name.startswith(f"{name}:"))
            if name not in after:
                changes.append(Partition(name, parts) if parts else Remove(name))
        split = {part.name for change in changes if isinstance(change, Partition) for part in change.parts}
        for domain in after:
            if domain.name not in known and domain.name not in split:
                changes.append(Add(domain.name, domain.n_tokens, domain.fingerprint))
            elif domain.name in known and domain.fingerprint != known[domain.name].fingerprint:
                changes.append(Revise(domain.name, domain.n_tokens, domain.fingerprint))
        return tuple(changes)


def full_recomputation(bench: Bench, chain: Chain, all_stages: bool) -> Outcome:
    """A swarm over the last domain set alone; the runs of the other stages are counted."""
    last = len(bench.stages) - 1
    counts = [len(store.domains) + 1 for store in bench.stores]
    rows = [
        {"stage": stage.name, "n_runs": n if chain.small else 3 * n}
        for stage, n in zip(bench.stages, counts, strict=True)
    ]
    trained = range(len(counts)) if all_stages and not chain.small else [last]
    found: dict[int, list[MeasuredProxy]] = {}
    for stage in trained:
        design = full_design(bench.stages[stage], bench.seed)[: rows[stage]["n_runs"]]
        swarm = bench.swarm(stage)
        found[stage] = bench.measure([swarm.proxy(mixture) for mixture in design])
    design = full_design(bench.stages[last], bench.seed)[: rows[last]["n_runs"]]
    metrics = tuple(bench.named(last, found[last][0].metrics))
    values = np.array([list(bench.named(last, one.metrics).values()) for one in found[last]])
    observations = Observations(
        bench.stores[last].domains, np.array([mixture.weights for mixture in design]), metrics, values
    )
    mixture = propose(fit(observations, bench.recipe(last, chain.law))).mixture
    n_runs = sum(row["n_runs"] for row in rows)
    per_run = [np.mean([(one.flops, one.seconds) for one in ones], axis=0) for ones in found.values()]
    flops, seconds = np.mean(per_run, axis=0) * n_runs
    return Outcome(mixture, n_runs, float(flops), float(seconds), rows)


def live_through(bench: Bench, chain: Chain) -> Outcome:
    """The first swarm, then every update by the chain's strategy."""
    folder = STUDIES / f"{chain.name.replace(', ', '-').replace(' ', '-')}-{bench.seed}-{time.time_ns()}"
    life = _Life(bench, chain, Study(folder, bench.stores[0].domains, bench.recipe(0, chain.law)))
    life.begin()
    for stage in range(1, len(bench.stages)):
        life.go_on(stage)
    mixture = life.study.mixture
    assert mixture is not None
    flops = sum(one.flops for one in life.measured.values())
    seconds = sum(one.seconds for one in life.measured.values())
    return Outcome(mixture, sum(row["n_runs"] for row in life.rows), flops, seconds, life.rows)


class _Life:
    """A study on its way through the stages; `measured` holds its runs."""

    def __init__(self, bench: Bench, chain: Chain, study: Study) -> None:
        self.bench, self.chain, self.study = bench, chain, study
        self.measured: dict[str, MeasuredProxy] = {}
        self.rows: list[dict[str, Any]] = []

    def begin(self) -> None:
        """The first swarm is the same for every chain of a seed."""
        design = full_design(self.bench.stages[0], self.bench.seed)
        if self.chain.small:
            design = design[: len(self.bench.stores[0].domains) + 1]
        swarm = self.bench.swarm(0)
        for number, one in enumerate(self.bench.measure([swarm.proxy(mixture) for mixture in design])):
            self._tell(f"first-{number:03d}", one, 0, design[number])
        self.study.propose()
        self._note("topics", len(design), ())

    def go_on(self, stage: int) -> None:
        """One update: plan, measure, release where it pays, propose."""
        study, chain, name = self.study, self.chain, self.bench.stages[stage].name
        study = Study(study.project.folder, recipe=self.bench.recipe(stage - 1, chain.law))
        changes = self.bench.update(stage)
        release = RELEASED.get(name, ()) if chain.strategy == "partial" else ()
        strategy = "mixture" if chain.strategy == "partial" and not release else chain.strategy
        affected = sum(len(c.parts) if isinstance(c, Partition) else 1 for c in changes if not isinstance(c, Remove))
        n_runs = affected + 2 if chain.small and affected else None
        study.update(changes, strategy, release, n_runs)
        self.study = Study(study.project.folder, recipe=self.bench.recipe(stage, chain.law))
        self._rescore(stage)
        n_made, released = 0, ()
        if self.study.version.carried is None:
            n_made = self._make(stage)
            if chain.strategy == "auto":
                released = self._release()
                n_made += self._make(stage) if released else 0
            self.study.propose()
        self._note(name, n_made, released)

    def _release(self) -> tuple[str, ...]:
        if not self.chain.small:
            return self.study.recompute()
        advised = tuple(each.domain for each in self.study.diagnose().recompute)
        return self.study.recompute(*advised, n_runs=len(advised)) if advised else ()

    def _make(self, stage: int) -> int:
        """Train what the study asks for; how many runs that were."""
        if self.study.remaining:
            self.study.ask(self.study.remaining)
        asked = self.study.pending()
        swarm = self.bench.swarm(stage)
        found = self.bench.measure([swarm.proxy(run.mixture) for run in asked])
        for run, one in zip(asked, found, strict=True):
            self._tell(run.run_id, one, stage)
        return len(asked)

    def _rescore(self, stage: int) -> None:
        """Earlier proxies on the text that is new: an evaluation, no training."""
        swarm = self.bench.swarm(stage)
        kept = {run_id: Proxy(swarm, {}, one.run_id) for run_id, one in self.measured.items()}
        for run_id, one in zip(kept, self.bench.measure(list(kept.values())), strict=True):
            self.study.tell(run_id, self.bench.named(stage, one.metrics))

    def _tell(self, run_id: str, one: MeasuredProxy, stage: int, mixture: Mixture | None = None) -> None:
        self.measured[run_id] = one
        self.study.tell(run_id, self.bench.named(stage, one.metrics), mixture)

    def _note(self, stage: str, n_runs: int, released: tuple[str, ...]) -> None:
        mixture = self.study.mixture
        assert mixture is not None
        self.rows.append({"stage": stage, "n_runs": n_runs, "released": list(released), "mixture": mixture.as_dict})


def train_targets(bench: Bench, mixtures: dict[str, Mixture]) -> dict[str, float]:
    """Mean bits per byte of the target on each mixture."""
    return {name: float(np.mean(values)) for name, values in target_scores(bench, mixtures).items()}


def target_scores(bench: Bench, mixtures: dict[str, Mixture]) -> dict[str, list[float]]:
    """Bits per byte of the target on each mixture, on the test text of every domain: what decided was decision text."""
    swarm = targets(bench.stores[-1], bench.seed)
    trained = {name: swarm.proxy(mixture) for name, mixture in mixtures.items()}
    bench.measure(list(trained.values()))
    text = HeldoutText.from_store(swarm.store, "test", swarm.evaluation_sequences)
    models = ((name, load_to_score(proxy.folder / "weights")) for name, proxy in trained.items())
    return {name: evaluate(model, text).bits_per_byte.tolist() for name, model in models}


def outcome_of(bench: Bench, chain: Chain, all_stages: bool) -> Outcome:
    """The chain's end, kept once it is reached."""
    kept = RUNS / "evolving" / "outcomes" / f"{chain.name}-{bench.seed}.json"
    domains = bench.stores[-1].domains
    if not kept.exists():
        full = chain.strategy == "full"
        found = full_recomputation(bench, chain, all_stages) if full else live_through(bench, chain)
        write_json(kept, {**vars(found), "mixture": found.mixture.as_dict})
    record = json.loads(kept.read_text())
    return Outcome(**{**record, "mixture": Mixture.from_dict(domains, record["mixture"])})


def chains_of(seed: int, first: int) -> tuple[Chain, ...]:
    """All chains with the first seed; the dear ones that carry no target are left out with the others."""
    return tuple(chain for chain in CHAINS if seed == first or chain.name not in ONCE)


def run_seed(seed: int, all_stages: bool, chains: Sequence[Chain] = CHAINS) -> list[dict[str, Any]]:
    """Every chain of one seed, and the targets on their mixtures."""
    one_thread()
    bench = Bench(seed)
    outcomes: dict[str, Outcome] = {}
    domains = bench.stores[-1].domains
    for chain in chains:
        started = time.monotonic()
        outcomes[chain.name] = outcome_of(bench, chain, all_stages)
        bits = train_targets(bench, {chain.name: outcomes[chain.name].mixture})
        spent = time.monotonic() - started
        print(f"seed {seed} {chain.name}: {outcomes[chain.name].n_runs} runs, {bits} in {spent:.0f} s", flush=True)
    references = {"natural": Mixture.natural(domains), "uniform": Mixture.uniform(domains)}
    bits = train_targets(bench, references | {name: outcome.mixture for name, outcome in outcomes.items()})
    rows = []
    for name, value in bits.items():
        row: dict[str, Any] = {"seed": bench.seed, "arm": name, "bits_per_byte": value}
        row["gain_percent"] = 100 * (1 - value / bits["natural"])
        if name in outcomes:
            outcome = outcomes[name]
            row |= {"n_runs": outcome.n_runs, "flops": outcome.flops, "proxy_seconds": outcome.seconds}
            row["total_variation_to_full"] = outcome.mixture.total_variation(outcomes["full"].mixture)
            row |= {"mixture": outcome.mixture.as_dict, "by_stage": outcome.by_stage}
        rows.append(row)
        print(f"  {name:28s} {value:.4f} bits per byte, gain {row['gain_percent']:.2f}%, runs {row.get('n_runs', 0)}")
    return rows


def kept(rows: list[dict[str, Any]], arm: str) -> tuple[float, float]:
    """Percent of full recomputation's mean gain and of its runs, over the seeds that have both arms."""
    seeds = {row["seed"] for row in rows if row["arm"] == arm}

    def total(name: str, key: str) -> float:
        return sum(row.get(key, 0) for row in rows if row["arm"] == name and row["seed"] in seeds)

    gain, runs = (100 * total(arm, key) / total("full", key) for key in ("gain_percent", "n_runs"))
    return gain, runs


def verdict(rows: list[dict[str, Any]]) -> list[Target]:
    """The issue's targets: kept gain (ratio of mean gains over seeds) and runs, both against full recomputation."""

    found = []
    for arm, least_kept, most_runs in (
        ("mixture reuse", 95, 26),
        ("auto", 98, 33),
        ("mixture reuse, K = m + 1", 95, 13),
        ("auto, K = m + 1", 98, 16.5),
    ):
        gain, runs = kept(rows, arm)
        found += [
            Target(f"{arm}: gain kept of full recomputation's", gain, least_kept, "%"),
            Target(f"{arm}: runs of full recomputation's", runs, most_runs, "%", False),
        ]
    return found


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The lines of docs/results.md: gains over natural, beside what the proxies cost in tokens of target training."""
    names = {
        "uniform": "uniform, no run",
        "full": "full recomputation",
        "full, K = m + 1": "full recomputation at K = m + 1",
        "mixture reuse": "full mixture reuse",
        "auto": "`auto`",
        "mixture reuse, K = m + 1": "full reuse at K = m + 1",
        "auto, K = m + 1": "`auto` at K = m + 1",
    }
    per_token = 6 * counted_parameters(str(TARGET.rung), VOCABULARY)
    lines = ["| mixture | gain over natural | kept | runs | cost of its proxies |", "|---|---|---|---|---|"]
    for arm, name in names.items():
        of_arm = [row for row in rows if row["arm"] == arm]
        gain, error = mean_and_error([row["gain_percent"] for row in of_arm])
        share, runs = kept(rows, arm)
        tokens = float(np.mean([row.get("flops", 0.0) for row in of_arm])) / per_token
        cost = f"{tokens / 1e6:.1f}M tokens" if tokens else "0"
        lines.append(f"| {name} | {gain:.1f}% ± {error:.1f} | {share:.0f}% | {runs:.0f}% | {cost} |")
    return "\n".join(lines)


def main() -> None:
    """Run every seed and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--all-stages", type=int, nargs="*", default=[], help="seeds whose full swarms are trained at every stage"
    )
    asked = parser.parse_args()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(run_seed, seed, seed in asked.all_stages, chains_of(seed, asked.seeds[0]))
            for seed in asked.seeds
        ]
        rows = [row for part in parts for row in part.result()]
    write_results("reuse", asked.seeds, rows, verdict(rows))


if __name__ == "__main__":
    main()
