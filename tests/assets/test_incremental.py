"""`privfedtalk prepare` on a corpus that grows and with settings that change: what is made again, and what is kept."""

from __future__ import annotations

import hashlib
import re
import zlib
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.configuration.tree import read_overrides
from pipelines.jobs import PREPARE
from pipelines.runner import run_jobs
from preparation.media.writing import encode
from tests.preparation.conftest import face, hiss, noise

SPEAKERS = {"pretrain": ("p0000", "p0001", "p0002"), "trainval": ("c0000", "c0001", "c0002")}
SETTINGS = (
    "run=grown",
    "workers=1",
    "corpus.kind=studio",
    "preparation.crops.size=64",
    "preparation.faces.tracker=truth",
    "preparation.quality.minimum_face_pixels=10",
    "preparation.quality.minimum_sharpness=0",
    "training.vae.steps=1",
)
STAGES = ("corpus", "manifest", "clients", "crops", "dealing", "client_report", "vae", "shards")
ALL_PARTS = {f"clients/{name}" for names in SPEAKERS.values() for name in names}


def draw(root: Path, subset: str, speaker: str, number: int) -> None:
    path = root / subset / speaker / f"{number:05d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(f"{speaker}/{number}".encode())
    encode(noise(30, seed=seed), hiss(1.2, seed), path)
    truth = {"landmarks": face(30), "mouth_opening": np.linspace(0, 0.4, 30, dtype=np.float32)}
    save_file(truth, path.with_name(f"{number:05d}.truth.safetensors"))


class Preparation:
    """The command's work on one corpus, and what it said of each stage."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.corpus, self.data, self.root, self.capfd = folder / "corpus", folder / "data", folder / "data/grown", capfd

    def run(self, *more: str) -> tuple[set[str], set[str], str]:
        """The stages that were done, those that were kept, and all that was printed."""
        self.capfd.readouterr()
        overrides = [f"data={self.data}", f"corpus.root={self.corpus}", *SETTINGS, *more]
        run_jobs([PREPARE], "small", read_overrides(overrides), instance=dg.DagsterInstance.ephemeral())
        printed = self.capfd.readouterr().err
        done, kept = (
            set(re.findall(rf"^(\w+): {word}", printed, re.MULTILINE)) for word in ("done in", "unchanged, kept")
        )
        assert done | kept == set(STAGES) and not done & kept
        return done, kept, printed

    def files(self, pattern: str) -> dict[str, tuple[str, int]]:
        """Each file's SHA-256 and time of writing."""
        return {
            str(path.relative_to(self.root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in self.root.glob(pattern)
        }


def parts_of(names: set[str]) -> set[str]:
    return {"/".join(name.split("/")[:2]) for name in names}


@pytest.mark.slow
def test_five_more_clips_then_another_size_then_nothing_new(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    work = Preparation(tmp_path, capfd)
    for subset, speakers in SPEAKERS.items():
        for place, speaker in enumerate(speakers):
            for number in range(2):
                draw(work.corpus, subset, speaker, 2 * place + number)
    done, _, printed = work.run()
    assert done == set(STAGES) and "crops: 12/12 clips" in printed
    crops, shards = work.files("clients/*/crops/*"), work.files("clients/*/shards/*")
    assert len(crops) == 12 * 3 and len(shards) == 6 * 2

    # Five clips more of two clients: five crops, the shards of these two, and no second autoencoder.
    for speaker, numbers in (("c0000", (11, 12, 13)), ("c0002", (11, 12))):
        for number in numbers:
            draw(work.corpus, "trainval", speaker, number)
    done, kept, printed = work.run()
    assert "crops: 5/5 clips" in printed and "vae" in kept and {"manifest", "crops", "shards"} <= done
    again = work.files("clients/*/crops/*")
    assert len(again) == 17 * 3 and {name: again[name] for name in crops} == crops
    rewritten = work.files("clients/*/shards/*")
    untouched = {name: stamp for name, stamp in rewritten.items() if name.split("/")[1] not in ("c0000", "c0002")}
    assert untouched == {name: shards[name] for name in untouched} and len(untouched) == 4 * 2
    changed = {name for name, stamp in rewritten.items() if stamp != shards.get(name)}
    assert parts_of(changed) == {"clients/c0000", "clients/c0002"}

    # Another crop size: clips are not listed anew, all that is made of crops is.
    manifest = work.files("*.parquet")
    done, kept, printed = work.run("preparation.crops.size=32")
    assert {"corpus", "manifest", "clients"} == kept and "crops: 17/17 clips" in printed
    assert {"crops", "vae", "shards"} <= done
    assert work.files("manifest.parquet").items() <= manifest.items()
    resized = work.files("clients/*/shards/*")
    assert parts_of({name for name, stamp in resized.items() if stamp != rewritten[name]}) == ALL_PARTS

    # The same again: nothing is done, no file is written.
    before = work.files("clients/**/*.*")
    done, kept, _ = work.run("preparation.crops.size=32")
    assert (done, kept) == (set(), set(STAGES))
    assert work.files("clients/**/*.*") == before
