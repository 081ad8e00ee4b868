from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from common.errors import CorruptFileError, PrivFedTalkError
from common.folders import RunFolder
from preparation.clients.features import ClipFeatures
from preparation.clients.report import compare_clients, gini, load_client_report, report_clients, save_client_report
from preparation.clients.roles import Client
from preparation.pipeline import prepare_clients, register_corpus
from preparation.settings import FaceSettings, PreparationSettings, QualitySettings

SETTINGS = PreparationSettings(
    faces=FaceSettings(tracker="truth"), quality=QualitySettings(minimum_face_pixels=10, minimum_sharpness=0)
)


def made_up(alike: bool, clients: int = 4, clips: int = 40) -> tuple[dict[str, Client], dict[str, ClipFeatures]]:
    """Clients whose looks and pose come from one distribution, or from one each, far apart."""
    rng = np.random.default_rng(0)
    table, features = {}, {}
    for number in range(clients):
        names = [f"c{number}/{clip}" for clip in range(clips)]
        table[f"c{number}"] = Client("client", f"c{number}", {"train": names, "validation": [], "test": []})
        for name in names:
            kind = rng.integers(clients) if alike else number
            looks = np.full(4, kind / clients) + rng.normal(0, 0.01, 4)
            features[name] = ClipFeatures(looks, kind + rng.normal(0, 0.1, (20, 2)))
    return table, features


def test_clients_of_their_own_kind_stand_as_far_apart_as_can_be() -> None:
    report = compare_clients(*_arguments(alike=False))
    # A client of one of four equal kinds: 1 - 1/4 from all together.
    assert report.cluster_tv == pytest.approx(0.75) and report.pose_tv == pytest.approx(0.75, abs=0.01)
    assert report.cluster_tv_if_alike < 0.25 and report.appearance_distance > 0.8
    assert report.gini == 0 and report.largest_to_median == 1


def test_alike_clients_stand_where_chance_puts_them() -> None:
    report = compare_clients(*_arguments(alike=True))
    assert report.cluster_tv == pytest.approx(report.cluster_tv_if_alike, abs=0.06)
    assert report.pose_tv == pytest.approx(report.pose_tv_if_alike, abs=0.05)
    assert report.appearance_distance < 0.3
    assert report == compare_clients(*_arguments(alike=True))


def test_gini_of_known_sizes() -> None:
    assert gini(np.array([3, 3, 3])) == 0
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.array([1, 2, 3, 4])) == pytest.approx(0.25)


def test_a_run_is_reported_without_a_feature_leaving_it(studio_corpus: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    register_corpus("studio", studio_corpus, run, SETTINGS)
    with pytest.raises(PrivFedTalkError, match="no client has a crop"):
        report_clients(run)
    (studio_corpus / "trainval/c0002/00001.truth.safetensors").write_bytes(b"rotten")
    prepare_clients(run, studio_corpus, SETTINGS)
    report = report_clients(run)
    assert [(row.client, row.clips, row.with_crops) for row in report.clients] == [
        ("c0000", 4, 4), ("c0001", 4, 4), ("c0002", 4, 3),
    ]  # fmt: skip
    assert all((row.train, row.validation, row.test, row.people) == (2, 1, 1, 1) for row in report.clients)
    assert all(0 <= (row.cluster_tv or 0) <= 1 and row.seconds == pytest.approx(4.8, abs=0.3) for row in report.clients)
    path = tmp_path / "clients_report.json"
    save_client_report(report, path)
    assert load_client_report(path) == report
    # Counts and distances only: every value is a plain number, a flag or the client's name.
    for row in json.loads(path.read_text())["clients"]:
        assert all(isinstance(value, int | float | str) for value in row.values())
    assert set(asdict(report)) - {"clients"} == {key for key, value in asdict(report).items() if np.isscalar(value)}
    path.write_text('{"clients": [{}]}')
    with pytest.raises(CorruptFileError, match="not a client report"):
        load_client_report(path)


def _arguments(alike: bool) -> tuple[dict[str, Client], list, dict[str, ClipFeatures]]:
    table, features = made_up(alike)
    return table, [], features
