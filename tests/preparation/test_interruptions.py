"""Killed, crowded out, out of space: what is left is never taken for whole, and the next run ends where one would."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from common.errors import UnwritableError
from common.files import partial_of, sweep
from common.folders import RunFolder
from preparation.corpora.manifest import load_manifest, save_manifest, scan
from preparation.crops.crop import prepare_clip
from preparation.faces.truth_tracker import TruthTracker
from preparation.pipeline import PreparationReport, build_all_shards, prepare_clients, prepare_folder, register_corpus
from preparation.quarantine import QuarantineRow, load_quarantine, replace_rows
from preparation.settings import FaceSettings, PreparationSettings, QualitySettings
from preparation.shards.store import read_shards

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)
CHILD = """
    import os, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from preparation import pipeline
    from preparation.settings import FaceSettings, PreparationSettings, QualitySettings

    SETTINGS = PreparationSettings(
        faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
    )
    work = pipeline._work

    def encode(frames):
        return np.repeat(frames[:, None, ::8, ::8, 0] / 255, 4, axis=1).astype(np.float32)

    def deadly(clip):
        if clip.clip_id == "c0001/00002":
            os.kill(os.getpid(), signal.SIGKILL)
        return work(clip)

    def main(root, out):
        return pipeline.prepare_folder("studio", Path(root), Path(out), SETTINGS, 2, encode, "blocks")
"""


def encode(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:, None, ::8, ::8, 0] / 255, 4, axis=1).astype(np.float32)


def prepare(root: Path, out: Path, workers: int = 1) -> PreparationReport:
    return prepare_folder("studio", root, out, SETTINGS, workers, encode, "blocks")


def results(out: Path) -> dict[str, bytes]:
    """All that training reads: every file but the crops' own and the lock."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.parent.name != "crops"
    }


def leavings(out: Path) -> list[str]:
    return [path.name for path in out.rglob(".*") if path.suffix in (".partial", ".old")]


def child(tmp_path: Path, main: str) -> list[str]:
    """The command line of a process that prepares; a file, because spawned workers read their parent's again."""
    script = tmp_path / "child.py"
    main = textwrap.indent(textwrap.dedent(main), "    ")
    script.write_text(f"{textwrap.dedent(CHILD)}\nif __name__ == '__main__':\n{main}")
    return [sys.executable, str(script)]


