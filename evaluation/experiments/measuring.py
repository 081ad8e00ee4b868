"""Measures a trained federation, whose adapters are in memory, on held-out clips: everybody's loss, and lip metrics
where clips are generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from common import seeding
from common.folders import RunFolder
from evaluation.experiments.points import CLIENT, FINAL, PERSONAL, UNSEEN, Row
from evaluation.experiments.trained import Trained
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.fidelity import cut, psnr
from evaluation.metrics.identity import identity_similarity
from evaluation.metrics.lipsync import lip_correlation, opening_error
from evaluation.settings import EvaluationSettings
from preparation.clients.roles import load_clients, of_role
from preparation.faces.landmarks import mouth_box
from preparation.shards.gate import Gate
from training.federation.methods import configure
from training.federation.methods.base import Theta
from training.generation.frames import Generator
from training.learning.validation import validation_loss
from training.model.data import ClipTensors
from training.model.frozen.rulers import OpeningRuler
from training.settings import ObjectiveSettings

ThetaOf = Callable[[str], Theta]
ClipsOf = Callable[[str], Sequence[ClipTensors]]


def losses(
    trained: Trained,
    people: Iterable[str],
    theta_of: ThetaOf,
    clips_of: ClipsOf,
    objective: ObjectiveSettings,
    seed: int,
    draws: int,
) -> Iterator[Row]:
    """Rows of each person's denoising loss under the adapter `theta_of` them, with the same noise for every adapter."""
    for person in people:
        loss = validation_loss(trained.model(theta_of(person)), clips_of(person), objective, seed, draws)
        yield {"person": person, "metric": "loss", "value": loss}


class Panel:
    """The people of a world on whose held-out clips its points are measured; their clips are read once.

    Worlds are rendered, so a missing consent record excludes nobody; people who refused training or generation are left
    out.
    """

    def __init__(self, world: RunFolder, generated_clips: int) -> None:
        self.world, self.generated_clips = world, generated_clips
        table = load_clients(world.clients_table)
        self.gate, training = Gate(world, "generation", required=False), Gate(world, "training", required=False)
        self.clients, self.strangers = (
            training.admit(self.gate.admit(of_role(table, role), "the experiment"), "the experiment")
            for role in ("client", "unseen")
        )
        self._clips: dict[str, list[ClipTensors]] = {}
        self._shown: list[EvaluationClip] = []

    def clips(self, person: str) -> list[ClipTensors]:
        """A person's held-out clips."""
        if person not in self._clips:
            self._clips[person] = [ClipTensors.from_sample(sample) for sample in self.gate.samples(person, "test")]
        return self._clips[person]

    def shown(self) -> list[EvaluationClip]:
        """The clips that are generated, with their true frames."""
        if not self._shown:
            some = EvaluationSettings(clips_per_client=self.generated_clips)
            self._shown = read_evaluation_clips(self.world, some, required=False)
        return self._shown


@lru_cache(maxsize=8)
def panel_of(world: Path, generated_clips: int) -> Panel:
    """A world's panel, which a process keeps for later points."""
    return Panel(RunFolder(world), generated_clips)


