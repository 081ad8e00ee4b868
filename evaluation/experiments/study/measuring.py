"""What is measured of a cell: the paired held-out loss of everybody, and lips on generated clips where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from common import seeding
from common.folders import RunFolder
from evaluation.experiments.study.cells import Cell
from evaluation.experiments.study.federations import Trained
from evaluation.experiments.study.settings import StudySettings
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.fidelity import cut, psnr
from evaluation.metrics.identity import identity_similarity
from evaluation.metrics.lipsync import lip_correlation, opening_error
from evaluation.settings import EvaluationSettings
from preparation.clients.roles import load_clients, of_role
from preparation.faces.landmarks import mouth_box
from preparation.shards.gate import Gate
from training.federation.methods.base import Theta
from training.generation.frames import Generator
from training.learning.validation import validation_loss
from training.model.backbones.interface import Backbone
from training.model.data import ClipTensors
from training.model.frozen.rulers import OpeningRuler
from training.settings import TrainingSettings

Row = dict[str, Any]

ThetaOf = Callable[[str], Theta]


class Panel:
    """The people of a world whom every cell of it is measured on; read once and kept by the worker.

    Worlds are rendered, so that silence is no refusal; who may not be trained on or generated is not among them.
    """

    def __init__(self, world: RunFolder, settings: StudySettings, seed: int) -> None:
        self.world, self.settings, self.seed = world, settings, seed
        table = load_clients(world.clients_table)
        self.gate, training = Gate(world, "generation", required=False), Gate(world, "training", required=False)
        self.clients, self.strangers = (
            training.admit(self.gate.admit(of_role(table, role), "the study"), "the study")
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
            some = EvaluationSettings(clips_per_client=self.settings.generated_clips)
            self._shown = read_evaluation_clips(self.world, some, required=False)
        return self._shown

    def measure(self, cell: Cell, trained: Trained, training: TrainingSettings) -> Iterator[Row]:
        """All rows of a cell: losses along the rounds, of strangers at the end, of personal adapters, and lips.

        Strangers are served by the shared adapter; where every client has only its own, by each of these in turn,
        which is the control for what a shared one is worth to them.
        """
        last = max(trained.own or trained.shared)
        for number in sorted({last} | {number for number in self.settings.curve_rounds if number < last}):
            served = list(trained.own[number]) if trained.own else self.clients
            stage = "final" if number == last else f"round {number}"
            yield from _marked(self.losses(trained, served, partial(trained.of, number)), "client", stage)
        if trained.own:
            yield from _marked(self._by_others(trained, trained.own[last]), "unseen", "final")
        else:
            rows = self.losses(trained, self.strangers, partial(trained.of, last))
            yield from _marked(rows, "unseen", "final")
        if trained.personal:
            rows = self.losses(trained, list(trained.personal), trained.personal.__getitem__)
            yield from _marked(rows, "client", "personal")
        for client, score in trained.scores.items():
            yield from _marked([{"person": client, "metric": "score", "value": score}], "client", "final")
        if cell.measured == "generated":
            yield from self._generated(trained, training, last)

    def _by_others(self, trained: Trained, own: Mapping[str, Theta]) -> Iterator[Row]:
        """Each stranger's loss under one client's adapter after the other, meaned over these."""
        some = list(own.values())[: self.settings.control_adapters]
        losses = [
            [row["value"] for row in self.losses(trained, self.strangers, partial(_always, theta))] for theta in some
        ]
        for person, values in zip(self.strangers, np.transpose(losses), strict=True):
            yield {"person": person, "metric": "loss", "value": float(values.mean())}

    def _generated(self, trained: Trained, training: TrainingSettings, last: int) -> Iterator[Row]:
        everybody = [] if trained.own else self.strangers
        clients = list(trained.own[last]) if trained.own else self.clients
        for role, people in (("client", clients), ("unseen", everybody)):
            yield from _marked(self.lips(trained, training, people, partial(trained.of, last)), role, "final")
        if trained.personal:
            rows = self.lips(trained, training, list(trained.personal), trained.personal.__getitem__)
            yield from _marked(rows, "client", "personal")

    def losses(self, trained: Trained, people: Sequence[str], theta_of: ThetaOf) -> Iterator[Row]:
        """The denoising loss of each person under the adapter that serves them."""
        backbone, objective = backbone_of(trained), self.settings.training.objective
        for person in people:
            trained.trainer.adapter.load_vector(theta_of(person))
            loss = validation_loss(backbone, self.clips(person), objective, self.seed, self.settings.draws)
            yield {"person": person, "metric": "loss", "value": loss}

    def lips(
        self, trained: Trained, training: TrainingSettings, people: Sequence[str], theta_of: ThetaOf
    ) -> Iterator[Row]:
        """Mouth PSNR, opening error, lip correlation, identity of each person's generated clips, meaned over clips."""
        trainer, ruler = trained.trainer, OpeningRuler.load(self.world.model("rulers") / "opening")
        noise = training.objective.shared_noise
        generator = Generator(backbone_of(trained), trainer.vae, training.generation, noise)
        by_person: dict[str, list[Mapping[str, float]]] = {}
        for clip in self.shown():
            if clip.client not in people:
                continue
            trainer.adapter.load_vector(theta_of(clip.client))
            reference = torch.from_numpy(trainer.vae.encode_frames(clip.reference[None])[0])
            draw = int(seeding.generator(self.seed, "generation", clip.clip_id).integers(2**62))
            given = (reference.to(trainer.device), torch.from_numpy(clip.speech).to(trainer.device))
            frames = generator.frames(*given, draw)
            same = {"identity": float(identity_similarity(trainer.identity, frames, clip.reference).mean())}
            by_person.setdefault(clip.client, []).append({**mouth_figures(clip, frames, ruler), **same})
        for person, figures in by_person.items():
            for metric in figures[0]:
                yield {"person": person, "metric": metric, "value": float(np.mean([one[metric] for one in figures]))}


def mouth_figures(clip: EvaluationClip, frames: np.ndarray, ruler: OpeningRuler) -> dict[str, float]:
    """What a viewer sees of the mouth in one generated clip [T, H, W, 3]."""
    box = mouth_box(clip.landmarks, clip.frames.shape[1])
    assert clip.opening is not None, "the studio knows every mouth's opening"
    opening = ruler.opening(frames)
    return {
        "mouth_psnr": float(psnr(cut(frames, box), cut(clip.frames, box)).mean()),
        "opening_error": opening_error(opening, clip.opening),
        "lip_correlation": lip_correlation(opening, clip.opening),
    }


def _marked(rows: Iterable[Row], role: str, stage: str) -> Iterator[Row]:
    """Rows with whom they are of, and when: after a round, at the end, after personalisation."""
    return ({"role": role, "stage": stage} | row for row in rows)


def _always(theta: Theta, person: str) -> Theta:
    return theta


def backbone_of(trained: Trained) -> Backbone:
    return trained.trainer.adapter.backbone
