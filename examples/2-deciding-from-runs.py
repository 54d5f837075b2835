"""From a table of runs to a mixture, in Python: python examples/2-deciding-from-runs.py [SWARM] [TOKENS]

SWARM is a folder that `evermix fit` reads, such as a published swarm; without one, the small one beside this file.
"""

import sys
from pathlib import Path

import evermix as em

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "swarm"
tokens = sys.argv[2] if len(sys.argv) > 2 else "50B"

# 1. Runs x domains and runs x metrics, joined by run. What was left out, and what is worth knowing, is said.
reading = em.read_observations(source)
runs = reading.observations
print(f"{runs.n_runs} runs, {len(runs.domains)} domains, {len(runs.metrics)} metrics")
for item in (*reading.left_out, *reading.findings):
    print(" ", item)

# 2. A law per metric, judged on runs that it has not seen.
recipe = em.StudyRecipe(tokens=tokens, resamples=50)
fitted = em.fit(runs, recipe, reading.left_out)
held_out = fitted.calibration.objective
print(f"held out: rank correlation {held_out.spearman:.2f}, RMSE {held_out.rmse:.4f}, slope {held_out.slope:.2f}")

# 3. The mixture, with what it gains and what speaks against it.
found = em.propose(fitted)
for name, share in sorted(found.mixture.as_dict.items(), key=lambda pair: -pair[1])[:8]:
    print(f"  {name:30} {share:6.1%}")
for reference in ("natural", "uniform"):
    if found.bootstrap is not None and reference in found.comparison:
        gain = found.bootstrap.gain(reference)
        print(f"gain over {reference}: {gain.corrected:.4f} ({gain.interval.low:.4f} to {gain.interval.high:.4f})")
for warning in found.warnings:
    print(warning)

# 4. What if a domain gets twice its share?
first = max(found.mixture.as_dict, key=lambda name: found.mixture[name])
answer = em.what_if(fitted, found.mixture, {first: min(2 * found.mixture[first], 1.0)})
change, low, high = answer.objective_change
print(f"twice as much {first}: the objective changes by {change:+.4f} ({low:+.4f} to {high:+.4f})")
