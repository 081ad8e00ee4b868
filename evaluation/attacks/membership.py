"""Membership inference on a released adapter: can somebody who sees it tell whose clips it was trained on?

The adversary has the adapter, the public backbone, and clips of people, some of whom were clients. It gives each person
a score, higher for "was a client", by the denoising loss on that person's clips, with the same noise for all models:

  loss        minus the loss under the adapter (the threshold attack of Yeom et al. 2018)
  gain        how far the adapter lowers the log loss below the frozen backbone's, which corrects for people who are
              harder than others (Watson et al. 2022)
  ratio       the likelihood ratio of the gain between federations with and without that person, two Gaussians fitted
              to shadow federations (Carlini et al. 2022, https://arxiv.org/abs/2112.03570); needs `shadows`

`other clips` is the gain on clips of the clients that were never trained on: it matters where the adversary knows the
person and not the clips. Non-members must come from the clients' population, or the attack finds the population.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field

from common.errors import PrivFedTalkError
from common.files import write_text
from common.folders import MEMBERSHIP, RunFolder
from common.settings import Settings
from evaluation.attacks.auc import Area, area
from evaluation.attacks.people import People, losses
from evaluation.attacks.shadows import likelihood_ratios, train_shadows
from evaluation.report.attack_cards import adapter_sha256
from training.adapters.adapter import load_adapted
from training.adapters.origin import check_origin
from training.federation.methods import named
from training.model.backbones.kinds import load_backbone
from training.model.device import choose_device
from training.settings import TrainingSettings

LEVEL = 0.95


class MembershipSettings(Settings):
    """How hard the adversary tries."""

    shadows: int = Field(
        0,
        ge=0,
        multiple_of=4,
        description="number of federations, each of half of the people, that the adversary trains itself; 0: no "
        "likelihood ratio. A multiple of 4, because of two none could be left out. Each takes as long as a federation "
        "of the run with so many clients",
    )
    clips: int | None = Field(
        None, ge=1, description="clips of each person that the adversary has; None: as many as everybody has"
    )
    draws: int = Field(
        8, ge=1, description="draws of noise and timestep for each window; more show smaller differences"
    )


@dataclass(frozen=True)
class MembershipReport:
    """AUC of each attack on the released adapter, and on the shadow federations, each the target in turn."""

    verdict: str
    found: bool
    areas: dict[str, Area]
    among_shadows: dict[str, Area]
    people: dict[str, dict[str, float]]
    clips: int
    shadows: int
    adapter_sha256: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def attack_membership(
    run: RunFolder,
    method: str,
    training: TrainingSettings,
    seed: int,
    settings: MembershipSettings | None = None,
    on_shadow: Callable[[int, int], None] = lambda number, of: None,
) -> MembershipReport:
    """Attack a trained method's released adapter; the result is written to the run's folder."""
    settings = settings or MembershipSettings()
    if not named(method).federates:
        raise PrivFedTalkError(f"{method} releases no adapter of many clients", "name a method that federates")
    check_origin(run, run.adapter(method))
    people = People.of(run, method, settings.clips, training.consent.required)
    device = choose_device()
    backbone = load_backbone(run.model("backbone")).to(device)
    before = losses(backbone, people.clips, training.objective, seed, settings.draws)
    before_other = losses(backbone, people.other_clips, training.objective, seed, settings.draws)
    adapted = load_adapted(backbone, run.adapter(method)).to(device)
    after = losses(adapted, people.clips, training.objective, seed, settings.draws)
    after_other = losses(adapted, people.other_clips, training.objective, seed, settings.draws)
    scores = {"loss": -after, "gain": np.log(before / after)}
    strangers = scores["gain"][~people.was_in]
    shadows = None
    if settings.shadows:
        shadows = train_shadows(
            run, method, people, training, before, seed, settings.shadows, settings.draws, on_shadow
        )
        scores["ratio"] = likelihood_ratios(scores["gain"], shadows)

    def areas(level: float) -> dict[str, Area]:
        of_clips = {name: area(score[people.was_in], score[~people.was_in], level) for name, score in scores.items()}
        return of_clips | {"other clips": area(np.log(before_other / after_other), strangers, level)}

    def among(level: float) -> dict[str, Area]:
        return shadows.areas(seed, level) if shadows else {}

    own_areas, shadow_areas = areas(LEVEL), among(LEVEL)
    joint_level = 1 - (1 - LEVEL) / (len(own_areas) + len(shadow_areas))
    found, verdict = judge(areas(joint_level), among(joint_level))
    result = MembershipReport(
        verdict=verdict,
        found=found,
        areas=own_areas,
        among_shadows=shadow_areas,
        people={
            name: {"was_in": float(people.was_in[i]), **{kind: float(score[i]) for kind, score in scores.items()}}
            for i, name in enumerate(people.names)
        },
        clips=max(map(len, people.clips.values())),
        shadows=settings.shadows,
        adapter_sha256=adapter_sha256(run, method),
    )
    write_text(
        run.attack("membership", method) / MEMBERSHIP,
        json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n",
    )
    return result


def judge(areas: Mapping[str, Area], among: Mapping[str, Area]) -> tuple[bool, str]:
    """Whether any attack is surely better than a guess, and the sentence that says so. One of several attacks may be so
    by chance, hence the intervals must hold jointly (Bonferroni: each at 1 - 0.05 over their number)."""
    named_areas = [*areas.items(), *((f"{name} among shadow runs", one) for name, one in among.items())]

    def shown(name: str, one: Area) -> str:
        together = f", at 95 % for all {len(named_areas)} attacks together" if len(named_areas) > 1 else ""
        return f"AUC {one.value:.2f} [{one.low:.2f}, {one.high:.2f}] by {name}{together}"

    best = max(named_areas, key=lambda pair: pair[1].low)
    if best[1].finds_members:
        return True, f"Members are found: {shown(*best)}."
    best = max(named_areas, key=lambda pair: pair[1].value)
    return False, f"No attack is surely better than a guess; the best: {shown(*best)}."
