"""The time of preparation, beside a floor that no preparation can beat; ratios within one run:

    python -m benchmarks.preparation --clips FOLDER          # real clips of any kind
    python -m benchmarks.preparation --studio FOLDER         # a rendered corpus, rendered first if it is absent

The floor is the slower of two things that preparation cannot do without, each alone: decoding every clip (PyAV, no
conversion of pixels) and looking for the face (MediaPipe on frames that are already decoded). Both are spread over as
many processes as the preparation has, one thread each. They get the best case, their time summed over clips and divided
evenly among processes, while preparation is measured to the end of its last clip.

Everything is loaded before the clock starts, for the floor and for preparation alike: workers, face tracker,
autoencoder, libraries. The cost of that is printed below the table. Variants take turns, `--repeat` times; medians
count. CPU seconds are those of all processes; beside other work only they can be compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

# This file has the name of the package that it measures, and must not hide it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Set before the libraries are loaded, here and in the workers: one thread a process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import av
import cv2
import numpy as np
import torch

from benchmarks.machine import scaling
from common.folders import RunFolder
from preparation.corpora.clip import Clip
from preparation.corpora.manifest import load_manifest
from preparation.corpora.studio.corpus import render_corpus
from preparation.corpora.studio.settings import StudioSettings
from preparation.crops.crop import load_crop, prepare_clip
from preparation.crops.quality import sharpness
from preparation.faces.alignment import warp
from preparation.faces.mediapipe_tracker import MediaPipeTracker
from preparation.media.sound import open_sound
from preparation.media.video import open_video
from preparation.media.writing import encode
from preparation.pipeline import build_all_shards, longest_first, prepare_folder, register_corpus
from preparation.settings import CorpusKind, FaceSettings, PreparationSettings
from preparation.settings.samples import SampleSettings
from preparation.shards.samples import encode_frames
from preparation.shards.store import read_shards, write_shards
from preparation.speech.features import speech_features
from training.model.autoencoders.small import SmallVae
from training.settings import VaeSettings

SETTINGS = PreparationSettings(faces=FaceSettings(tracker="mediapipe"), samples=SampleSettings(cut="never"))
RENDERED = StudioSettings(public_speakers=4, public_clips=3, clients=3, client_clips=4, unseen=0, seconds=2.0)


@dataclass(frozen=True)
class Corpus:
    kind: CorpusKind
    root: Path


class Elapsed(NamedTuple):
    """Seconds by the clock, and CPU seconds of the processes that worked meanwhile."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class TrackingTime:
    """The time of face tracking on every frame of a clip, and on those frames alone that the settings look at."""

    every_frame: Elapsed
    as_set: Elapsed


class Worker:
    """What a worker process holds, as preparation's own workers do."""

    tracker: MediaPipeTracker


def start() -> None:
    cv2.setNumThreads(1)
    Worker.tracker = MediaPipeTracker(SETTINGS.faces)
    Worker.tracker.detect(np.zeros((128, 128, 3), dtype=np.uint8))
    Finalize(None, Worker.tracker.close, exitpriority=1)


def ready(_: int) -> None:
    time.sleep(0.5)  # so that every worker takes one of these


def now() -> Elapsed:
    return Elapsed(time.perf_counter(), time.process_time())


def since(began: Elapsed) -> Elapsed:
    wall, cpu = now()
    return Elapsed(wall - began.wall, cpu - began.cpu)


def total(parts: Iterable[Elapsed], share: int = 1) -> Elapsed:
    """The sum, the wall time shared out evenly among `share` processes."""
    held = list(parts)
    return Elapsed(sum(part.wall for part in held) / share, sum(part.cpu for part in held))


