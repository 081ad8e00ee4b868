from __future__ import annotations

from pathlib import Path

import pytest

from preparation import weights
from preparation.errors import CorruptFileError, MissingWeightError, PrivFedTalkError


def test_registered_files_are_the_real_ones(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    for name, weight in weights.REGISTRY.items():
        if name == "2dfan4":  # not among the fixtures: nobody here ever had it
            assert len(weight.sha256) == 64 and weight.file.partition("-")[2].startswith(weight.sha256[:10])
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
