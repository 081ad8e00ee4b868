"""What a federation's releases cost in (ε, δ), through opacus and Google's dp_accounting.

Adjacency is zero-out: one client's data against the same client sending the zero vector, everything else alike,
so that the number of clients in a round is public. One round is one sum with L2 sensitivity S and noise zS.

Three readers of the same run:
  ε_release  sees the released models only. Random cohorts hide who took part, which amplifies.
  ε_server   also knows every round's cohort: nothing is amplified, but only the k rounds that a client took part
             in cost it anything.
  ε_client   is another client: it sees the models, its own rounds' cohorts, and knows its own share of the noise.
No bound here uses who really took part: that is secret, and a figure computed from it would reveal it. Where k is
random, the bound takes a number that a client exceeds with probability at most δ/2, and δ includes that probability.
Which theorem serves which sampling:
  poisson    each client joins with rate q by itself. PLD (tight); PRV checks it.
  fixed      m of N without replacement. *Not* Poisson, and far dearer: the cohort with a client and the cohort
             without it differ in two members, hence twice the sensitivity. RDP of Wang, Balle, Kasiviswanathan
             2019 (https://arxiv.org/abs/1808.00087) as in dp_accounting, at half the noise multiplier.
  allocation one round of each block of N/m rounds. PLD; see `training.privacy.accounting.allocation`.
  full       q = 1: the Gaussian mechanism composed, exactly.
Distributed (Skellam) noise is accounted by RDP; see `training.privacy.accounting.skellam_rdp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import dp_accounting
from dp_accounting import NeighboringRelation, pld, rdp
from scipy import stats

from common.errors import PrivFedTalkError
from training.privacy.accounting.allocation import allocation_epsilon
from training.privacy.accounting.schedule import Schedule
from training.privacy.accounting.skellam_rdp import SkellamNoise, composed_epsilon, dominating_noise_multiplier
from training.privacy.mechanisms.poisson_sampling import RARE_COHORT

# RDP orders. Whole numbers are enough for subsampled Skellam noise; low ones matter where ε is large.
INTEGER_ORDERS = (*range(2, 129), *range(144, 513, 16), 1024)
# Each order of sampling without replacement costs α² steps up to 256, hence the gaps.
_FIXED_SIZE_ORDERS = (*range(2, 25), 28, 32, 40, 48, 64, 96, 128, 320, 512, 1024)
# PLD keeps a grid of privacy losses, with at most this many points up to a first bound on ε: about a second of work.
_FINEST_INTERVAL = 1e-4
_GRID_POINTS = 50_000
# With more noise than this no update is of any use, and the search for a noise multiplier gives up.
LARGEST_NOISE_MULTIPLIER = 1e6


# A plan, a report and the rounds of a run ask for the same bounds again and again, each of up to a second of work.
_once = lru_cache(maxsize=4096)


@dataclass(frozen=True)
class Epsilon:
    """A bound on ε and the theorem that gave it."""

    value: float
    accountant: str


def epsilon_release(
    schedule: Schedule, noise_multiplier: float, delta: float, skellam: SkellamNoise | None = None
) -> Epsilon:
    """ε towards somebody who sees the released models only.

    skellam: the integer mechanism where the noise is distributed; None for Gaussian noise of a trusted aggregator.
    A participation cap allows two bounds, and the better one is taken: k = cap rounds without amplification; or, where
    the cap hardly ever binds, full amplification at δ/2, while the other half of δ covers e^ε·P[the cap binds]. (The
    capped run equals the uncapped one unless the cap binds, and that depends on the draws, not on data.)
    """
    unamplified = epsilon_server(schedule, noise_multiplier, delta, skellam=skellam)
    if not schedule.draws or not schedule.amplifies or not 0 < unamplified.value < math.inf:
        return unamplified
    cap = schedule.max_participation
    if schedule.sampling == "allocation" or cap is None or cap >= schedule.rounds:
        amplified = _amplified(schedule, noise_multiplier, delta, skellam)
    else:
        amplified = _amplified(schedule, noise_multiplier, delta / 2, skellam)
        binds = float(stats.binom.sf(cap, schedule.rounds, schedule.rate))
        if binds > 0 and amplified.value + math.log(binds) > math.log(delta / 2):
            return unamplified
    return min(amplified, unamplified, key=lambda epsilon: epsilon.value)


def epsilon_server(
    schedule: Schedule,
    noise_multiplier: float,
    delta: float,
    participation: int | None = None,
    skellam: SkellamNoise | None = None,
) -> Epsilon:
    """ε towards somebody who knows each round's cohort: the composition over the k rounds a client took part in.

    participation: k where it is known; only the coordinator knows it, and it must not be published. Without it, the
    better of two bounds that do not depend on the draws: the schedule's worst case at δ; or, at δ/2, the k that a
    client exceeds with probability at most δ/2.
    """
    if participation is not None:
        return _composed(participation, noise_multiplier, delta, skellam)
    worst = _composed(schedule.participation, noise_multiplier, delta, skellam)
    if not schedule.draws_participation or not 0 < worst.value < math.inf:
        return worst
    likely = _composed(schedule.participation_but_for(delta / 2), noise_multiplier, delta / 2, skellam)
    return min(worst, likely, key=lambda epsilon: epsilon.value)


def epsilon_client(
    schedule: Schedule,
    noise_multiplier: float,
    delta: float,
    share_known: float = 0.0,
    skellam: SkellamNoise | None = None,
) -> Epsilon:
    """ε towards another client, who can subtract its own share of the noise.

    share_known: that share of the counted noise variance; 0 where a server adds the noise, or where the tolerated
    colluders include this client. Under Poisson sampling the client knows the cohorts of its own rounds. A victim's
    rounds therefore count unamplified where both were drawn (their number is Binomial(T, q²); the bound takes the one
    exceeded with probability δ/2) and amplified otherwise. The amplified part is counted for all T rounds.
    """
    z = noise_multiplier * math.sqrt(1.0 - share_known)
    left = None if skellam is None else skellam.scaled(1.0 - share_known)
    known = epsilon_server(schedule, z, delta, skellam=left)
    if schedule.sampling != "poisson" or not schedule.draws or not schedule.amplifies or not 0 < known.value < math.inf:
        return known
    both = int(stats.binom.isf(delta / 2, schedule.rounds, schedule.rate**2))
    gaussian = _gaussian(z if left is None else dominating_noise_multiplier(left))
    accountant = rdp.RdpAccountant(INTEGER_ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(_rounds(dp_accounting.PoissonSampledDpEvent(schedule.rate, gaussian), schedule.rounds))
    accountant.compose(_rounds(gaussian, both))
    spare = delta / 2 - (0.0 if left is None else _rare(schedule))
    value = float(accountant.get_epsilon(spare)) if spare > 0 else math.inf
    return min(known, Epsilon(value, "RDP (Poisson, joint rounds unamplified)"), key=lambda epsilon: epsilon.value)


@dataclass(frozen=True)
class Release:
    """One of several federations on the same clients, as composition needs it: its schedule and its mechanism."""

    schedule: Schedule
    noise_multiplier: float
    skellam: SkellamNoise | None = None


def epsilon_together(releases: Sequence[Release], delta: float) -> Epsilon:
    """ε_release of several federations on the same clients, each of which may depend on the earlier ones.

    For one federation, its own ε_release. For k, the better of two bounds: the sum of their ε at δ/k (basic
    composition), or, where none has cohorts of a fixed size or allocated ones, the sum of their Rényi divergences at
    whole orders (Mironov 2017, https://arxiv.org/abs/1702.07476).
    """
    releases = [one for one in releases if one.schedule.rounds]
    if not releases:
        return Epsilon(0.0, "nothing was released")
    if len(releases) == 1:
        (only,) = releases
        return epsilon_release(only.schedule, only.noise_multiplier, delta, only.skellam)
    share = delta / len(releases)
    each = [epsilon_release(one.schedule, one.noise_multiplier, share, one.skellam).value for one in releases]
    added = Epsilon(sum(each), f"sum of {len(releases)} releases")
    if not 0 < added.value < math.inf or any(one.schedule.sampling in ("fixed", "allocation") for one in releases):
        return added
    accountant, left = rdp.RdpAccountant(INTEGER_ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE), delta
    for one in releases:
        z = one.noise_multiplier if one.skellam is None else dominating_noise_multiplier(one.skellam)
        event, count = _gaussian(z), one.schedule.participation
        if one.schedule.draws and one.schedule.amplifies and one.schedule.max_participation is None:
            event, count = dp_accounting.PoissonSampledDpEvent(one.schedule.rate, event), one.schedule.rounds
            left -= 0.0 if one.skellam is None else _rare(one.schedule)
        accountant.compose(_rounds(event, count))
    value = float(accountant.get_epsilon(left)) if left > 0 else math.inf
    composed = Epsilon(value, f"RDP, {len(releases)} releases composed")
    return min(added, composed, key=lambda epsilon: epsilon.value)


def _composed(k: int, noise_multiplier: float, delta: float, skellam: SkellamNoise | None) -> Epsilon:
    """ε of k sums that are all known to include the client."""
    if k == 0:
        return Epsilon(0.0, "nothing was released")
    if noise_multiplier == 0:
        return Epsilon(math.inf, "no noise")
    if skellam is not None:
        return Epsilon(composed_epsilon(skellam, k, delta), "RDP (Skellam), composed")
    # k Gaussian sums are one with noise z/√k; its ε is known exactly (Balle and Wang 2018).
    value = dp_accounting.get_epsilon_gaussian(noise_multiplier / math.sqrt(k), delta)
    return Epsilon(float(value), "exact Gaussian composition")


def _amplified(schedule: Schedule, noise_multiplier: float, delta: float, skellam: SkellamNoise | None) -> Epsilon:
    q, T = schedule.rate, schedule.rounds
    if schedule.sampling == "fixed":
        if skellam is not None:
            # The theorem's sharp form needs the Gaussian's exact moments; none is claimed for Skellam noise.
            return Epsilon(math.inf, "no amplification is claimed for fixed-size cohorts under Skellam noise")
        return Epsilon(without_replacement_rdp(schedule, noise_multiplier, delta), "RDP (sampling without replacement)")
    if schedule.sampling == "allocation":
        if skellam is not None:
            return Epsilon(math.inf, "no amplification is claimed for allocated cohorts under Skellam noise")
        # Two looks at one sum under independent noise are one look under noise that is smaller by the root of two. The
        # bound takes the most looks that any round can have had for all of them.
        z = noise_multiplier / math.sqrt(1 + schedule.repeats)
        blocks = min(schedule.blocks, schedule.max_participation or schedule.blocks)
        guess = poisson_rdp(q, z, blocks * schedule.block_length, delta)
        value = allocation_epsilon(schedule.block_length, z, blocks, delta, guess)
        return Epsilon(value, "PLD (random allocation)")
    if skellam is not None:
        # Sound at whole orders by `dominating_noise_multiplier`: the subsampled moments are sums of plain ones.
        left = delta - _rare(schedule)
        z = dominating_noise_multiplier(skellam)
        return Epsilon(poisson_rdp(q, z, T, left) if left > 0 else math.inf, "RDP (Poisson-sampled Skellam)")
    return poisson_pld(q, noise_multiplier, T, delta)


def _rare(schedule: Schedule) -> float:
    """Bound on the probability that some round has a cohort of a rare size, which its noise would reveal (Skellam)."""
    return schedule.rounds * RARE_COHORT


@_once
def poisson_pld(q: float, noise_multiplier: float, rounds: int, delta: float) -> Epsilon:
    """Poisson-sampled Gaussian sums by privacy loss distributions (pessimistic discretisation: an upper bound).

    A first RDP bound on ε decides how fine the grid is: 1e-4 for ordinary ε, coarser where ε is in the hundreds, so
    that time and memory stay bounded. Where the grid could not hold the losses, the RDP bound is returned.
    """
    bound = poisson_rdp(q, noise_multiplier, rounds, delta)
    # The grid must reach the loss of one round and of the composition, whichever is larger.
    reach = max(min(bound, 1e300), 1 / noise_multiplier**2)
    if reach > 1e7:
        return Epsilon(bound, "RDP (Poisson)")
    interval = max(_FINEST_INTERVAL, reach / _GRID_POINTS)
    accountant = pld.PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    accountant.compose(_rounds(dp_accounting.PoissonSampledDpEvent(q, _gaussian(noise_multiplier)), rounds))
    value = float(accountant.get_epsilon(delta))
    return Epsilon(value, "PLD (Poisson)") if value <= bound else Epsilon(bound, "RDP (Poisson)")


def poisson_prv(q: float, noise_multiplier: float, rounds: int, delta: float, eps_error: float = 0.01) -> float:
    """The ε of `poisson_pld` by opacus' PRV accountant, for moderate ε; at most 2·`eps_error` too large."""
    from opacus.accountants import PRVAccountant  # brings torch along

    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, q, rounds)]
    return float(accountant.get_epsilon(delta, eps_error=eps_error))


