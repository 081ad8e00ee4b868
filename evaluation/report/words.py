"""Says figures in plain sentences, all of them derived from results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.catalogue import BACKBONE, metric, name_of
from evaluation.tables.columns import SIGNIFICANT
from training.privacy.digits import three_digits

LOUD_EPSILON = 10.0


def findings(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """A text for each pair of methods: which metrics differ significantly, and that the others do not."""
    pairs = dict.fromkeys((one["method"], one["baseline"]) for one in comparisons)
    sentences = []
    for method, baseline in pairs:
        of_pair = [one for one in comparisons if (one["method"], one["baseline"]) == (method, baseline)]
        known = [one for one in of_pair if one["p_holm"] is not None]
        differing = [one for one in known if one["p_holm"] < SIGNIFICANT]
        other = "the frozen backbone" if baseline == BACKBONE else name_of(baseline)
        against = f"{name_of(method)} against {other}"
        if not differing:
            sentences.append(f"{against}: no significant difference in any of {len(known)} metrics.")
            continue
        parts = [_difference(one) for one in differing]
        rest = len(known) - len(differing)
        others = "other metric" if rest == 1 else f"other {rest} metrics"
        tail = f" No significant difference in the {others}." if rest else ""
        sentences.append(f"{against}: {'; '.join(parts)}.{tail}")
    return sentences


def privacy_sentences(privacy: Mapping[str, Any]) -> list[str]:
    """Sentences on what ε means for one client, and on whether it is a strong guarantee here."""
    release, delta = privacy.get("epsilon_release"), privacy.get("delta")
    sentences = []
    if release is None:
        sentences.append("No finite ε: the released adapter carries no differential-privacy guarantee.")
    else:
        amount = three_digits(release)
        shown = f"ε = {amount} at δ = {delta:.1g}" if delta is not None else f"ε = {amount}"
        factor = math.exp(min(release, 700))
        odds = f"{factor:.1f}" if factor < 1000 else f"10^{math.floor(release / math.log(10))}"
        broken = privacy.get("guarantee_holds") is False
        holds = "would satisfy" if broken else "satisfies"
        if broken:
            sentences.append("Not private: this run broke a rule on which the guarantee rests, named below.")
        sentences.append(
            f"The released adapter {holds} client-level differential privacy with {shown}: whether one client "
            f"took part can change the odds of any observation by at most a factor of {odds}."
        )
        if release > LOUD_EPSILON:
            sentences.append(
                f"With {privacy.get('clients', 'so few')} clients this is a correct statement and a weak one: noise "
                "that hid a single person among so few would drown what they teach. The same mechanism becomes "
                "meaningful with a large population of which a small part is sampled in each round."
            )
    return sentences


def size(count: float) -> str:
    """A number of bytes for people: "12 kB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError("the last unit returns")


def duration(seconds: float) -> str:
    """A duration for people: "2 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _difference(one: Mapping[str, Any]) -> str:
    of = metric(one["metric"])
    lower = of.better == "lower"
    good = (one["difference"] < 0) == lower
    helped = one["clients"] - one["clients_higher"] if lower else one["clients_higher"]
    error = "" if one["standard_error"] is None else f" ± {one['standard_error']:.1g}"
    seeds = f", in {one['seeds_agreeing']} of {one['seeds']} seeds" if "seeds" in one else ""
    return (
        f"{of.in_sentence} {'better' if good else 'worse'} by "
        f"{abs(one['difference']):.2g}{error} (better on {helped} of {one['clients']} clients{seeds})"
    )
