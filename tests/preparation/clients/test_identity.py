"""On real clips: who is one person, who is not, and which clip is in the wrong folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.folders import RunFolder
from common.weights import registry as weights
from preparation.clients.identity import BLOCK, SamePerson, check_identities, compare, embed_crop, load_report, own_face
from preparation.crops.crop import load_crop
from preparation.faces.embedder import ARCFACE_TEMPLATE, FaceEmbedder, five_points, frontal_frames, unit
from preparation.pipeline import prepare_clients, register_corpus
from preparation.settings import CorpusSettings, PreparationSettings, QualitySettings, SpeakerRule
from preparation.settings.checks import IdentitySettings
from preparation.settings.samples import SampleSettings
from tests.preparation.conftest import MakeFace

SETTINGS = PreparationSettings(
    corpus=CorpusSettings(speaker_rule=SpeakerRule.STEM),
    quality=QualitySettings(require_audio=False),
    samples=SampleSettings(cut="never"),
)
POLITICIAN = ("hdtf_WDA_AlexandriaOcasioCortez_000", "retalking_face_3")
GRID_SPEAKER = ("id2_vcd_swwp2s", "pwij3p")
OTHERS = ("brbk7n", "lrwp9a")
"""Two people, more alike (0.31) than any other two of the clips."""


def prepare(corpus: Path, run: RunFolder) -> None:
    register_corpus("folder", corpus, run, SETTINGS)
    prepare_clients(run, corpus, SETTINGS)


@pytest.fixture(scope="module")
def prepared(clips_dir: Path, weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    root = tmp_path_factory.mktemp("identity")
    (root / "corpus").mkdir()
    for path in clips_dir.rglob("*.mp*g*"):
        if path.stem in {*GRID_SPEAKER, *OTHERS}:
            (root / "corpus" / path.name).symlink_to(path)
    for stem in POLITICIAN:
        (root / "corpus" / f"{stem}.mp4").symlink_to(clips_dir / f"{stem}.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
        run = RunFolder(root / "run")
        prepare(root / "corpus", run)
        yield run


def found(pairs: tuple[SamePerson, ...]) -> list[tuple[str, str]]:
    return [(pair.first, pair.second) for pair in pairs]


@pytest.mark.slow(minutes=0.2)
def test_both_pairs_of_one_person_are_found_and_no_other(prepared: RunFolder) -> None:
    report = check_identities(prepared)
    assert found(report.same_person) == [POLITICIAN, GRID_SPEAKER]
    assert [pair.cosine for pair in report.same_person] == pytest.approx([0.975, 0.956], abs=0.01)
    assert report.nearest_others is not None and report.nearest_others < 0.35
    assert (report.clients, report.clips, report.mismatches) == (6, 6, ())
    assert "2 pairs" in report.summary()


@pytest.mark.slow(minutes=0.1)
def test_the_report_holds_names_and_cosines_and_no_embedding(prepared: RunFolder) -> None:
    report = check_identities(prepared)
    assert load_report(prepared.identities) == report
    stored = json.loads(prepared.identities.read_text(encoding="utf-8"))
    assert set(stored["same_person"][0]) == {"first", "second", "roles", "cosine"}
    assert prepared.identities.stat().st_size < 2000
    assert not list(prepared.root.glob("**/*embed*"))


def test_a_clip_in_the_wrong_folder_is_flagged_with_whom_it_shows(prepared: RunFolder) -> None:
    """The same faces under other claims: an intruder among two clips of one speaker, and his own client."""
    embedder = FaceEmbedder()
    faces = {name: embed_crop(embedder, load_crop(prepared.crops(name), name), 6) for name in (*GRID_SPEAKER, *OTHERS)}
    again = unit(faces[OTHERS[0]] + 0.02)
    claims = {
        "one": {"a": faces[GRID_SPEAKER[0]], "b": faces[GRID_SPEAKER[1]], "c": again},
        "two": {"a": faces[OTHERS[0]]},
        "three": {"a": faces[OTHERS[1]]},
    }
    report = compare(claims, dict.fromkeys(claims, "client"), IdentitySettings())
    (mismatch,) = report.mismatches
    assert (mismatch.client, mismatch.clip, mismatch.resembles) == ("one", "c", "two")
    assert mismatch.cosine < 0.35
    assert report.same_person == ()


def test_without_the_embedder_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    report = check_identities(RunFolder(tmp_path / "run"))
    assert report.embedder is None and "MobileFaceNet.onnx" in report.summary()
    assert "not checked" in report.summary()
    assert json.loads((tmp_path / "run" / "identities.json").read_text())["skipped"] == report.skipped


def test_half_a_folder_of_someone_else_does_not_blur_the_clients_face() -> None:
    basis = np.eye(128, dtype=np.float32)
    face, members = own_face([basis[0], basis[0], basis[1], basis[1]], 0.35)
    assert members == [0, 1]
    np.testing.assert_allclose(face, basis[0])


def test_pairs_are_found_across_the_blocks_of_a_large_corpus() -> None:
    """More clients than one block holds, of random faces: the planted pair and nothing else."""
    rng = np.random.default_rng(0)
    count = BLOCK + 300
    faces = unit(rng.normal(size=(count, 128)))
    faces[BLOCK + 7] = unit(faces[3] + 0.02 * rng.normal(size=128))
    claims = {f"c{index:05d}": {"a": faces[index]} for index in range(count)}
    report = compare(claims, dict.fromkeys(claims, "client"), IdentitySettings())
    assert found(report.same_person) == [("c00003", f"c{BLOCK + 7:05d}")]
    expected = np.sort((faces @ faces.T)[np.triu_indices(count, 1)])[-2]
    assert report.nearest_others == pytest.approx(float(expected), abs=1e-4)


def test_five_points_lie_in_the_template_order(make_face: MakeFace) -> None:
    """Eyes above nose above mouth, the left of the picture first, as in the template."""
    points = five_points(make_face(2))
    assert points.shape == (2, 5, 2)
    for order in (points[0], ARCFACE_TEMPLATE):
        assert order[0, 0] < order[2, 0] < order[1, 0] and order[3, 0] < order[4, 0]
        assert order[:2, 1].max() < order[2, 1] < order[3:, 1].min()


def test_frontal_frames_avoid_the_turned_head(make_face: MakeFace) -> None:
    landmarks = make_face(60)
    landmarks[:25, 30, 0] += 15
    chosen = frontal_frames(landmarks, 2)
    assert len(chosen) == 2 and 25 <= chosen[0] < 30 <= chosen[1]
    assert frontal_frames(landmarks[:3], 6) == [0, 1, 2]


@pytest.mark.slow
def test_among_all_real_clips_exactly_the_two_pairs(
    clips_dir: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    run = RunFolder(tmp_path)
    prepare(clips_dir, run)
    report = check_identities(run)
    assert report.clips >= 19
    assert found(report.same_person) == [POLITICIAN, GRID_SPEAKER]
    assert report.mismatches == () and report.nearest_others is not None and report.nearest_others < 0.35
