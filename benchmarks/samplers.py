"""What samplers, numbers of steps, guidance and training-time features are worth on a small rendered world.

    python -m benchmarks.samplers                     # renders and trains what is missing, then prints two tables
    python -m benchmarks.samplers --only samplers     # one of them
    python -m benchmarks.samplers --page              # the section of benchmarks/README.md from what was printed

Everybody who is measured is unknown to the backbone, which generates without an adapter: held-out clips of the study's
clients and strangers, each with the same noise in every row. Features are compared on backbones that are trained on
the same public people with the same seed and steps, and differ in the feature alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then

import numpy as np
import torch

from benchmarks.page_sections import write_section
from common import seeding
from evaluation.experiments.measuring import mouth_figures
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.worlds import CENTRE, is_ready, make_public, make_world, public_folder, world_folder
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.metrics.clip import EvaluationClip
from evaluation.metrics.motion import mean_frame_delta
from evaluation.settings import EvaluationSettings
from training.generation.frames import Generator
from training.learning.pretraining import pretrain
from training.learning.public import read_public_validation, stream_public
from training.learning.validation import validation_loss
from training.model.autoencoders.base import Autoencoder
from training.model.autoencoders.sources import load_autoencoder
from training.model.backbones.interface import Backbone
from training.model.backbones.kinds import load_backbone
from training.model.frozen.rulers import OpeningRuler
from training.settings import GenerationSettings, ObjectiveSettings

STEPS = {"ddim": (2, 3, 4, 5, 8, 16, 50), "dpm++": (2, 3, 4, 5, 8, 16)}
GUIDANCE = (1.0, 1.5, 2.0)
FEATURES: dict[str, dict[str, float]] = {
    "as the demo": {},
    "no noise shared by frames": {"shared_noise": 0.0},
    "min-SNR, gamma 5": {"min_snr_gamma": 5.0},
    "speech dropped 10 %": {"drop_speech": 0.1},
    "speech and identity dropped 10 %": {"drop_speech": 0.1, "drop_identity": 0.1},
    "no moving average of the weights (EMA)": {"ema": 0.0},
}
"""The settings of the objective, or of the pretraining, with which each backbone is trained."""

FIGURES = "mouth PSNR, dB | lip correlation | opening error | frame delta ÷ true"


MARK = "<!-- Below: written by python -m benchmarks.samplers -->"
PAGE = Path(__file__).resolve().parent / "README.md"
TITLES = {
    "samplers": "Samplers and steps, the pretrained backbone without an adapter, no guidance:",
    "features": "Features of the training, backbones trained anew, five steps of DDIM; the loss is the demo's for all:",
}


def write_page(folder: Path) -> None:
    """Put the tables that were printed, and kept in `folder`, into benchmarks/README.md."""
    lines = [
        MARK,
        "",
        "## Samplers and training-time features",
        "",
        "`python -m benchmarks.samplers`, then with `--page`: eight held-out clips of people new to the backbone, in "
        "the study's small world; higher is better for PSNR and lip correlation; a frame delta of 1 is the truth's. "
        "Frames/s are of a CPU shared with other work and say little.",
    ]
    for name, title in TITLES.items():
        kept = folder / f"{name}.md"
        if kept.exists():
            lines += ["", title, "", kept.read_text().rstrip()]
            missing = [feature for feature in FEATURES if f"| {feature} |" not in kept.read_text()]
            lines += ["", f"Not run: {', '.join(missing)}."] if name == "features" and missing else []
    write_section(PAGE, MARK, "\n".join(lines) + "\n")


class Panel:
    """The clips that every row is measured on, and the networks that measure them."""

    def __init__(self, folder: Path, seed: int, clips: int) -> None:
        run = world_folder(folder, seed, CENTRE)
        self.seed, self.vae = seed, load_autoencoder(run.model("vae"))
        self.ruler = OpeningRuler.load(run.model("rulers") / "opening")
        some = read_evaluation_clips(run, EvaluationSettings(clips_per_client=1))
        self.clips = some[:: max(1, len(some) // clips)][:clips]

    def row(self, backbone: Backbone, settings: GenerationSettings, shared_noise: float) -> dict[str, float]:
        """Means over the clips of mouth PSNR, lip correlation and frame delta over the true one's, and frames/s."""
        generator = Generator(backbone, self.vae, settings, shared_noise)
        figures, seconds, frames = [], 0.0, 0
        for clip in self.clips:
            began = time.perf_counter()
            drawn = self._draw(generator, clip)
            seconds += time.perf_counter() - began
            frames += len(drawn)
            moved = mean_frame_delta(drawn) / mean_frame_delta(self._shown(self.vae, clip))
            figures.append(mouth_figures(clip, drawn, self.ruler) | {"frame_delta": moved})
        means = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
        return {**means, "frames_per_second": frames / seconds}

    def _draw(self, generator: Generator, clip: EvaluationClip) -> np.ndarray:
        reference = torch.from_numpy(self.vae.encode_frames(clip.reference[None])[0])
        draw = int(seeding.generator(self.seed, "generation", clip.clip_id).integers(2**62))
        return generator.frames(reference, torch.from_numpy(clip.speech), draw)

    @staticmethod
    def _shown(vae: Autoencoder, clip: EvaluationClip) -> np.ndarray:
        """The true frames as the autoencoder shows them: what no sampler can surpass."""
        return vae.decode_latents(torch.from_numpy(vae.encode_frames(clip.frames)))


