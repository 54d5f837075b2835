"""Speed and exactness of the mixture stream, reading from a real store on disk: `python benchmarks/stream.py`.

For m = 8, 64 and 1000 domains it builds a store of synthetic text, then draws batches of 32 sequences of 128 tokens by
a random mixture and reads them, in one process. Writes benchmarks/results/stream.json.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from evermix.corpus import MixtureStream, StoreSettings, TextSource, TokenStore, build_store, train_bpe
from evermix.domains import DomainSet
from evermix.mixture import Mixture
from evermix.schedule import MixtureSchedule

RESULT = Path(__file__).parent / "results" / "stream.json"
SEED = 0
LENGTH, BATCH, N_SEQUENCES = 128, 32, 40_000
TEXT_BYTES = 24_000_000
GOAL_TOKENS_PER_S = 1e6


def main() -> None:
    """Measure every number of domains, print and write the table."""
    rows = [measure(m) for m in (8, 64, 1000)]
    slowest = min(row["n_tokens_per_s"] for row in rows)
    drift = max(row["largest_deviation_sequences"] for row in rows)
    second = max(row["second_open_s"] for row in rows)
    result = {
        "machine": machine(),
        "seeds": [SEED],
        "rows": rows,
        "targets": [
            target("tokens per second and process, slowest case", slowest, GOAL_TOKENS_PER_S, "tokens/s", True),
            target("largest deviation from n*p at any prefix", drift, 1.0, "sequences", False),
            target("second build of the same store", second, 10.0, "s", False),
        ],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(m: int) -> dict[str, float]:
    """Build, build again, draw and read with `m` domains."""
    with tempfile.TemporaryDirectory() as folder:
        sources = write_text(Path(folder), m)
        sample = (Path(folder) / sources[0].files[0]).read_text()
        tokenizer = train_bpe({"sample": [sample]}, 4096)
        settings = StoreSettings(LENGTH, base=Path(folder))
        build_s, store = timed_build(sources, tokenizer, Path(folder), settings)
        second_s, store = timed_build(sources, tokenizer, Path(folder), settings)
        return {
            "n_domains": m,
            "build_s": round(build_s, 2),
            "build_megabytes_per_s": round(TEXT_BYTES / 1e6 / build_s, 2),
            "second_open_s": round(second_s, 3),
            **draw_and_read(store, mixture(store.domains)),
        }


def timed_build(sources, tokenizer, folder, settings) -> tuple[float, TokenStore]:  # type: ignore[no-untyped-def]
    """Seconds and the store."""
    start = time.perf_counter()
    store = build_store(sources, tokenizer, folder / "store", settings)
    return time.perf_counter() - start, store


def draw_and_read(store: TokenStore, mix: Mixture) -> dict[str, float]:
    """Tokens per second of draw + read, and the largest deviation from exact proportion."""
    schedule = MixtureSchedule.constant(mix)
    stream = MixtureStream(store.train_sizes, store.domains.names, schedule, SEED)
    start = time.perf_counter()
    for _ in range(N_SEQUENCES // BATCH):
        store.read(stream.draw(BATCH))
    elapsed = time.perf_counter() - start
    again = MixtureStream(store.train_sizes, store.domains.names, schedule, SEED)
    deviation = 0.0
    for _ in range(2000):
        again.draw(1)
        deviation = max(deviation, float(np.abs(again.counts - again.position * mix.weights).max()))
    return {
        "n_tokens_per_s": round(N_SEQUENCES * LENGTH / elapsed),
        "largest_deviation_sequences": round(deviation, 6),
    }


def write_text(folder: Path, m: int) -> list[TextSource]:
    """m text files of equal size, one document per line."""
    rng = np.random.default_rng(SEED)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrst"), rng.integers(2, 9))) for _ in range(5000)])
    for j in range(m):
        text = " ".join(rng.choice(words, TEXT_BYTES // m // 6))
        (folder / f"d{j}.txt").write_text("\n".join(text[i : i + 400] for i in range(0, len(text), 400)))
    return [TextSource(f"d{j}", (f"d{j}.txt",), documents="line") for j in range(m)]


def mixture(domains: DomainSet) -> Mixture:
    """A skewed random mixture."""
    return Mixture(domains, np.random.default_rng(SEED).dirichlet(np.full(len(domains), 0.5)))


def target(name: str, value: float, goal: float, unit: str, more_is_better: bool) -> dict[str, object]:
    """One line of the result's list of targets."""
    met = value >= goal if more_is_better else value < goal
    return {"name": name, "value": value, "goal": goal, "unit": unit, "met": bool(met)}


def machine() -> str:
    """Processor, cores, Python."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [s.split(":")[1].strip() for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
    name = models[0] if models else platform.processor()
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


if __name__ == "__main__":
    main()
