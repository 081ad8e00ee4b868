from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.fuzz.bounded import inputs
from tests.fuzz.made_media import Maker, Medium, media
from tests.fuzz.made_pictures import MadePicture, make_picture, pictures
from tests.fuzz.read_media import read_in_every_way

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