@dataclass(frozen=True)
class HeldOut:
    """Measures the losses of clients and strangers on their held-out clips in `world`, after `rounds` and the last one.

    `draws`: draws of noise and timestep for each window of a clip. `controls`: the number of clients whose own adapters
    are tried on strangers where there is no shared adapter. `generated_clips`: clips of each person that are generated
    and measured; 0: none.
    """

    world: Path
    objective: ObjectiveSettings
    seed: int
    draws: int
    rounds: tuple[int, ...]
    controls: int
    generated_clips: int = 0

    @property
    def panel(self) -> Panel:
        return panel_of(self.world, self.generated_clips)

    def __call__(self, trained: Trained) -> Iterator[Row]:
        """Rows of clients' losses after each of the rounds and the last, strangers' losses at the end, losses under
        personalised adapters, clients' own scores, and metrics of generated clips.

        Strangers are measured with the shared adapter or, where every client has only its own, with several of these in
        turn: the control for what a shared adapter is worth to them.
        """
        panel, last = self.panel, trained.last
        for number in sorted({last} | {number for number in self.rounds if number < last}):
            served = list(trained.own[number]) if trained.own else panel.clients
            stage = FINAL if number == last else f"round {number}"
            yield from _marked(self._losses(trained, served, partial(trained.of, number)), CLIENT, stage)
        if trained.own:
            yield from _marked(self._by_others(trained, trained.own[last]), UNSEEN, FINAL)
        else:
            yield from _marked(self._losses(trained, panel.strangers, partial(trained.of, last)), UNSEEN, FINAL)
        if trained.personal:
            rows = self._losses(trained, list(trained.personal), trained.personal.__getitem__)
            yield from _marked(rows, CLIENT, PERSONAL)
        for client, score in trained.scores.items():
            yield from _marked([{"person": client, "metric": "score", "value": score}], CLIENT, FINAL)
        if self.generated_clips:
            yield from self._generated(trained)

    def _losses(self, trained: Trained, people: Iterable[str], theta_of: ThetaOf) -> Iterator[Row]:
        return losses(trained, people, theta_of, self.panel.clips, self.objective, self.seed, self.draws)

    def _by_others(self, trained: Trained, own: Mapping[str, Theta]) -> Iterator[Row]:
        """Each stranger's mean loss over the adapters of the first `controls` clients."""
        strangers = self.panel.strangers
        found = [
            [row["value"] for row in self._losses(trained, strangers, partial(_always, theta))]
            for theta in list(own.values())[: self.controls]
        ]
        for person, values in zip(strangers, np.transpose(found), strict=True):
            yield {"person": person, "metric": "loss", "value": float(values.mean())}

    def _generated(self, trained: Trained) -> Iterator[Row]:
        last = trained.last
        clients = list(trained.own[last]) if trained.own else self.panel.clients
        everybody = [] if trained.own else self.panel.strangers
        for role, people in ((CLIENT, clients), (UNSEEN, everybody)):
            yield from _marked(self._lips(trained, people, partial(trained.of, last)), role, FINAL)
        if trained.personal:
            rows = self._lips(trained, list(trained.personal), trained.personal.__getitem__)
            yield from _marked(rows, CLIENT, PERSONAL)

    def _lips(self, trained: Trained, people: Sequence[str], theta_of: ThetaOf) -> Iterator[Row]:
        """Each person's mouth PSNR, opening error, lip correlation and identity, means over the generated clips."""
        trainer, ruler = trained.trainer, OpeningRuler.load(trained.run.model("rulers") / "opening")
        training = configure(trained.method, trained.training)
        by_person: dict[str, list[Mapping[str, float]]] = {}
        for clip in self.panel.shown():
            if clip.client not in people:
                continue
            model = trained.model(theta_of(clip.client))
            generator = Generator(model, trainer.vae, training.generation, training.objective.shared_noise)
            reference = torch.from_numpy(trainer.vae.encode_frames(clip.reference[None])[0])
            draw = int(seeding.generator(self.seed, "generation", clip.clip_id).integers(2**62))
            given = (reference.to(trainer.device), torch.from_numpy(clip.speech).to(trainer.device))
            frames = generator.frames(*given, draw)
            identity = float(identity_similarity(trainer.identity, frames, clip.reference).mean())
            figures = {**mouth_figures(clip, frames, ruler), "identity": identity}
            by_person.setdefault(clip.client, []).append(figures)
        for person, of_clips in by_person.items():
            for metric in of_clips[0]:
                yield {"person": person, "metric": metric, "value": float(np.mean([one[metric] for one in of_clips]))}


def mouth_figures(clip: EvaluationClip, frames: np.ndarray, ruler: OpeningRuler) -> dict[str, float]:
    """Mouth PSNR, opening error and lip correlation of one generated clip [T, H, W, 3]."""
    box = mouth_box(clip.landmarks, clip.frames.shape[1])
    assert clip.opening is not None, "the studio knows every mouth's opening"
    opening = ruler.opening(frames)
    return {
        "mouth_psnr": float(psnr(cut(frames, box), cut(clip.frames, box)).mean()),
        "opening_error": opening_error(opening, clip.opening),
        "lip_correlation": lip_correlation(opening, clip.opening),
    }


def _marked(rows: Iterable[Row], role: str, stage: str) -> Iterator[Row]:
    """The rows with their role, and their stage: after a round, at the end, or after personalisation."""
    return ({"role": role, "stage": stage} | row for row in rows)


def _always(theta: Theta, person: str) -> Theta:
    return theta
