"""Shadow federations: the adversary's own runs on halves of the people, to learn what a member's scores look like.

Runs come in pairs of a random half and the other half, so that everybody is in as many runs as out of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import seeding
from common.files import write_text
from common.folders import RunFolder
from evaluation.attacks.auc import Area, Scores, area_within_runs
from evaluation.attacks.people import People, losses
from evaluation.experiments.study.cells import Arm, without_unread_score
from evaluation.experiments.study.federations import train
from preparation.shards.store import write_shards
from training.federation.methods import configure
from training.model.device import choose_device
from training.settings import TrainingSettings


@dataclass(frozen=True)
class Shadows:
    """losses and gains float64 [runs, people], and who was in which run."""

    losses: Scores
    gains: Scores
    included: NDArray[np.bool_]

    def areas(self, seed: int, level: float = 0.95) -> dict[str, Area]:
        """The attacks on each of the runs in turn, the others being the adversary's own for the likelihood ratio."""
        ratios = np.stack([likelihood_ratios(self.gains[run], self.without(run)) for run in range(len(self.gains))])
        scores = {"loss": -self.losses, "gain": self.gains, "ratio": ratios}
        return {name: area_within_runs(some, self.included, seed, level) for name, some in scores.items()}

    def without(self, run: int) -> Shadows:
        others = np.arange(len(self.gains)) != run
        return Shadows(self.losses[others], self.gains[others], self.included[others])


def likelihood_ratios(gains: Scores, shadows: Shadows) -> Scores:
    """log N(g; μ_in, σ) − log N(g; μ_out, σ) of each person [people]: means are the person's own, σ is common to all,
    for a dozen runs do not tell each person's (Carlini et al. 2022, section VI-C)."""
    inside = np.where(shadows.included, shadows.gains, np.nan)
    outside = np.where(shadows.included, np.nan, shadows.gains)
    mean_in, mean_out = np.nanmean(inside, axis=0), np.nanmean(outside, axis=0)
    residuals = np.where(shadows.included, shadows.gains - mean_in, shadows.gains - mean_out)
    variance = float((residuals**2).mean()) + 1e-12
    return ((gains - mean_out) ** 2 - (gains - mean_in) ** 2) / (2 * variance)


def draw_halves(people: int, runs: int, seed: int) -> NDArray[np.bool_]:
    """bool [runs, people]: a random half, then the other half, and so on."""
    included = np.zeros((runs, people), bool)
    for pair in range(0, runs, 2):
        order = seeding.generator(seed, "shadow", str(pair)).permutation(people)
        included[pair, order[: people // 2]] = True
        included[pair + 1] = ~included[pair]
    return included


def train_shadows(
    run: RunFolder,
    method: str,
    people: People,
    training: TrainingSettings,
    before: Scores,
    seed: int,
    count: int,
    draws: int,
    on_shadow: Callable[[int, int], None],
) -> Shadows:
    """Federate `count` halves of the people by the run's method, settings and frozen networks.

    Seeds differ from the run's: the adversary knows neither its batches nor its noise. `before` has the frozen
    backbone's losses. Each run's losses are kept in the run's folder once it has ended: one that was interrupted, or
    is to have more shadows, goes on with those that are there.
    """
    included = draw_halves(len(people.names), count, seed)
    settled = without_unread_score(configure(method, training))
    # The backbone's losses stand for its weights, the clips, and the noise under which both are looked at.
    parts = [method, settled.fingerprint(), str(seed), *people.names, before.tobytes().hex(), str(draws)]
    made_from = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    after = np.zeros(included.shape)
    with tempfile.TemporaryDirectory() as folder:
        world = _world(run, people, Path(folder) / "world")
        for number, members in enumerate(included):
            kept = run.attack("membership", method) / "shadows" / f"{made_from}-{number}.json"
            if kept.exists():
                after[number] = list(json.loads(kept.read_text(encoding="utf-8")).values())
                on_shadow(number + 1, count)
                continue
            scratch = Path(folder) / f"shadow-{number}"
            scratch.mkdir()
            clients = [name for name, is_in in zip(people.names, members, strict=True) if is_in]
            own_seed = int(seeding.generator(seed, "shadow run", str(number)).integers(2**31))
            trained = train(world, scratch, Arm(method=method), clients, settled, own_seed, 0, str(choose_device()))
            trained.trainer.adapter.load_vector(trained.shared[max(trained.shared)])
            after[number] = losses(trained.trainer.backbone, people.clips, training.objective, seed, draws)
            shutil.rmtree(scratch)
            write_text(kept, json.dumps(dict(zip(people.names, after[number].tolist(), strict=True))) + "\n")
            on_shadow(number + 1, count)
    return Shadows(after, np.log(before / after), included)


def _world(run: RunFolder, people: People, root: Path) -> RunFolder:
    """Everybody's known clips as a client's: all to train on, and the first once more to be scored on."""
    world = RunFolder(root)
    for name, clips in people.clips.items():
        scored = replace(clips[0], key=f"{clips[0].key}-scored", split="validation")
        write_shards(world.client(name), [*(replace(clip, client=name, split="train") for clip in clips), scored])
    world.model("").symlink_to(run.model("").resolve())
    return world
