"""Generation on a trained run: speed and memory by length, joints of windows, silence; what the watermark survives.

    python -m benchmarks.generation --run data/demo    # all tables
    python -m benchmarks.generation --run data/demo --only marks
    python -m benchmarks.generation --page       # write the section of benchmarks/README.md from what was printed

Clips are held-out ones of people who never trained: their reference frame and their sound, repeated for longer ones.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it then

import cv2
import numpy as np

from benchmarks.page_sections import write_section
from common.folders import RunFolder
from evaluation.measuring.clips import read_evaluation_clips
from evaluation.metrics.clip import EvaluationClip
from pipelines.configuration.tree import load, remembered
from preparation.media.video import open_video
from preparation.media.writing import encode
from training.generation.frames import shift_at
from training.generation.marks.watermark import STEP, detect, embed
from training.generation.talker import Talker, open_talker
from training.model.frozen.rulers import OpeningRuler

SECONDS = (10, 60)
CRFS = (18, 23, 28, 32)
SCALES = (0.5, 0.75, 1.5)
STEPS = (20.0, 30.0, STEP)
SILENT_SECONDS = 2
JOINT_SECONDS = 6
RESAMPLED = 10_000
MARK = "<!-- Below: written by python -m benchmarks.generation -->"
PAGE = Path(__file__).resolve().parent / "README.md"
KEPT = Path(tempfile.gettempdir()) / "privfedtalk-generation"
TITLES = {
    "speed": "From portrait and sound to a file (features, sampling, decoding, watermark, H.264, AAC, manifest), each "
    "in a process of its own; the model's loading apart:",
    "joints": "How much frames change where a window of the last step begins or ends, over how much they change "
    "elsewhere, and the same for every other place between two joints, where it can only be chance "
    f"({JOINT_SECONDS} s each, two seeds; mean and 95 % interval over people, bootstrap):",
    "silence": "Silence (two seconds before and after speech; openings by the run's ruler):",
    "marks": "The watermark, on clips that the run generated, written once at CRF 18, then again; `read` is the share "
    "whose six bytes came back, `detected` those with z ≥ 5; Δ = 40 is the default:",
}


def open_run(folder: Path) -> tuple[Talker, RunFolder, list[EvaluationClip]]:
    run, configuration = RunFolder(folder), load(remembered(folder))
    talker = open_talker(run, configuration.training, configuration.preparation)
    return talker, run, read_evaluation_clips(run, roles=["unseen", "client"])


def one_length(folder: Path, seconds: int) -> None:
    """Print frames, load seconds, seconds and peak memory of one clip."""
    began = time.perf_counter()
    talker, _, clips = open_run(folder)
    loaded = time.perf_counter()
    sound = np.resize(clips[0].audio, seconds * 16_000)
    with tempfile.TemporaryDirectory() as out:
        frames = talker.write(clips[0].reference, sound, Path(out) / "talk.mp4", seed=0)
    elapsed = time.perf_counter() - loaded
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(frames, loaded - began, elapsed, peak)


def speed(folder: Path) -> Iterator[str]:
    yield "| length, s | frames | model loaded, s | frames/s | × real time | peak memory, GB |"
    yield "|---|---|---|---|---|---|"
    for seconds in SECONDS:
        command = [sys.executable, "-m", "benchmarks.generation", "--run", str(folder), "--length", str(seconds)]
        figures = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        frames, loading, elapsed, peak = map(float, figures)
        rate = frames / elapsed
        yield f"| {seconds} | {frames:.0f} | {loading:.1f} | {rate:.1f} | {rate / 25:.2f} | {peak:.2f} |"


def joints(folder: Path, most_people: int = 12, seeds: int = 2) -> Iterator[str]:
    talker, _, clips = open_run(folder)
    settings, window = talker.generator.settings, talker.generator.backbone.settings.window
    stride, moved = window - settings.overlap, shift_at(settings.steps - 1, window, settings.overlap)
    first_clips = {clip.client: clip for clip in reversed(clips)}
    ratios: list[np.ndarray] = []
    for number, clip in enumerate([*first_clips.values()][:most_people]):
        sound = np.resize(clip.audio, JOINT_SECONDS * 16_000)
        own: list[list[float]] = []
        for seed in range(seeds):
            frames = np.stack(list(talker.frames(clip.reference, sound, seeds * number + seed))).astype(float)
            changes = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
            places = (np.arange(1, len(frames)) - moved) % stride
            own.append([changes[places == at].mean() / changes[places != at].mean() for at in range(stride)])
        ratios.append(np.mean(own, axis=0))
    found, draws = np.array(ratios), np.random.default_rng(0)
    means = found[draws.integers(len(found), size=(RESAMPLED, len(found)))].mean(1)
    yield "| frames after a joint | change there ÷ elsewhere | 95 % |"
    yield "|---|---|---|"
    for at, (low, high) in enumerate(np.quantile(means, [0.025, 0.975], axis=0).T):
        name = "0, the joint" if at in (0, window % stride) else f"{at}, a control"
        yield f"| {name} | {found[:, at].mean():.3f} | {low:.3f} to {high:.3f} |"
    yield ""
    yield f"{len(found)} people, windows of {window} frames that begin every {stride}."


def silence(folder: Path, most_clips: int = 2) -> Iterator[str]:
    talker, run, clips = open_run(folder)
    ruler, quiet_sound = OpeningRuler.load(run.model("rulers") / "opening"), np.zeros(SILENT_SECONDS * 16_000, np.int16)
    yield "| clip | mean opening in silence | in speech | largest in silence | median in speech |"
    yield "|---|---|---|---|---|"
    for clip in clips[:most_clips]:
        sound = np.concatenate([quiet_sound, clip.audio, quiet_sound])
        opening, edge = ruler.opening(np.stack(list(talker.frames(clip.reference, sound, 0)))), SILENT_SECONDS * 25
        quiet = np.concatenate([opening[: edge - 5], opening[5 - edge :]])
        spoken = opening[edge:-edge]
        yield (
            f"| {clip.clip_id} | {quiet.mean():.3f} | {spoken.mean():.3f} | {quiet.max():.3f} | "
            f"{np.median(spoken):.3f} |"
        )


def marks(folder: Path, most_clips: int = 12) -> Iterator[str]:
    talker, _, clips = open_run(folder)
    plain = [np.stack(list(talker.frames(clip.reference, clip.audio, 0))) for clip in clips[:most_clips]]
    names = [*(f"CRF {crf}" for crf in CRFS), *(f"× {scale:g}, CRF 23" for scale in SCALES)]
    yield f"| Δ | PSNR, dB | largest z unmarked | {' | '.join(f'{name}: read / detected' for name in names)} |"
    yield "|---|---|---|" + "---|" * len(names)
    payload = talker.maker.payload()
    with tempfile.TemporaryDirectory() as scratch:
        for step in STEPS:
            psnrs: list[float] = []
            unmarked: list[float] = []
            found: dict[str, list[tuple[bool, bool]]] = {name: [] for name in names}
            for frames in plain:
                marked = np.stack(list(embed(frames, payload, step=step)))
                psnrs.append(10 * np.log10(255**2 / np.mean((marked.astype(float) - frames) ** 2)))
                unmarked.append(detect(frames, step=step).score)
                first = _coded(marked, 18, Path(scratch))
                versions = {f"CRF {crf}": _coded(first, crf, Path(scratch)) for crf in CRFS}
                for scale in SCALES:
                    side = round(first.shape[1] * scale / 2) * 2
                    scaled = np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_AREA) for each in first])
                    versions[f"× {scale:g}, CRF 23"] = _coded(scaled, 23, Path(scratch))
                for name, video in versions.items():
                    seen = detect(video, step=step)
                    found[name].append((seen.payload == payload, seen.detected))
            shares = [np.mean(found[name], axis=0) for name in names]
            cells = " | ".join(f"{read:.0%} / {there:.0%}" for read, there in shares)
            yield f"| {step:g} | {np.mean(psnrs):.1f} | {max(unmarked):.1f} | {cells} |"
    yield ""
    yield f"{len(plain)} clips of {plain[0].shape[1]} pixels, {min(map(len, plain))} to {max(map(len, plain))} frames."


def _coded(frames: np.ndarray, crf: int, scratch: Path) -> np.ndarray:
    encode(frames, None, scratch / "coded.mp4", crf=crf)
    return open_video(scratch / "coded.mp4").all()


TABLES = {"speed": speed, "joints": joints, "silence": silence, "marks": marks}


def write_page(machine: str) -> None:
    """Put the tables that were printed into benchmarks/README.md."""
    lines = [
        MARK,
        "",
        "## Generation",
        "",
        f"`python -m benchmarks.generation --run data/demo`, then `--page`. {machine}",
    ]
    for name, title in TITLES.items():
        kept = KEPT / f"{name}.md"
        lines += ["", title, "", kept.read_text().rstrip() if kept.exists() else "**not measured**"]
    write_section(PAGE, MARK, "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("data/demo"))
    parser.add_argument("--only", choices=[*TABLES])
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--machine", default="", help="a sentence on the machine, for the page")
    chosen = parser.parse_args()
    if chosen.length:
        one_length(chosen.run, chosen.length)
        return
    if chosen.page:
        write_page(chosen.machine)
        return
    KEPT.mkdir(exist_ok=True)
    for name in [chosen.only] if chosen.only else TABLES:
        lines = []
        for line in TABLES[name](chosen.run):
            print(line, flush=True)
            lines.append(line)
        (KEPT / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
