"""What was made of a clip that leaves the corpus stays until it is asked to go; everybody else's stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from common.folders import RunFolder
from preparation.clients.dealing import deal_run
from preparation.clients.removal import Absent, settle_absent
from preparation.clients.roles import load_clients
from preparation.media.writing import encode
from preparation.pipeline import PreparationReport, prepare_folder
from preparation.settings import CorpusSettings, FaceSettings, PartitionSettings, PreparationSettings, QualitySettings
from preparation.shards.store import read_shards

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)


def latents(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:, None, ::8, ::8, 0] / 255, 4, axis=1).astype(np.float32)


def prepare(root: Path, run: RunFolder, settings: PreparationSettings = SETTINGS) -> PreparationReport:
    return prepare_folder("studio", root, run, settings, 1, latents, "blocks")


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow(minutes=0.1)
def test_what_was_made_of_a_withdrawn_clip_goes(
    studio_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    silent = studio_corpus / "trainval" / "c0001" / "00004.mp4"
    encode([np.full((64, 80, 3), 90, np.uint8)] * 30, np.zeros(30 * 640, np.int16), silent)
    prepare(studio_corpus, run)
    for person in ("c0000", "c0001"):
        run.client_adapter(person, "fedavg").mkdir(parents=True)
        (run.client_adapter(person, "fedavg") / "state.json").write_text("{}")
    assert settle_absent(run, forget=True) == Absent(0, 0)
    others = {name: files(run.client(name)) for name in ("c0002", "p0000", "p0001", "u0000")}
    capsys.readouterr()

    # One person withdraws wholly, another two clips, of which one had been refused.
    shutil.rmtree(studio_corpus / "trainval" / "c0000")
    for number in (1, 4):
        for suffix in (".mp4", ".truth.safetensors"):
            (studio_corpus / "trainval" / "c0001" / f"{number:05d}{suffix}").unlink()
    before = files(run.crops("c0000"))
    prepare(studio_corpus, run)
    assert "kept what was made of 6 clips" in capsys.readouterr().err
    assert files(run.crops("c0000")) == before and "c0000" not in load_clients(run.clients_table)

    forgetting = SETTINGS.model_copy(update={"corpus": CorpusSettings(forget_absent=True)})
    report = prepare(studio_corpus, run, forgetting)
    assert "removed what was made of 6 clips" in capsys.readouterr().err
    assert (report.clips, report.crops.made, report.crops.kept, report.quarantine) == (12, 0, 12, [])
    assert not run.client("c0000").exists() and "c0000" not in load_clients(run.clients_table)
    assert sorted(name for name in files(run.crops("c0001")) if name.startswith("00")) == [
        f"{number:05d}{suffix}" for number in (2, 3) for suffix in (".json", ".mp4", ".safetensors")
    ]
    assert not list(run.root.glob("clients/*/crops/refused/*"))
    told = [*read_shards(run.client("c0001"))]
    assert {sample.clip_id for sample in told} == {"c0001/00002", "c0001/00003"}
    assert {sample.metadata["reference_clip"] for sample in told} <= {"c0001/00002", "c0001/00003"}
    assert (run.client_adapter("c0001", "fedavg") / "state.json").exists()
    assert {name: files(run.client(name)) for name in others} == others


def test_simulated_clients_keep_their_folders(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(studio_corpus, run)
    partition = PartitionSettings(by="dirichlet", clients=2, unit="video")
    deal_run(run, SETTINGS.model_copy(update={"partition": partition}))
    run.shards("d0000").mkdir(parents=True)
    assert settle_absent(run, forget=True) == Absent(0, 0)
    assert run.shards("d0000").exists()


def test_what_is_being_written_is_left_alone(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(studio_corpus, run)
    partial = run.crops("c0001") / ".00009.mp4.1-abcdef.partial"
    partial.touch()
    assert settle_absent(run, forget=True) == Absent(0, 0)
    assert partial.exists()
