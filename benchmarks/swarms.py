"""The two public swarms of proxy runs, read by the product's own readers from shared/data/swarms."""

from __future__ import annotations

import numpy as np
from harness import HERE

from evermix.observations import Observations, ReadOptions, read_observations

ROOT = HERE.parent
SWARMS = next((s for s in (ROOT / "shared", ROOT.parent / "shared") if s.is_dir()), ROOT / "shared") / "data" / "swarms"
DROPPED = (  # by the published objective of Olmix, which names two more that the table lacks
    "qasper_yesno:rc::olmes",
    "sciriff_yesno:rc::olmes",
    "lab_bench_dbqa",
    "lab_bench_protocolqa",
    "medqa_en:rc::none",
)


def need_swarms() -> None:
    """End the program, with the reason, where the swarms are absent."""
    if not SWARMS.is_dir():
        raise SystemExit("this benchmark needs the public swarms in shared/data/swarms")


def regmix(*parts: str) -> Observations:
    """RegMix's 1M-parameter proxies: 512 `train` and 256 `test` runs x 17 domains x 13 losses; both if no part."""
    folder = SWARMS / "regmix-1m"
    tables = [
        read_observations((folder / f"{part}_mixture.csv", folder / f"{part}_loss.csv")).observations
        for part in parts or ("train", "test")
    ]
    first = tables[0]
    columns = [[table.domains.names.index(name) for name in first.domains.names] for table in tables]
    metrics = [[table.metrics.index(name) for name in first.metrics] for table in tables]
    return Observations(
        first.domains,
        np.concatenate([table.weights[:, order] for table, order in zip(tables, columns, strict=True)]),
        first.metrics,
        np.concatenate([table.values[:, order] for table, order in zip(tables, metrics, strict=True)]),
    )


def dclm(*, dropped: bool = True) -> Observations:
    """Olmix's 30M-parameter proxies: 127 runs x 24 topics x 110 metrics in bits per byte, 105 without the dropped."""
    options = ReadOptions(drop=DROPPED if dropped else ())
    return read_observations(SWARMS / "olmix-dclm", options=options).observations
