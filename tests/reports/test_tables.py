"""Tables of a run in the terminal: every domain, mean and overhead; a swarm's mixture; plans and listings."""

from __future__ import annotations

import re

import pytest

from evermix.reports.decision_tables import binding_reasons, estimate_words
from evermix.reports.layout import Cell, Grid, cells, show
from evermix.reports.listings import print_corpora
from evermix.reports.plans import print_plan
from evermix.reports.run_tables import print_result
from evermix.results.plan import ArmPlan, PhasePlan, RunPlan, SwarmPlan
from evermix.results.swarm import EstimateView

from .printing import printed
from .synthetic_result import NAMES, SPENT, one_phase, phases, proposal, swarm, swarm_record, whole, with_equal_compute


def test_result_shows_every_domain_mean_and_overhead() -> None:
    text = printed(print_result, one_phase())
    for name in NAMES:
        assert name in text or name[:12] in text
    (mean,) = [line for line in text.splitlines() if line.strip().startswith("mean of all 10")]
    assert mean.split()[-3:] == ["18.88", "17.91", "17.61"]
    assert "+11.1%" in text
    assert "mode probe-law, KL weight 0.05" in text
    assert "No intervals and warnings: 11 probes of 10 domains leave nothing to resample." in text


def test_a_baseline_at_equal_compute_is_a_row_like_others() -> None:
    """Its values, its compute and its sentence; the note says what it is."""
    text = printed(print_result, with_equal_compute(one_phase(n_domains=4), "uniform"), width=160)
    (row,) = [line.split() for line in text.splitlines() if re.match(r" uniform\+compute +15", line)]
    assert row[:5] == ["uniform+compute", "15.81", "1.3204", "7.11", "TFLOP"]
    assert "+compute: on as many more tokens as what evermix spends on deciding pays for." in text
    assert text.count("lower than uniform at equal compute") == 2  # in the headline, and below it
    assert text.count("lower than uniform at 11.1% more compute") == 1
    assert "+compute" not in printed(print_result, one_phase())


def test_narrow_terminal_loses_no_number() -> None:
    text = printed(print_result, one_phase(), width=80)
    assert "…" not in text
    assert "18.88" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("n_domains", [3, 30])
def test_no_number_is_folded_at_any_width(width: int, n_domains: int) -> None:
    """Columns that do not fit go on below, each block beside the names of the rows."""
    numbers = [f"{row}.{column:02}e+{row}{column:02}" for row in range(2) for column in range(n_domains)]
    rows = [[Cell(f"row {row}"), *cells(*numbers[row * n_domains :][:n_domains])] for row in range(2)]
    grid = Grid("Title", ["", *(f"c{i}" for i in range(n_domains))], rows)
    text = printed(lambda console: show(console, [grid]), width=width)
    assert all(line == line.rstrip() or len(line) <= width for line in text.splitlines())
    assert sorted(word for word in text.split() if "e+" in word) == sorted(numbers)
    assert text.count("row 0") == text.count("row 1") >= n_domains * 9 // width
    assert text.count("Title") == 1


def test_the_page_splits_a_wide_table_between_its_groups() -> None:
    heads = [f"{group}{i}" for group in "abc" for i in range(4)]
    rows, foot = [cells("row", *heads)], [cells("mean", *heads)]
    grid = Grid("", ["", *heads], rows, groups=[("", 1), ("a", 4), ("b", 4), ("c", 4)], foot=foot, words=[1, 9])
    first, second = grid.parts
    assert [*first.columns, *second.columns] == ["", *heads[:8], "", *heads[8:]]
    assert (list(first.groups), list(second.groups)) == ([("", 1), ("a", 4), ("b", 4)], [("", 1), ("c", 4)])
    assert (first.words, second.words) == ([1], [1])
    for part in (first, second):
        for line, name in ((part.rows[0], "row"), (part.foot[0], "mean")):
            assert [cell.text for cell in line] == [name, *part.columns[1:]]
    wide = Grid("", ["", *map(str, range(35))], [cells("row", *map(str, range(35)))])
    assert [len(part.columns) for part in wide.parts] == [11, 11, 11, 6]
    assert first.parts == [first]


