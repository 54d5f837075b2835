"""What a decision is expected to gain before anything is known of the run: from what runs of our benchmarks were like.

In a world of that kind domain d has a slope b_d and a loss l_d; deciding sees them with an error and chooses p_hat; the
gain is that of p_hat over the start s in the objective, sum_d v_d exp(l_d - b_d log(p_d / s_d)). Worlds are drawn:

    log b ~ N(log .22, .8^2),   l ~ N(3.3, .35^2),   error of log b ~ N(0, .6^2)

as slopes and losses of 0.2M models on ten to eleven domains, and as far as a first experiment was from them
(docs/log/in-run.md). p_hat is the optimum with the slopes as seen, a fixed point of

    p_d ~ v_d b_d exp(l_d) (p_d / s_d)^-b_d

and at least a tenth of the start, as floors and pulls keep it. What reading costs is told as the gain of as many more
tokens: .45 nats per log of tokens, the fall at a third of such a run.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from evermix.results import Expectation

Floats = npt.NDArray[np.float64]
_WORLDS = 300
_SLOPE, _SLOPE_SD, _LEVEL, _LEVEL_SD, _ERROR_SD = 0.22, 0.8, 3.3, 0.35, 0.6
_FALL_PER_LOG_TOKEN = 0.45
_ROUNDS = 60
_LEAST = 0.1  # of a domain's start


@lru_cache(maxsize=64)
def expected_before(weights: tuple[float, ...], start: tuple[float, ...], part_read: float) -> Expectation:
    """The gain of a decision over the start, in percent of a mean perplexity, and what reading costs.

    Args:
        weights: of the objective, one per domain, summing to 1.
        start: mixture, a share per domain.
        part_read: FLOPs of reading as a part of the training's.
    """
    rng = np.random.default_rng(0)
    shape = (_WORLDS, len(weights))
    slopes = _SLOPE * np.exp(_SLOPE_SD * rng.normal(size=shape))
    levels = _LEVEL + _LEVEL_SD * rng.normal(size=shape)
    seen = slopes * np.exp(_ERROR_SD * rng.normal(size=shape))
    v, s = np.array(weights), np.array(start)
    chosen = _optimum(v, s, seen, levels)
    after = np.exp(levels - slopes * np.log(chosen / s)) @ v
    before = np.exp(levels) @ v
    gains = 100 * (1 - after / before)
    low, high = np.percentile(gains, (5, 95)).tolist()
    cost = 100 * (1 - float(np.exp(-_FALL_PER_LOG_TOKEN * np.log1p(part_read))))
    gain = float(gains.mean())
    return Expectation(
        gain=gain, low=low, high=high, probability=float((gains > 0).mean()), cost=cost, stays=gain <= cost
    )


def _optimum(weights: Floats, start: Floats, slopes: Floats, levels: Floats) -> Floats:
    """Of every world, shape (worlds, domains)."""
    pull = weights * slopes * np.exp(levels)
    p = np.tile(start, (len(slopes), 1))
    for _ in range(_ROUNDS):
        wanted = pull * (p / start) ** -slopes
        wanted = np.maximum(wanted / wanted.sum(axis=1, keepdims=True), _LEAST * start)
        p = np.sqrt(p * wanted)  # damped
        p /= p.sum(axis=1, keepdims=True)
    return p