@_once
def poisson_rdp(q: float, noise_multiplier: float, rounds: int, delta: float) -> float:
    """The ε of `poisson_pld` by RDP at whole orders: looser, but quick, and for noise of any size."""
    accountant = rdp.RdpAccountant(INTEGER_ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(_rounds(dp_accounting.PoissonSampledDpEvent(q, _gaussian(noise_multiplier)), rounds))
    return float(accountant.get_epsilon(delta))


@_once
def without_replacement_rdp(schedule: Schedule, noise_multiplier: float, delta: float) -> float:
    """ε of Gaussian sums over fixed-size cohorts, by RDP.

    dp_accounting's formula takes the noise over the *replace-one* sensitivity, which for a sum of vectors of norm S is
    2S: hence z/2. The bound covers zero-out too, where a cohort that a client did not enter still holds another client
    in its place.
    """
    accountant = rdp.RdpAccountant(_FIXED_SIZE_ORDERS, NeighboringRelation.REPLACE_ONE)
    event = dp_accounting.SampledWithoutReplacementDpEvent(
        schedule.clients, schedule.per_round, _gaussian(noise_multiplier / 2)
    )
    accountant.compose(_rounds(event, schedule.rounds))
    return float(accountant.get_epsilon(delta))


def noise_for_epsilon(
    schedule: Schedule,
    target_epsilon: float,
    delta: float,
    epsilon_of: Callable[[Schedule, float, float], Epsilon] = epsilon_release,
    precision: float = 1e-3,
) -> float:
    """The smallest noise multiplier (to `precision`, rounded up) whose ε is at most `target_epsilon`.

    epsilon_of: `epsilon_release`, `epsilon_server`, or either with its Skellam noise made from z.
    """
    if not 0 < target_epsilon < math.inf:  # NaN fails too: the search below would never end
        raise PrivFedTalkError(f"target ε = {target_epsilon}", remedy="ask for a positive, finite ε")
    if schedule.rounds == 0:
        return 0.0
    # ε is nearly a power of z, so a straight line through two points of (log z, log ε) nearly hits the target.
    below, above = 0.0, 1.0
    high = epsilon_of(schedule, above, delta).value
    low = math.inf
    while high > target_epsilon:
        below, low, above = above, high, 2 * above
        if above > LARGEST_NOISE_MULTIPLIER:
            raise PrivFedTalkError(
                f"no noise multiplier below {LARGEST_NOISE_MULTIPLIER:.0e} reaches ε = {target_epsilon} over "
                f"{schedule.rounds} rounds; {LARGEST_NOISE_MULTIPLIER:.0e} would leave about {high:.2g}",
                remedy="ask for a larger ε or δ, or train fewer rounds",
            )
        high = epsilon_of(schedule, above, delta).value
    while above - below > precision * above:
        z = _between(below, low, above, high, target_epsilon, precision)
        value = epsilon_of(schedule, z, delta).value
        if value > target_epsilon:
            below, low = z, value
        else:
            above, high = z, value
    return above


def _between(below: float, low: float, above: float, high: float, target: float, precision: float) -> float:
    """The noise multiplier to try next, between `below` and `above`, whose ε are `low` and `high`.

    It is where the line in (log z, log ε) meets the target, moved slightly towards the farther end so that the bracket
    closes from both sides; without such a line it is half of `above`, or the geometric middle.
    """
    if below == 0.0:
        return above / 2
    middle = math.sqrt(below * above)
    if not (math.isfinite(low) and high > 0):
        return middle
    share = (math.log(low) - math.log(target)) / (math.log(low) - math.log(high))
    guess = below * (above / below) ** share
    margin = 1 + precision / 3
    guess = guess * margin if share < 0.5 else guess / margin
    return guess if below * (1 + precision / 10) < guess < above / (1 + precision / 10) else middle


def _rounds(event: dp_accounting.DpEvent, rounds: int) -> dp_accounting.DpEvent:
    return dp_accounting.SelfComposedDpEvent(event, rounds)


def _gaussian(noise_multiplier: float) -> dp_accounting.DpEvent:
    return dp_accounting.GaussianDpEvent(noise_multiplier)


def finite(value: float) -> float | None:
    """The value, or None where it is infinite: JSON knows no infinity."""
    return value if math.isfinite(value) else None