def samplers(folder: Path, seed: int, panel: Panel) -> Iterator[str]:
    """Rows of the table of samplers."""
    backbone = load_backbone(public_folder(folder, seed).model("backbone"))
    noise = StudySettings().training.objective.shared_noise
    yield f"| sampler | steps | {FIGURES} | frames/s |"
    yield "|---|---|---|---|---|---|---|"
    for sampler, counts in STEPS.items():
        for steps in counts:
            row = panel.row(backbone, GenerationSettings(sampler=sampler, steps=steps), noise)
            yield f"| {sampler} | {steps} | {_figures(row)} | {row['frames_per_second']:.0f} |"


def features(folder: Path, seed: int, panel: Panel, steps: int) -> Iterator[str]:
    """Rows of the table of features; all losses are of the objective without any feature. Rows of an earlier, finished
    call are kept: a new feature costs only its own row."""
    run, training = public_folder(folder, seed), StudySettings().training
    held_out, plain = read_public_validation(run), training.objective
    usual = training.pretraining.model_copy(update={"steps": steps, "validate_every": steps})
    kept = _kept_rows(folder / "features.md")
    yield f"| trained with | guidance | held-out loss | {FIGURES} |"
    yield "|---|---|---|---|---|---|---|"
    for name, changed in FEATURES.items():
        of_objective = {key: value for key, value in changed.items() if key in ObjectiveSettings.model_fields}
        objective = ObjectiveSettings(**{**plain.model_dump(), **of_objective})
        guidances = GUIDANCE if objective.drop_speech else (1.0,)
        if len(kept[name]) == len(guidances):
            yield from kept[name]
            continue
        pretraining = usual.model_copy(update={k: v for k, v in changed.items() if k not in of_objective})
        backbone, _ = pretrain(lambda: stream_public(run), held_out, training.backbone, objective, pretraining, seed)
        loss = validation_loss(backbone, held_out, plain, seed)
        for guidance in guidances:
            settings = GenerationSettings(speech_guidance=guidance)
            row = panel.row(backbone, settings, objective.shared_noise)
            yield f"| {name} | {guidance:g} | {loss:.4f} | {_figures(row)} |"


def _kept_rows(table: Path) -> dict[str, list[str]]:
    """What an earlier call printed, by feature."""
    lines = table.read_text().splitlines() if table.exists() else []
    return {name: [line for line in lines if line.startswith(f"| {name} |")] for name in FEATURES}


def _figures(row: dict[str, float]) -> str:
    forms = {"mouth_psnr": ".2f", "lip_correlation": ".3f", "opening_error": ".4f", "frame_delta": ".2f"}
    return " | ".join(format(row[name], form) for name, form in forms.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("data/samplers"))
    parser.add_argument("--only", nargs="+", choices=("samplers", "features"), default=("samplers", "features"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=8, help="that are generated for each row")
    parser.add_argument("--steps", type=int, default=500, help="of each backbone's pretraining")
    parser.add_argument("--page", action="store_true", help="run nothing, write the section from what is there")
    arguments = parser.parse_args()
    if arguments.page:
        write_page(arguments.home)
        return 0
    folder, seed, settings = arguments.home, arguments.seed, StudySettings()
    if not is_ready(public_folder(folder, seed)):
        make_public(folder, seed, settings)
    if not is_ready(world_folder(folder, seed, CENTRE)):
        make_world(folder, seed, CENTRE, settings)
    panel = Panel(folder, seed, arguments.clips)
    tables = {
        "samplers": lambda: samplers(folder, seed, panel),
        "features": lambda: features(folder, seed, panel, arguments.steps),
    }
    for name in arguments.only:
        sys.stderr.write(f"{name}, {len(panel.clips)} clips a row\n")
        with (folder / f"{name}.partial").open("w") as kept:
            for line in tables[name]():
                kept.write(line + "\n")
                print(line, flush=True)
        (folder / f"{name}.partial").replace(folder / f"{name}.md")
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
