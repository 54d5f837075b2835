"""Values show themselves in a notebook: tables that are well-formed, escaped, and say the numbers."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import evermix as em
from evermix.notebook import html_table
from evermix.results import (
    ArmResult,
    Compute,
    DomainInfo,
    Means,
    ModelInfo,
    ObjectiveInfo,
    PhaseResult,
    RunResult,
)

SWARM = Path(__file__).parents[1] / "examples" / "swarm"


def cells(page: str) -> list[list[str]]:
    """Texts of a table, row by row, its caption first; the parser refuses what is not well-formed."""
    table = ElementTree.fromstring(page)
    return [[table.findtext("caption") or ""], *([cell.text or "" for cell in row] for row in table.iter("tr"))]


def test_texts_are_escaped_and_long_tables_are_cut() -> None:
    rows = cells(html_table("<b>", ["a & b"], [[f"<{k}>"] for k in range(70)]))
    assert rows[:3] == [["<b>"], ["a & b"], ["<0>"]]
    assert rows[-1] == ["and 10 more"]
    assert len(rows) == 63


def test_mixture() -> None:
    domains = em.DomainSet([em.Domain("web", 9 * 10**9), em.Domain("a<b", 10**9)])
    rows = cells(em.Mixture.natural(domains)._repr_html_())
    assert rows[1:] == [
        ["domain", "share", "tokens"],
        ["web", "90.00%", "9,000,000,000"],
        ["a<b", "10.00%", "1,000,000,000"],
    ]
    assert cells(em.Mixture.uniform(em.DomainSet(["x"]))._repr_html_())[-1] == ["x", "100.00%", ""]


def test_observations_and_proposal() -> None:
    observations = em.read_observations(SWARM).observations
    rows = cells(observations._repr_html_())
    assert rows[0] == ["Observations: 40 runs, 6 domains, 5 metrics; the first of each"]
    assert len(rows) == 2 + 10
    assert {len(row) for row in rows[1:]} == {1 + 6 + 5}
    recipe = em.StudyRecipe(law="power-link", kl=0.2, resamples=4)
    found = em.propose(em.fit(observations, recipe))
    caption, columns, *domains = cells(found._repr_html_())
    assert "law power-link" in caption[0]
    assert columns == ["domain", "share", "90% interval", "prior"]
    assert [row[0] for row in domains] == list(observations.domains.names)
    assert [row[1] for row in domains] == [f"{share:.2%}" for share in found.mixture.weights]


def phase(objective: float) -> PhaseResult:
    means = Means(loss_nats=1.0, bits_per_byte=1.25, perplexity=2.7)
    return PhaseResult(
        arm="natural",
        order=0,
        number=0,
        phase="base",
        kind="pretrain",
        trainer="text",
        new=("web",),
        known=(),
        n_rows=10,
        n_tokens=320,
        mixture={"web": 1.0},
        average_mixture={"web": 1.0},
        schedule=(),
        new_share=1.0,
        per_domain={},
        objective_value=objective,
        means=means,
        means_over_all=means,
        forgetting_nats={},
        mean_forgetting_nats=0.0,
        epochs={},
        tokens={},
        compute=Compute(),
        cumulative_compute=Compute.of("training", 2e9, 320, 1.0),
        model_id="m",
    )


def test_result() -> None:
    """The mean over the orders of what each ends with."""
    orders = ((phase(9.0), phase(3.0)), (phase(9.0), phase(5.0)))
    result = RunResult(
        recipe_fingerprint="f",
        project="runs/x",
        method="op-mix",
        seed=0,
        model=ModelInfo(name="0.2M", non_embedding=1, output_projection=1),
        objective=ObjectiveInfo(quantity="perplexity"),
        max_epochs=None,
        domains=(
            DomainInfo(name="web", n_tokens=1, n_rows=1, n_bytes=1, n_documents=1, decision_tokens=1, test_tokens=1),
        ),
        orders=(("base", "more"), ("base", "more")),
        arms={"natural": ArmResult(arm="natural", label="natural", colour="#000000", orders=orders)},
    )
    rows = cells(result._repr_html_())
    assert rows[1:] == [
        ["arm", "objective (perplexity)", "mean bits per byte", "FLOPs"],
        ["natural", "4", "1.25", "2e+09"],
    ]
