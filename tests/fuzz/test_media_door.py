from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from preparation.media.video import open_video
from tests.fuzz.bounded import inputs
from tests.fuzz.made_media import Maker, Medium, Pictures, media, written
from tests.fuzz.made_pictures import MadePicture, make_picture, pictures
from tests.fuzz.read_media import LIMITS, read_in_every_way

FAILING = Path(__file__).with_name("failing")
UNTIMED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def maker() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.close()


@pytest.mark.slow
@settings(max_examples=inputs("media", 2000), suppress_health_check=UNTIMED)
@given(media())
def test_every_made_medium_is_read_or_refused(maker: Maker, medium: Medium) -> None:
    whole = maker.make(medium)
    assume(whole is not None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{medium.suffix}"
        path.write_bytes(whole or b"")
        read_in_every_way(path)


@pytest.mark.slow
@settings(max_examples=inputs("pictures", 500), suppress_health_check=UNTIMED)
@given(pictures())
def test_every_made_picture_is_read_or_refused(picture: MadePicture) -> None:
    whole = make_picture(picture)
    assume(whole is not None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture{picture.suffix}"
        path.write_bytes(whole or b"")
        read_in_every_way(path)


@pytest.mark.parametrize("name", sorted(path.name for path in FAILING.iterdir()) if FAILING.is_dir() else [])
def test_files_that_once_failed_are_read_or_refused(name: str, tmp_path: Path) -> None:
    read_in_every_way(Path(shutil.copy(FAILING / name, tmp_path)))


@pytest.mark.slow(minutes=0.1)
def test_interlaced_pictures_are_the_same_each_time_they_are_read(tmp_path: Path) -> None:
    """One reading of thirty had other pixels at the beginning of a line, read from memory that nobody had written."""
    pictures = Pictures("prores_ks", "yuv422p10le", 64, 64, Fraction(25), 1, True, Fraction(16, 11), (2, 2, 2, 0), 0)
    path = tmp_path / "clip.mov"
    path.write_bytes(written(Medium("mov", (pictures,), ())) or b"")
    rng, seen = np.random.default_rng(0), set()
    for _ in range(1000):
        left = [rng.integers(0, 255, int(rng.integers(1000, 200_000)), np.uint8) for _ in range(3)]
        del left  # this is in the memory that is used next
        seen.add(b"".join(frame.tobytes() for frame in open_video(path, LIMITS).frames()))
    assert len(seen) == 1
