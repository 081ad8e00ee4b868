"""Previews survive whatever their files hold, and hold no more than a frame of it at full size."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.errors import CorruptFileError
from common.folders import RunFolder
from preparation.clients.roles import Client, save_clients
from preparation.media.previews import fitted, for_show, grey_cell, moments
from preparation.media.track.frames import Painter
from preparation.media.writing import encode
from preparation.shards.thumbnails import thumbnail_sheet
from tests.preparation.conftest import noise, tone


def with_broken_pictures(path: Path) -> Path:
    """Its headers and its packet index are whole; what they lead to is not."""
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    length = int.from_bytes(content[begin - 8 : begin - 4], "big") - 8
    content[begin : begin + length] = bytes(length)
    path.write_bytes(content)
    return path


def is_grey(cell: np.ndarray) -> bool:
    return bool((cell.reshape(-1, 3).astype(int).std(axis=1) == 0).all() and np.median(cell) == 128)


@pytest.mark.parametrize("kind", ["broken", "missing", "empty", "text", "folder", "short"])
def test_a_clip_that_cannot_be_read_is_a_grey_cell(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp4"
    if kind in ("broken", "short"):
        encode(noise(30), None, path)
    if kind == "broken":
        with_broken_pictures(path)
    elif kind == "short":
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"la la" if kind == "text" else b"")
    (cell,) = moments(path, [0, 5], height=64)
    assert cell.shape == (64, 64, 3) and is_grey(cell)
    assert capsys.readouterr().err.startswith("a.mp4 is not shown: ")


def test_moments_are_those_of_the_clip(tmp_path: Path) -> None:
    frames = [np.full((48, 96, 3), 5 * number, np.uint8) for number in range(40)]
    encode(frames, None, tmp_path / "a.mp4")
    found = moments(tmp_path / "a.mp4", range(0, 48, 6), height=24)
    assert [frame.shape for frame in found] == [(24, 48, 3)] * 7
    assert np.allclose([frame.mean() for frame in found], 5 * np.arange(0, 40, 6), atol=6)


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), StopIteration(), CorruptFileError("no", "do")])
def test_any_error_is_told_and_passed_over(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with for_show("a\x1b[2Jb"):
        raise error
    assert capsys.readouterr().err.startswith("a[2Jb is not shown: ")


def test_who_stops_a_stage_stops_it() -> None:
    with pytest.raises(KeyboardInterrupt), for_show("a"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1), (2160, 3840)])
def test_every_shape_fits(size: tuple[int, int]) -> None:
    found = fitted(np.zeros((*size, 3), np.uint8), 96)
    assert found.shape[0] == 96 and 1 <= found.shape[1] <= 4 * 96
    assert grey_cell(8, 8).shape == (8, 8, 3) and grey_cell(96, 384).std() > 0


def test_of_a_large_clip_one_frame_is_converted_and_none_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = 540, 960
    encode((np.full((height, width, 3), 5 * number, np.uint8) for number in range(12)), None, tmp_path / "a.mp4")
    converted: list[int] = []
    upright = Painter.upright

    def copied(self: Painter, frame: Any) -> np.ndarray:
        """A copy, for what FFmpeg allocates is not seen by tracemalloc."""
        converted.append(1)
        return np.array(upright(self, frame))

    monkeypatch.setattr(Painter, "upright", copied)
    for places in ([0], range(0, 12, 2)):
        converted.clear()
        tracemalloc.start()
        found = moments(tmp_path / "a.mp4", places)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found) == len(converted) == len(places)
        assert peak < 3.5 * height * width * 3, peak / (height * width * 3)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three clients with two crops of 12 frames each."""
    run, table = RunFolder(tmp_path / "run"), {}
    for name in ("anna", "bela", "cleo"):
        for clip in ("0", "1"):
            home = run.crops(name) / f"{clip}.mp4"
            encode(noise(12, 32, 32), tone(0.48), home)
            tensors = {"landmarks": np.zeros((12, 68, 2), np.float32), "audio": tone(0.48)}
            save_file(tensors | {"transforms": np.zeros((12, 2, 3), np.float32)}, home.with_suffix(".safetensors"))
            home.with_suffix(".json").write_text(json.dumps({"frames": 12}))
        table[name] = Client("client", name, {"train": [f"{name}/0", f"{name}/1"], "validation": [], "test": []})
    save_clients(table, run.people_table)
    return run


@pytest.mark.parametrize("kind", ["frames", "video", "description", "tensors", "count", "fewer"])
def test_a_crop_that_cannot_be_read_is_a_grey_cell_of_the_sheet(run: RunFolder, kind: str) -> None:
    whole = thumbnail_sheet(run, 3, 4, size=32)
    assert whole.shape == (96, 128, 3) and not is_grey(whole)
    home = run.crops("bela")
    if kind == "frames":
        with_broken_pictures(home / "0.mp4")
    elif kind == "video":
        (home / "0.mp4").unlink()
    elif kind == "fewer":
        (home / "0.json").write_text(json.dumps({"frames": 500}))
    else:
        name, content = {
            "description": ("0.json", "{"), "tensors": ("0.safetensors", "no"), "count": ("0.json", "{}"),
        }[kind]  # fmt: skip
        (home / name).write_text(content)
    sheet = thumbnail_sheet(run, 3, 4, size=32)
    assert sheet.shape == whole.shape
    assert is_grey(sheet[32:64, 32:64])
    changed = np.abs(sheet.astype(int) - whole).max(axis=2) > 0
    changed[32:64, :64] = False
    assert not changed.any()
    assert kind == "fewer" or is_grey(sheet[32:64, :32])