def test_unfinished_result() -> None:
    assert "Not finished" in printed(print_result, whole(orders=(("pretraining",),), domains=()))


@pytest.mark.parametrize("n_orders", [1, 5])
def test_tables_of_phases(n_orders: int) -> None:
    text = printed(print_result, phases(n_orders=n_orders), width=200)
    assert "saved against retrain" in text
    assert "60.0%" in text
    assert text.count("(its new share)") == min(n_orders, 3)
    assert ("2 more orders" in text) == (n_orders == 5)
    assert re.search(r"\(100%\)", text)


def test_a_swarm_tells_evidence_cost_and_what_is_missing() -> None:
    text = printed(print_result, swarm(proposal()))
    assert "Predicted gain of the mixture: 1.5% (90% interval 0.8 to 2.2%) over natural." in text.replace("1.50", "1.5")
    for words in ("web [x]", "31.0–45.0", "75.0%", "Swarm: 8 proxies of 1M", "40 GFLOP", "Mind this. Do that."):
        assert words in text
    assert "Left out: run-0003, which failed (worker died: signal 9)" in text
    assert "quiz:accuracy" in text


def test_before_and_after_an_update() -> None:
    before = {"web [x]": 0.5, "code": 0.25, "spam": 0.25}
    text = printed(print_result, swarm(proposal(), swarm_record(before=before)))
    assert "gone" in text
    assert "25.0% of the tokens go to another domain than before" in text


def test_carried_results() -> None:
    record = swarm_record(this_version={**SPENT, "n_trained": 0}, held_out_tasks={})
    text = printed(print_result, swarm(None, record))
    assert "no runs were needed" in text
    assert "no proxies were trained; 8 are known from before" in text


def test_interval_without_an_upper_end() -> None:
    estimate = EstimateView(value=0.1, low=0.0, high=float("inf"))
    assert estimate_words(estimate) == "0.1 (80% interval 0 or more)"


def test_binding_with_and_without_reason() -> None:
    assert binding_reasons(["web: upper (epochs)", "legal"]) == {"web": "epochs", "legal": "bound"}


PHASE = PhasePlan(
    number=0,
    phase="pretraining",
    kind="pretrain",
    trainer="plain",
    domains=("a", "b"),
    new=("a", "b"),
    n_steps=1200,
    n_tokens=1_234_567,
    decided_at=(480,),
    n_probes=3,
    steps_per_probe=25,
)
PLAN = RunPlan(
    project="runs/demo",
    method="op-mix",
    model="0.2M",
    n_parameters=265_536,
    mode="probe-law",
    orders=(("pretraining",),),
    phases=((PHASE,),),
    arms={"evermix": ArmPlan(tokens_by_part={"training": 1e6}, flops_by_part={"training": 2e12, "probes": 1e11})},
    not_estimated=("generation: what the model writes",),
)


def test_plan() -> None:
    text = printed(print_plan, PLAN)
    for words in ("a, b", "1,200", "1.23M", "2 TFLOP", "2.1 TFLOP", "before step 480: 3 probes of 25 steps"):
        assert words in text
    assert "not estimated: generation" in text


def test_plan_of_a_swarm_without_arms() -> None:
    swarm = SwarmPlan(rung="1M", law="log-linear", n_runs=8, reason="what law log-linear needs for 2 domains")
    text = printed(print_plan, PLAN.model_copy(update={"method": "olmix", "swarm": swarm, "arms": {}}))
    assert "8 of 1M (what law log-linear needs for 2 domains)" in text
    assert "not known before the tokenizer is read" in text
    assert "none is trained: the mixture is the end" in text
    priced = swarm.model_copy(
        update={"tokens_per_proxy": 20_000, "steps_per_proxy": 10, "chinchilla": 0.5, "flops": 4e12}
    )
    told = printed(print_plan, PLAN.model_copy(update={"swarm": priced}))
    assert "4 TFLOP, 160k tokens; scoring the proxies comes on top" in told


def test_corpora() -> None:
    text = printed(print_corpora, [{"name": "legal", "licence": "[MIT]"}])
    assert "legal" in text
    assert "[MIT]" in text
