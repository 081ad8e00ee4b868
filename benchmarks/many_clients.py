"""A thousand clients: seconds and memory of each step of preparation, for few clients and for many:

    python -m benchmarks.many_clients --corpus FOLDER      # rendered there first (half an hour) if it is absent

Every step runs in a process of its own. Its memory is the largest sum of the resident memory of it and its workers,
sampled twenty times a second; shared pages count once for each. Libraries, which are most of it, are included.
The few clients are the first of the many. The tracker is the corpus's truth, so that crops cost cutting and no
inference; the autoencoder is the small one, untrained, because its time and memory do not depend on its weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A file in this folder has the name of a package that is measured, and must not hide it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Set before the libraries are loaded, here and in the workers: one thread a process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import psutil

from common.folders import RunFolder
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import (
    CropSettings,
    FaceSettings,
    PartitionRule,
    PartitionSettings,
    PreparationSettings,
    QualitySettings,
)

CLIPS = 3
RENDERED = StudioSettings(
    public_speakers=4, public_clips=1, clients=1000, client_clips=CLIPS, unseen=0, seconds=0.8, size=64
)
SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"),
    crops=CropSettings(size=64),
    quality=QualitySettings(minimum_frames=5, minimum_face_pixels=5, minimum_sharpness=0),
)
STEPS = ("register", "crops", "split", "shards", "index")
BOUND = ("register", "split", "index")
"""The steps whose memory must not grow with the number of clients."""
SAMPLE_SECONDS = 0.05


def step(name: str, corpus: Path, run: RunFolder, workers: int) -> None:
    """One step, in this process; its libraries are loaded here and nowhere else."""
    if name == "register":
        from preparation.pipeline import register_corpus

        clips, _ = register_corpus("studio", corpus, run, SETTINGS)
        print(f"{len(clips)} clips")
    elif name == "crops":
        from preparation.pipeline import prepare_clients

        print(f"{prepare_clients(run, corpus, SETTINGS, workers).made} crops")
    elif name == "split":
        # Dealt anew by looks and pose: the costliest split, since it opens every crop.
        from preparation.clients.dealing import deal_run
        from preparation.clients.roles import load_people, of_role

        count = len(of_role(load_people(run), "client"))
        partition = PartitionSettings(by=PartitionRule.DIRICHLET, clients=count)
        print(f"{len(deal_run(run, SETTINGS.model_copy(update={'partition': partition})))} clients")
    elif name == "shards":
        from preparation.pipeline import build_all_shards
        from training.model.autoencoders.small import SmallVae
        from training.settings import VaeSettings

        vae = SmallVae(VaeSettings()).eval().requires_grad_(False)
        print(f"{build_all_shards(run, vae.encode_frames, SETTINGS, 'benchmark', workers=workers).samples} samples")
    else:
        from preparation.clients.roles import load_clients
        from preparation.shards.store import check_files, load_index

        samples = 0
        for client in load_clients(run.clients_table):
            index = load_index(run.client(client))
            check_files(run.client(client), index)
            samples += index.samples
        print(f"{samples} samples checked")


def measure(name: str, corpus: Path, run: RunFolder, workers: int) -> tuple[float, float, str]:
    """Wall seconds, peak memory in GB, and what the step prints."""
    arguments = ["--step", name, "--corpus", str(corpus), "--run", str(run.root), "--workers", str(workers)]
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *arguments], stdout=subprocess.PIPE, text=True
    ) as child:
        watched = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        output = child.stdout.read().strip() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{name} failed with exit code {child.returncode}")
    return seconds, peak / 1e9, output


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        pass
    return total


def subset(corpus: Path, clients: int, target: Path) -> Path:
    """The corpus's public people and its first clients, as links, so that nothing is copied."""
    people = sorted((corpus / "trainval").iterdir())[:clients]
    if len(people) < clients:
        raise SystemExit(f"{corpus} has {len(people)} clients, not {clients}")
    for folder in (*sorted((corpus / "pretrain").iterdir()), *people):
        links = target / folder.relative_to(corpus)
        links.mkdir(parents=True)
        for file in folder.iterdir():
            (links / file.name).symlink_to(file.resolve())
    return target


def compare(corpus: Path, counts: list[int], workers: int, scratch: Path) -> None:
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for count in counts:
        part = subset(corpus, count, scratch / f"corpus{count}")
        run = RunFolder(scratch / f"run{count}")
        for name in STEPS:
            seconds, peak, output = measure(name, part, run, workers)
            found[name, count] = (seconds, peak)
            print(f"{count} clients, {name}: {output}, {seconds:.1f} s, {peak:.2f} GB", file=sys.stderr)
        shutil.rmtree(run.root)
    print("\n| step | " + " | ".join(f"{count} clients: s | ms a clip | GB" for count in counts) + " |")
    print("|---|" + "---|" * (3 * len(counts)))
    for name in STEPS:
        cells = [
            f"{seconds:.1f} | {1000 * seconds / (CLIPS * count):.0f} | {peak:.2f}"
            for count in counts
            for seconds, peak in (found[name, count],)
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    most = max(found[name, counts[-1]][1] for name in BOUND)
    growth = max(found[name, counts[-1]][1] - found[name, counts[0]][1] for name in BOUND)
    print(f"\nregister, split and index: at most {most:.2f} GB, {1000 * growth:+.0f} MB from {counts[0]} clients on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="rendered clips of 64 pixels; made there if absent")
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments.step, arguments.corpus, RunFolder(arguments.run), arguments.workers)
        return
    if not arguments.corpus.exists():
        from preparation.corpora.studio.corpus import render_corpus

        size = RENDERED.model_copy(update={"clients": max(arguments.clients)})
        render_corpus(arguments.corpus, size, arguments.workers)
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments.corpus, sorted(arguments.clients), arguments.workers, Path(scratch))


if __name__ == "__main__":
    main()
