from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.weights import registry as weights

NEVER_AT_HAND = {
    "2dfan4", "arcface_r50", "lpips_alex", "lpips_squeeze", "lpips_vgg", "inception", "i3d", "syncnet",
    "syncnet_example",
}  # fmt: skip
"""Not among the fixtures: their sha256 is what others publish."""


def test_a_name_that_promises_digits_keeps_its_word() -> None:
    """torchvision, torch-fidelity and face-alignment end the name in the first digits of the sha256."""
    promised = {name: re.search(r"-([0-9a-f]{8,10})\.pth", weights.REGISTRY[name].file) for name in NEVER_AT_HAND}
    kept = {name: digits[1] for name, digits in promised.items() if digits}
    assert set(kept) == {"2dfan4", "lpips_alex", "lpips_squeeze", "lpips_vgg", "inception"}
    for name, digits in kept.items():
        assert (weights.REGISTRY[name].sha256 or "").startswith(digits)


def test_registered_files_are_the_real_ones(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    for name, weight in weights.REGISTRY.items():
        if not (weights_dir / weight.file).exists():
            assert name in NEVER_AT_HAND
            continue
        path = weights.find(name)
        assert path == weights_dir / weight.file
        assert path.stat().st_size == weight.bytes


def test_missing_file_says_what_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingWeightError) as caught:
        weights.find("face_landmarker")
    assert str(tmp_path / "named") in caught.value.reason
    assert weights.ENVIRONMENT_VARIABLE in caught.value.remedy
    assert str(tmp_path / "privfedtalk" / "weights" / "face_landmarker.task") in caught.value.remedy
    assert weights.find_optional("face_landmarker") is None


def test_damaged_copy_is_an_error_not_an_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    (tmp_path / "face_landmarker.task").write_bytes(b"something else")
    with pytest.raises(CorruptFileError, match="sha256"):
        weights.find_optional("face_landmarker")


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(PrivFedTalkError, match="face_landmarker"):
        weights.find("face_landmraker")


def test_a_named_folder_wins_over_the_one_beside_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    monkeypatch.setattr(weights, "BESIDE_THE_PROJECT", beside)
    monkeypatch.delenv(weights.ENVIRONMENT_VARIABLE, raising=False)
    assert beside not in weights.folders()
    beside.mkdir()
    assert weights.folders()[0] == beside
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "named"))
    assert weights.folders()[0] == tmp_path / "named"
    assert beside not in weights.folders()


def test_a_user_without_a_home_has_a_cache_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert weights.folders()[-1].is_relative_to(tmp_path)