def only_decode(path: Path) -> Elapsed:
    began = now()
    with av.open(str(path.absolute()), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for _ in container.decode(stream):
            pass
    return since(began)


def only_look(path: Path) -> TrackingTime:
    looks = []
    for frame in open_video(path).frames():
        began = now()
        Worker.tracker.detect(frame)
        looks.append(since(began))
    last_too = [] if (len(looks) - 1) % SETTINGS.faces.every == 0 else looks[-1:]
    return TrackingTime(total(looks), total(looks[:: SETTINGS.faces.every] + last_too))


def make_crop(clip: Clip, root: Path, run: RunFolder) -> Elapsed:
    began = now()
    prepare_clip(clip, root, run.crops(clip.speaker), SETTINGS, Worker.tracker)
    return since(began)


def whole(corpus: Corpus, run: RunFolder, pool: ProcessPoolExecutor, workers: int, vae: SmallVae) -> Elapsed:
    """The time of a whole preparation (register, crops, shards) by `workers`."""
    began = now()
    clips, _ = register_corpus(corpus.kind, corpus.root, run, SETTINGS)
    crops = [pool.submit(make_crop, clip, corpus.root, run) for clip in longest_first(clips)]
    elsewhere = sum(made.result().cpu for made in crops)
    build_all_shards(run, vae.encode_frames, SETTINGS, "benchmark", workers=workers)
    wall, cpu = since(began)
    return Elapsed(wall, cpu + elsewhere)


def steps(corpus: Corpus, run: RunFolder, clips: list[Clip], vae: SmallVae) -> dict[str, tuple[float, float]]:
    """CPU and wall seconds of each step alone, in this process, over all clips whose crops lie in `run`."""
    elapsed: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    start()

    def timed(name: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work(*arguments, **named)
        elapsed[name][0] += time.process_time() - cpu
        elapsed[name][1] += time.perf_counter() - wall
        return result

    scratch = run.root / "steps.mp4"
    for clip in clips:
        source = corpus.root / clip.path
        timed("decode (no pixels converted)", only_decode, source)
        timed("sound: decode and resample", open_sound(source).in_step)
        crop = load_crop(run.crops(clip.speaker), clip.name)
        drawn = []
        for index, frame in enumerate(open_video(source).frames()):
            if index % SETTINGS.faces.every == 0:
                timed("face landmarks", Worker.tracker.detect, frame)
            if index < len(crop.transforms):
                transform = crop.transforms[index].astype(np.float64)
                drawn.append(timed("warp", warp, frame, transform, SETTINGS.crops.size))
                timed("sharpness", sharpness, drawn[-1])
        timed("crop encode (x264, AAC)", encode, drawn, crop.audio, scratch, crf=SETTINGS.crops.crf)
        frames = timed("crop decode", list, crop.frames())
        batch = SETTINGS.shards.encode_batch
        timed("autoencoder", encode_frames, iter(frames), vae.encode_frames, len(frames), batch)
        timed("speech features", speech_features, crop.audio, len(crop.landmarks))
    for client in sorted({clip.speaker for clip in clips}):
        samples = list(read_shards(run.client(client)))
        folder = run.root / "steps" / client
        timed("shard writing", write_shards, folder, samples)
    return {name: (cpu, wall) for name, (cpu, wall) in elapsed.items()}


def measure(corpus: Corpus, workers: int, repeat: int, scratch: Path) -> None:
    vae = SmallVae(VaeSettings()).eval().requires_grad_(False)
    vae.encode_frames(np.zeros((2, 128, 128, 3), dtype=np.uint8))
    speech_features(np.zeros(16000, dtype=np.int16), 25)
    spawn = get_context("spawn")
    seconds: dict[str, list[Elapsed]] = defaultdict(list)
    began = time.perf_counter()
    with ProcessPoolExecutor(1, spawn, start) as one, ProcessPoolExecutor(workers, spawn, start) as many:
        list(one.map(ready, range(1)))
        list(many.map(ready, range(workers)))
        start_up = time.perf_counter() - began - 1.0
        run = RunFolder(scratch / "first")
        clips, _ = register_corpus(corpus.kind, corpus.root, run, SETTINGS)
        paths = [corpus.root / clip.path for clip in clips]
        for turn in range(repeat):
            seconds["decode"].append(total(many.map(only_decode, paths), workers))
            looked = list(many.map(only_look, paths))
            seconds["every"].append(total((look.every_frame for look in looked), workers))
            seconds["look"].append(total((look.as_set for look in looked), workers))
            seconds["many"].append(whole(corpus, RunFolder(scratch / f"many{turn}"), many, workers, vae))
            seconds["one"].append(whole(corpus, RunFolder(scratch / f"one{turn}"), one, 1, vae))
    run = RunFolder(scratch / "one0")
    crops = {clip.clip_id: clip for clip in load_manifest(run.manifest) if _made(run, clip)}
    frames = sum(round(clip.seconds * 25) for clip in clips)
    middle = {name: Elapsed(*map(statistics.median, zip(*values, strict=True))) for name, values in seconds.items()}
    floors = [Elapsed(*map(max, middle["decode"], middle[name])) for name in ("look", "every")]
    every = SETTINGS.faces.every
    print(f"\n{len(clips)} clips, {frames} frames at 25 fps ({frames / 25:.0f} s), {len(crops)} prepared.\n")
    print(
        "| what | processes | s | CPU s | frames/s | × real time | ÷ floor (by CPU) | ÷ floor, every frame (by CPU) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    named = {
        "decode": ("decode alone", workers),
        "look": (f"landmarks alone, every={every}", workers),
        "every": ("landmarks alone, every=1", workers),
        "many": (f"**preparation**, every={every}", workers),
        "one": (f"preparation, every={every}", 1),
    }
    for name, (what, processes) in named.items():
        wall, cpu = middle[name]
        shown = [what, str(processes), f"{wall:.1f}", f"{cpu:.1f}", f"{frames / wall:.0f}", f"{frames / 25 / wall:.1f}"]
        against = ["" if name == "one" else f"{wall / low.wall:.2f} ({cpu / low.cpu:.2f})" for low in floors]
        print("| " + " | ".join([*shown, *against]) + " |")
    print(f"\n{workers} processes that do nothing but arithmetic do {scaling(workers):.2f} × the work of one here.")
    turns = [(one.wall, many.wall) for one, many in zip(seconds["one"], seconds["many"], strict=True)]
    speedup = statistics.median(one / many for one, many in turns)
    each = ", ".join(f"{one:.1f} / {many:.1f} s" for one, many in turns)
    print(f"{workers} workers are {speedup:.2f} × one; each turn: {each}.")
    sys.stdout.flush()
    began = time.perf_counter()
    prepare_folder(corpus.kind, corpus.root, scratch / "cold", SETTINGS, workers, vae.encode_frames, "benchmark")
    cold = time.perf_counter() - began
    print(
        f"Loading two pools of {1 + workers} workers took {start_up:.1f} s; a preparation that starts its own", end=" "
    )
    print(f"{workers} took {cold:.1f} s in all.")
    sys.stdout.flush()
    elapsed = steps(corpus, run, list(crops.values()), vae)
    whole_cpu = sum(cpu for cpu, _ in elapsed.values())
    print("\n| step alone, one process | CPU s | wall s | CPU ms a frame | share |\n|---|---|---|---|---|")
    for name, (cpu, wall) in elapsed.items():
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {1e3 * cpu / frames:.2f} | {cpu / whole_cpu:.0%} |")
    print(
        f"| together | {whole_cpu:.2f} | {sum(w for _, w in elapsed.values()):.2f} | {1e3 * whole_cpu / frames:.2f} | |"
    )


def _made(run: RunFolder, clip: Clip) -> bool:
    return (run.crops(clip.speaker) / f"{clip.name}.json").exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of clips")
    parser.add_argument("--studio", type=Path, help="a rendered corpus; made there (24 clips of 2 s) if there is none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    corpora = []
    if arguments.studio is not None:
        if not arguments.studio.exists():
            render_corpus(arguments.studio, RENDERED, arguments.workers)
        corpora.append(Corpus(CorpusKind.STUDIO, arguments.studio))
    if arguments.clips is not None:
        corpora.append(Corpus(CorpusKind.FOLDER, arguments.clips))
    if not corpora:
        parser.error("name --clips or --studio")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for corpus in corpora:
        with tempfile.TemporaryDirectory() as scratch:
            measure(corpus, arguments.workers, arguments.repeat, Path(scratch))


if __name__ == "__main__":
    main()