@pytest.fixture(scope="module")
def undisturbed(studio_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert prepare(studio_template, out).shards.samples == 18
    return results(out)


def killed_somewhere(command: list[str], root: Path, out: Path, seconds: float) -> bool:
    """Start, kill after `seconds`, and see that the workers end too; whether it was still at work then."""
    process = subprocess.Popen([*command, str(root), str(out)], stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == [], "workers outlived the process they worked for"
        return True


def kill_often(
    tmp_path: Path, root: Path, kills: int, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    command = child(tmp_path, "import sys; main(sys.argv[1], sys.argv[2])")
    started = time.monotonic()
    assert not killed_somewhere(command, root, tmp_path / "whole", 300)
    life = time.monotonic() - started
    assert results(tmp_path / "whole") == expected
    rng = random.Random(0)
    hit = 0
    for number in range(kills):
        # One moment in each part of its life; the process loads its libraries for the first part, so start after it.
        share = 0.3 + 0.65 * (number + rng.random()) / kills
        out = tmp_path / f"killed{number}"
        began = time.monotonic()
        disturbed = killed_somewhere(command, root, out, share * life)
        if not disturbed:  # other work of the machine has ended since its life was measured
            life = min(life, time.monotonic() - began)
        hit += disturbed
        assert prepare(root, out).shards.samples == 18
        assert results(out) == expected, f"killed after {share:.2f} of its life"
        assert leavings(out) == []
    assert hit >= kills // 2, "most kills came too late to disturb anything"


@pytest.mark.slow(minutes=0.3)
def test_killed_twice(
    tmp_path: Path, studio_corpus: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_often(tmp_path, studio_corpus, 2, undisturbed, monkeypatch)


@pytest.mark.slow
def test_killed_at_any_moment(
    tmp_path: Path, studio_corpus: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_often(tmp_path, studio_corpus, 12, undisturbed, monkeypatch)


@pytest.mark.slow(minutes=0.1)
def test_killed_again_and_again_in_one_folder_leaves_nothing_behind(
    tmp_path: Path, studio_corpus: Path, undisturbed: dict[str, bytes]
) -> None:
    """What a process that is no more would have left, everywhere at once."""
    out = tmp_path / "out"
    prepare(studio_corpus, out)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for path in (out / "manifest.parquet", out / "clients/c0000/crops/00001.mp4", out / "clients/c0000/shards"):
        kinds = ("partial", "old") if path.name == "shards" else ("partial",)
        for kind in kinds:
            left = partial_of(path, kind)
            left = left.with_name(left.name.replace(str(os.getpid()), str(gone.pid)))
            if path.is_dir():
                shutil.copytree(path, left)
            else:
                left.write_bytes(b"half")
    assert len(leavings(out)) == 4
    prepare(studio_corpus, out)
    assert leavings(out) == [] and results(out) == undisturbed


def test_work_in_progress_is_not_swept(tmp_path: Path) -> None:
    ours = partial_of(tmp_path / "a.mp4")
    ours.write_bytes(b"being written")
    elsewhere = tmp_path / ".b.mp4.1-abcdef.partial"
    elsewhere.write_bytes(b"written by another machine")
    forgotten = tmp_path / ".c.mp4.1-abcdef.partial"
    forgotten.write_bytes(b"left by another machine")
    os.utime(forgotten, (0, 0))
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, elsewhere.name}


def test_a_worker_that_dies_costs_its_clip_and_no_other(tmp_path: Path, studio_corpus: Path) -> None:
    out = tmp_path / "out"
    command = child(tmp_path, "import sys; pipeline._work = deadly; main(sys.argv[1], sys.argv[2])")
    # Workers import the script as another name than `__main__`, where `deadly` is found again.
    done = subprocess.run([*command, str(studio_corpus), str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = RunFolder(out)
    (row,) = load_quarantine(run.quarantine)
    assert (row.file, row.step) == ("trainval/c0001/00002.mp4", "crops")
    assert "process that prepared it died" in row.reason
    assert len(list(read_shards(run.client("c0001")))) == 3
    assert len(list(read_shards(run.client("c0000")))) == 4


@pytest.mark.slow(minutes=0.2)
def test_workers_killed_from_outside_change_nothing(
    tmp_path: Path, studio_corpus: Path, undisturbed: dict[str, bytes]
) -> None:
    """As when memory runs out: the clips in work are tried again, one at a time."""
    out = tmp_path / "out"
    command = child(tmp_path, "import sys; main(sys.argv[1], sys.argv[2])")
    process = subprocess.Popen([*command, str(studio_corpus), str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("clients/*/crops/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in psutil.Process(process.pid).children():
        if "spawn_main" in " ".join(worker.cmdline()):
            worker.send_signal(signal.SIGKILL)
            break
    assert process.wait(120) == 0
    prepare(studio_corpus, out)
    assert results(out) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where the system lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("only a privileged user may mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_said_and_the_next_run_goes_on(
    small_disk: Path, studio_corpus: Path, undisturbed: dict[str, bytes], workers: int
) -> None:
    out = small_disk / "run"
    with pytest.raises(UnwritableError, match=f"the disk that holds {small_disk}.* is full") as caught:
        prepare(studio_corpus, out, workers)
    assert "goes on where it stopped" in caught.value.remedy
    made = len(list(out.glob("clients/*/crops/*.json")))
    enlarge(small_disk)
    again = prepare(studio_corpus, out, workers)
    assert again.crops.kept >= made > 0 and again.quarantine == []
    assert results(out) == undisturbed and leavings(out) == []


@pytest.mark.slow(minutes=0.1)
def test_a_disk_that_fills_up_under_the_shards(
    small_disk: Path, studio_corpus: Path, undisturbed: dict[str, bytes]
) -> None:
    enlarge(small_disk)
    run = RunFolder(small_disk / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    prepare_clients(run, studio_corpus, SETTINGS)
    filler = fill(small_disk, spare=300_000)
    with pytest.raises(UnwritableError, match=r"the disk that holds .*clients.* is full"):
        build_all_shards(run, encode, SETTINGS, "blocks")
    filler.unlink()
    build_all_shards(run, encode, SETTINGS, "blocks")
    assert results(run.root) == undisturbed and leavings(run.root) == []


def test_a_disk_that_fills_up_under_a_table_keeps_the_old_one(small_disk: Path, studio_corpus: Path) -> None:
    clips = scan("studio", studio_corpus).clips
    manifest, quarantine = small_disk / "manifest.parquet", small_disk / "quarantine.parquet"
    save_manifest(clips[:3], manifest)
    filler = fill(small_disk, spare=4096)
    rows = [QuarantineRow(f"{number}.mp4", "crops", os.urandom(40).hex(), "none") for number in range(2000)]
    with pytest.raises(UnwritableError, match="is full"):
        save_manifest(clips * 200, manifest)
    with pytest.raises(UnwritableError, match="is full"):
        replace_rows(quarantine, ("crops",), rows)
    assert load_manifest(manifest) == clips[:3]
    filler.unlink()
    assert leavings(small_disk) == []


def fill(disk: Path, spare: int) -> Path:
    """Occupy all but `spare` bytes."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    filler.write_bytes(bytes(max(0, free - spare)))
    return filler


@pytest.mark.slow(minutes=0.2)
def test_a_limit_on_file_sizes_is_said_and_the_next_run_goes_on(
    tmp_path: Path, studio_corpus: Path, undisturbed: dict[str, bytes]
) -> None:
    """What a quota answers, for systems where no disk can be mounted: the shards pass the limit, the crops do not."""
    out = tmp_path / "out"
    limited = """
        import sys
        from common.errors import UnwritableError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            main(sys.argv[1], sys.argv[2])
        except UnwritableError as error:
            print(error)
    """
    command = [*child(tmp_path, limited), str(studio_corpus), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{out}/clients/" in done.stdout and "goes on where it stopped" in done.stdout
    assert leavings(out) == []
    again = prepare(studio_corpus, out)
    assert again.crops.made == 0 and results(out) == undisturbed


def test_a_full_disk_in_one_clip_stops_rather_than_blaming_the_clip(small_disk: Path, studio_corpus: Path) -> None:
    clip = scan("studio", studio_corpus).clips[0]
    fill(small_disk, spare=0)
    with pytest.raises(UnwritableError):
        prepare_clip(clip, studio_corpus, small_disk / "crops", SETTINGS, TruthTracker())
