"""How much of a stranger's mouth can be told from speech, against the people and minutes that taught it:

    python -m benchmarks.speech --run data/real/people
    python -m benchmarks.speech --run data/real/people --page      # also writes the section of benchmarks/README.md

The backbone's speech encoder is pretrained on clips of public speakers, on parts of them, and on the clients' clips as
well (which no federation may pool; here they only show what more people would give). A ridge regression on the same
clips reads the mouth's opening from what the encoder says. The figure is the correlation of that opening with the
tracked one within a clip, in clips of people whom neither has seen: mean over their clips, then over people and seeds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.page_sections import write_section
from common.folders import RunFolder
from pipelines.configuration.tree import load, remembered
from preparation.clients.roles import Role, load_people, of_role
from preparation.media.rates import FPS
from preparation.shards.gate import Gate
from training.learning.pretraining import pretrain_speech
from training.model.backbones.conditions import SpeechEncoder
from training.model.data import ClipTensors
from training.model.device import deterministic
from training.settings import PretrainingSettings

PAGE = Path(__file__).resolve().parent / "README.md"
MARK = "<!-- Below: written by python -m benchmarks.speech -->"
PARTS = (4, 2)
"""The second part, a half, is every second person, or every second clip of each."""
RIDGE = 1e-3
"""Of the features' mean variance."""

People = Mapping[str, Sequence[ClipTensors]]


@dataclass(frozen=True)
class Teaching:
    """Whose clips teach."""

    label: str
    people: People

    @property
    def clips(self) -> list[ClipTensors]:
        return [clip for clips in self.people.values() for clip in clips]


def read_people(run: RunFolder, role: Role) -> People:
    """All clips of the people of a role."""
    gate = Gate(run, "training", required=False)
    names = gate.admit(of_role(load_people(run), role), "a measurement")
    return {name: [ClipTensors.from_sample(sample) for sample in gate.samples(name)] for name in names}


def teachings(public: People, clients: People) -> Iterator[Teaching]:
    for part in PARTS:
        yield Teaching(f"1/{part} of the public people", dict(islice(public.items(), 0, None, part)))
    for part in PARTS:
        yield Teaching(f"1/{part} of their clips", {name: clips[::part] for name, clips in public.items()})
    yield Teaching("all public people", public)
    yield Teaching("and the clients", {**public, **clients})


def taught(clips: Sequence[ClipTensors], settings: PretrainingSettings, width: int, seed: int) -> SpeechEncoder:
    _, steps, dim = clips[0].speech.shape
    with deterministic(seed):
        encoder = SpeechEncoder(steps, dim, width)
    pretrain_speech(encoder, clips, settings, seed)
    return encoder.eval().requires_grad_(False)


def heard(encoder: SpeechEncoder, clip: ClipTensors) -> Tensor:
    """What the backbone gets of a clip's speech, [T, width]."""
    return F.silu(encoder(clip.speech)).double()


def correlations(encoder: SpeechEncoder, clips: Sequence[ClipTensors], strangers: People) -> dict[str, float]:
    """Each stranger's mean correlation within a clip of the opening that is read from speech with the tracked one."""
    features = torch.cat([heard(encoder, clip) for clip in clips])
    opening = torch.cat([clip.lips[:, 0] for clip in clips]).double()
    mean = features.mean(0)
    centred = features - mean
    penalty = RIDGE * centred.square().sum(0).mean() * torch.eye(centred.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ (opening - opening.mean()))
    return {
        name: float(np.mean([_correlation((heard(encoder, clip) - mean) @ weights, clip.lips[:, 0]) for clip in own]))
        for name, own in strangers.items()
    }


def _correlation(read: Tensor, true: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([read, true.double()]))[0, 1].nan_to_num())


def table(
    rows: Iterable[Teaching], strangers: People, settings: PretrainingSettings, width: int, seeds: int
) -> Iterator[str]:
    yield "| taught by | people | clips | minutes | correlation | lowest and highest person |"
    yield "|---|---|---|---|---|---|"
    for teaching in rows:
        clips = teaching.clips
        each = [correlations(taught(clips, settings, width, seed), clips, strangers) for seed in range(seeds)]
        people = [float(np.mean([one[name] for one in each])) for name in strangers]
        minutes = sum(len(clip.lips) for clip in clips) / FPS / 60
        yield (
            f"| {teaching.label} | {len(teaching.people)} | {len(clips)} | {minutes:.1f} | {np.mean(people):.2f} | "
            f"{min(people):.2f}, {max(people):.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, required=True, help="a run that is prepared")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write the section of benchmarks/README.md, too")
    parser.add_argument("--machine", default="", help="said on the page")
    asked = parser.parse_args()
    run, configuration = RunFolder(asked.run), load(remembered(asked.run))
    strangers = read_people(run, "unseen")
    rows = teachings(read_people(run, "public"), read_people(run, "client"))
    clips = sum(map(len, strangers.values()))
    about = (
        f"`python -m benchmarks.speech --run {asked.run}`: correlation within a clip of the mouth's opening that is "
        f"read from speech ({configuration.preparation.speech.features}) with the tracked one, in {clips} clips of "
        f"{len(strangers)} people never seen; {asked.seeds} seeds." + (f" {asked.machine}." if asked.machine else "")
    )
    lines = []
    width = configuration.training.backbone.width
    for line in table(rows, strangers, configuration.training.pretraining, width, asked.seeds):
        print(line, flush=True)
        lines.append(line)
    if asked.page:
        write_section(PAGE, MARK, "\n".join([MARK, "## What speech tells of a mouth", "", about, "", *lines]))


if __name__ == "__main__":
    main()
