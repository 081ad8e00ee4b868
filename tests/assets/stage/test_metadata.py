"""What assets show of themselves: a clip that plays, in what Dagster's pages let through."""

from __future__ import annotations

import base64
import io
import tracemalloc
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from assets.preparation.corpus import corpus, manifest
from assets.stage.metadata import picture, pictures, playing
from pipelines.configuration.tree import read_overrides
from pipelines.resources import RunResource
from preparation.media.track.frames import Painter
from preparation.media.writing import encode
from tests.preparation.conftest import noise, tone
from tests.preparation.media.test_previews import is_grey, with_broken_pictures


def drawn(told: dg.MarkdownMetadataValue) -> np.ndarray:
    """The (first) picture of Markdown with an inline one."""
    content = told.value.removesuffix(")").partition("base64,")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_a_clip_plays_over_its_sound(tmp_path: Path) -> None:
    """Every second frame, its own picture; the waveform is wide where the clip is loud, and its mark runs along."""
    frames = np.stack([np.full((64, 64, 3), 5 * number, np.uint8) for number in range(40)])
    loud = np.sin(np.arange(40 * 640) / 9)
    loud[: 20 * 640] = 0
    encode(frames, (20_000 * loud).astype(np.int16), tmp_path / "clip.mp4")
    told = playing(tmp_path / "clip.mp4", seconds=1.2, height=64).value
    head, _, content = told.removesuffix(")").partition("base64,")
    assert head == "![clip](data:image/webp;"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert isinstance(picture, WebPImageFile)
    assert picture.n_frames == 15 and picture.size == (64, 88) and picture.info["loop"] == 0
    shown = []
    for number in range(picture.n_frames):
        picture.seek(number)
        shown.append(np.asarray(picture.convert("RGB")).astype(int))
    brightness = [frame[:64].mean() for frame in shown]
    assert np.allclose(brightness, 5 * np.arange(0, 30, 2), atol=8)
    wave = shown[0][66:70]  # far from the middle line: only loud moments reach there
    assert wave[:, 6:40].max() < 80 < wave[:, 58:].max()
    marks = [int(frame[66:68, :, 0].mean(0).argmax()) for frame in shown]
    assert marks[0] < 6 and marks[-1] > 56 and all(np.diff(marks) > 0)


def test_what_cannot_be_shown_is_grey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode(noise(30), tone(1.2), tmp_path / "broken.mp4")
    with_broken_pictures(tmp_path / "broken.mp4")
    (tmp_path / "text.mp4").write_text("la la")
    for name in ("broken.mp4", "text.mp4", "absent.mp4"):
        shown = drawn(playing(tmp_path / name, height=64))
        assert shown.shape == (64, 64, 3) and abs(float(np.median(shown)) - 128) < 3
        assert f"{name} is not shown" in capsys.readouterr().err
    assert picture(tmp_path / "absent.png").value == "absent.png cannot be read"
    assert pictures([]).value == "no pictures"
    narrow = [np.zeros((4000, 1, 3), np.uint8), np.zeros((1, 4000, 3), np.uint8)]
    assert drawn(pictures(narrow)).shape[0] == 96


def test_pictures_play_where_the_sound_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(noise(30), tone(1.2), tmp_path / "a.mp4")

    def fail(*_: object, **__: object) -> None:
        raise ValueError("a codec of tomorrow")

    monkeypatch.setattr("preparation.media.sound.open_sound", fail)
    assert drawn(playing(tmp_path / "a.mp4", height=64)).std() > 10


def test_a_large_clip_plays_in_the_memory_of_a_frame_or_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = 540, 960
    upright = Painter.upright
    # Copies, for what FFmpeg allocates is not seen by tracemalloc.
    monkeypatch.setattr(Painter, "upright", lambda self, frame: np.array(upright(self, frame)))
    encode((np.full((height, width, 3), 9 * number, np.uint8) for number in range(25)), tone(1.0), tmp_path / "a.mp4")
    playing(tmp_path / "a.mp4")  # imports have their own memory
    tracemalloc.start()
    playing(tmp_path / "a.mp4")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * height * width * 3, peak / (height * width * 3)  # 13 small frames and their waves among it


def test_a_clip_with_good_headers_and_broken_pictures_does_not_end_the_manifest(tmp_path: Path) -> None:
    """Nothing has decoded the clips yet when the manifest shows some of them."""
    for number in range(3):
        encode(noise(30, seed=number), tone(1.2), tmp_path / "clips" / f"{number}.mp4")
    for number in (0, 2):
        with_broken_pictures(tmp_path / "clips" / f"{number}.mp4")
    overrides = [f"data={tmp_path}", "run=few", "corpus.kind=folder", f"corpus.root={tmp_path / 'clips'}", "workers=1",
                 "training.privacy.seeded_noise=null"]  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [corpus, manifest],
            instance=instance,
            resources={"run": RunResource(profile="small", overrides=read_overrides(overrides))},
            raise_on_error=False,
        )
    assert done.success
    (told,) = done.asset_materializations_for_node("manifest")
    assert told.metadata["clips"].value + told.metadata["quarantined"].value == 3
    assert not is_grey(drawn(told.metadata["faces"]))
