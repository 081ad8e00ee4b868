"""What canaries show about ε: an estimate, and a lower bound that holds with a stated confidence.

A canary is a client whose update is a random direction of full norm, which the adversary knows. About half of them,
each by a coin, send nothing instead: an adversary who cannot tell these from the others learnt nothing. Two scores for
each canary:

  final        the cosine of its direction with θ_T − θ_0, for an adversary who sees the released model only
  all iterates Σ_t log(1 − q + q·exp(y_t/z − 1/2z²)), y_t = ⟨c, S̃_t⟩/C: the likelihood ratio of being sampled with
               rate q or not at all, for an adversary who sees every round's sum, as ε_release assumes

`one_shot` is Andrew et al. 2023 (https://arxiv.org/abs/2302.03098): close to the truth where noise is Gaussian, and no
bound. `lower_bound` is Steinke, Nasr, Jagielski 2023 (https://arxiv.org/abs/2305.08846): a bound, and a loose one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Scores = NDArray[np.float64]

GUESSED = 0.3
"""Share of the canaries that the adversary guesses, half of them as included and half as not. It is set beforehand,
because choosing it by the outcome would cost confidence."""
_LARGEST = 1e7
_RESAMPLES = 200
_DEVIATIONS = 3.29


@dataclass(frozen=True)
class Estimate:
    """The estimate of ε by Andrew et al., with an interval of 3.3 standard errors to either side (99.9 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bound:
    """ε is at least `value` with the requested confidence; `right` of `guesses` guesses were right."""

    value: float
    guesses: int
    right: int


def one_shot(scores: Scores, dimension: int, delta: float, seed: int = 0) -> Estimate:
    """ε̂ from the cosines [k] of included canaries, against those of directions that were not included: N(0, 1/d).

    Both distributions are treated as Gaussians; ε̂ is where the larger of their two hockey-stick divergences is δ. Its
    standard error comes from resampled canaries.
    """
    absent = (0.0, 1.0 / math.sqrt(dimension))

    def epsilon_of(cosines: Scores) -> float:
        return epsilon_between((float(cosines.mean()), float(cosines.std(ddof=1))), absent, delta)

    rng = np.random.default_rng(seed)
    draws = [epsilon_of(rng.choice(scores, scores.size)) for _ in range(_RESAMPLES)]
    value, half = epsilon_of(scores), _DEVIATIONS * float(np.std(draws))
    return Estimate(value, max(0.0, value - half), value + half)


def epsilon_between(p: tuple[float, float], q: tuple[float, float], delta: float) -> float:
    """The smallest ε at which two Gaussians, each (mean, deviation), are (ε, δ)-indistinguishable."""

    def excess(epsilon: float) -> float:
        return max(hockey_stick(p, q, epsilon), hockey_stick(q, p, epsilon)) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
        if high > _LARGEST:
            return math.inf
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-6))


def hockey_stick(p: tuple[float, float], q: tuple[float, float], epsilon: float) -> float:
    """∫ max(0, p(x) − e^ε q(x)) dx for two Gaussians, each (mean, deviation).

    The integrand is positive where log p/q exceeds ε, which is a x² + b x + c > 0: on two tails, on the interval
    between two roots, everywhere or nowhere.
    """
    (m_p, s_p), (m_q, s_q) = p, q
    a = 0.5 * (s_q**-2 - s_p**-2)
    b = m_p / s_p**2 - m_q / s_q**2
    c = 0.5 * (m_q**2 / s_q**2 - m_p**2 / s_p**2) + math.log(s_q / s_p) - epsilon
    if abs(a) < 1e-12 * s_q**-2:  # equal deviations: a half-line
        if b == 0:
            return max(0.0, -math.expm1(epsilon)) if c > 0 else 0.0
        end = -c / b
        cuts = [(end, math.inf)] if b > 0 else [(-math.inf, end)]
    elif b * b <= 4 * a * c:
        cuts = [(-math.inf, math.inf)] if a > 0 else []
    else:
        # The root without cancellation first, the other from their product c/a.
        far = -0.5 * (b + math.copysign(math.sqrt(b * b - 4 * a * c), b))
        r, s = sorted((far / a, c / far))
        cuts = [(-math.inf, r), (s, math.inf)] if a > 0 else [(r, s)]
    inside_p = sum(math.exp(_log_mass(cut, p)) for cut in cuts)
    inside_q = sum(math.exp(min(epsilon + _log_mass(cut, q), 700.0)) for cut in cuts)
    return max(0.0, inside_p - inside_q)


def _log_mass(cut: tuple[float, float], gaussian: tuple[float, float]) -> float:
    """log P[low < X < high], exact in both tails."""
    low, high = ((end - gaussian[0]) / gaussian[1] for end in cut)
    if low > 0:
        low, high = -high, -low
    upper, lower = float(special.log_ndtr(high)), float(special.log_ndtr(low))
    return upper + math.log1p(-math.exp(lower - upper)) if lower < upper else -math.inf


def iterate_score(y: Scores, q: float, z: float) -> Scores:
    """One round's term of the all-iterates score; y = ⟨c, S̃⟩/C has noise of deviation z on a canary of length 1."""
    exponent = y / z**2 - 0.5 / z**2
    if q == 1.0:
        return exponent
    return np.logaddexp(math.log1p(-q), math.log(q) + exponent)


def lower_bound(scores: Scores, included: NDArray[np.bool_], delta: float, confidence: float) -> Bound:
    """The largest ε refuted by guessing that canaries of top scores were included and those of bottom scores were not.

    included: M independent fair coins. ε is refuted if so many right guesses have a probability below 1 − confidence
    under every (ε, δ)-private mechanism (Theorem 5.2 of Steinke et al.).
    """
    M = scores.size
    each = max(1, round(GUESSED * M / 2))
    order = np.argsort(scores, kind="stable")
    right = int(included[order[-each:]].sum() + (~included[order[:each]]).sum())
    guesses = 2 * each
    beta = 1.0 - confidence

    def excess(epsilon: float) -> float:
        return p_value(guesses, right, epsilon, delta, M) - beta

    if excess(0.0) > 0:
        return Bound(0.0, guesses, right)
    high = 1.0
    while excess(high) <= 0:
        high *= 2
    return Bound(float(optimize.brentq(excess, 0.0, high, xtol=1e-6)), guesses, right)


def p_value(guesses: int, right: int, epsilon: float, delta: float, canaries: int) -> float:
    """An upper bound on the probability of v right guesses among r under (ε, δ)-privacy:
    P[W ≥ v] + 2Mδ · max_{1≤i≤v} P[v−i ≤ W < v]/i, W ~ Bin(r, e^ε/(1+e^ε))."""
    chance = float(special.expit(epsilon))
    tail = float(stats.binom.sf(right - 1, guesses, chance))
    i = np.arange(1, right + 1)
    below = stats.binom.sf(right - i - 1, guesses, chance) - tail
    return min(1.0, tail + 2 * canaries * delta * float(np.max(below / i, initial=0.0)))
