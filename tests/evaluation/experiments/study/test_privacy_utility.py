"""The privacy-utility sweep: what its cells are, both ε of each row, and the files that DVC keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.experiments.study import privacy_utility as sweep
from evaluation.experiments.study.running import results_path
from evaluation.experiments.study.settings import PrivacyUtilitySettings
from evaluation.experiments.study.worlds import public_folder
from pipelines.configuration.reader import read_yaml
from pipelines.configuration.tree import PROJECT
from pipelines.resources import default_sweep
from tests.training.small_models import small_backbone
from training.privacy.accounting.epsilon import Schedule
from training.privacy.accounting.guarantee import epsilons

SETTINGS = PrivacyUtilitySettings(noise_multipliers=(0.0, 0.5, 2.0), clip_norms=(0.5, 2.0))
PEOPLE = [f"c{number}" for number in range(4)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Cells as a sweep leaves them, of people whose loss falls by 20 % less 5 % for each unit of z; one was not run."""
    small_backbone().save(public_folder(tmp_path, 0).model("backbone"))
    base = np.array([1.0, 2.0, 3.0, 4.0])
    asked = sweep.experiment(SETTINGS)
    for cell in asked.cells():
        z, C = cell.arm.noise_multiplier, cell.arm.clip_norm
        if (z, C) == (2.0, 2.0):
            continue
        losses = base if z is None else base * (0.8 + 0.05 * z)
        values = {"loss": losses, "identity": losses / 10, "mouth_psnr": 20 + losses}
        rows = [
            {"role": "client", "stage": "final", "person": person, "metric": metric, "value": value}
            for metric, some in values.items()
            for person, value in zip(PEOPLE, some, strict=True)
        ]
        path = results_path(tmp_path, cell, sweep.study_settings())
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_a_row_for_each_setting_that_was_run_with_both_epsilon(home: Path) -> None:
    found = sweep.rows(home, SETTINGS)
    assert list(zip(found["noise_multiplier"], found["clip_norm"], strict=True)) == [
        (0.0, 0.5), (0.0, 2.0), (0.5, 0.5), (0.5, 2.0), (2.0, 0.5),
    ]  # fmt: skip
    np.testing.assert_allclose(found["loss"], [-20, -20, -17.5, -17.5, -10])
    assert (found["people"] == 4).all()
    assert found["epsilon_release"].isna().tolist() == [True, True, False, False, False]
    study = sweep.study_settings()
    privacy = sweep.experiment(SETTINGS).conditions[1].curves["C = 2"].arm.training(study).privacy
    assert (privacy.noise_multiplier, privacy.clip_norm) == (0.5, 2.0)
    clients, rounds = study.studio.clients, study.training.federation.rounds
    schedule = Schedule(clients, clients, rounds, "full")
    release, server = epsilons(privacy, schedule, sweep.dimension_of(home, 0, study), privacy.target_delta(clients))
    row = found.iloc[3]
    assert (row["epsilon_release"], row["epsilon_server"]) == pytest.approx((release.value, server.value))
    assert found["epsilon_release"].iloc[4] < found["epsilon_release"].iloc[3]


def test_the_table_and_the_plot(home: Path, tmp_path: Path) -> None:
    found = sweep.rows(home, SETTINGS)
    paths = sweep.write(tmp_path / "out", found)
    assert [path.name for path in paths] == ["table.csv", "table.md", "plot.png", "plot.svg"]
    assert all(path.stat().st_size for path in paths)
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), found, check_dtype=False, rtol=1e-4)
    lines = paths[1].read_text().splitlines()
    assert len(lines) == 2 + len(found)
    assert "| none | none | 1e-05 | none |" in lines[2] and "-20" in lines[2]
    assert "–" in lines[2], "no lips were measured here"
    assert "clients for ε ≤ 8" in lines[0]
    before = paths[3].read_bytes()
    sweep.write(tmp_path / "out", found)
    assert paths[3].read_bytes() == before  # so that a second `dvc repro` finds nothing changed


def test_the_parameters_are_those_of_params_yaml_and_dvc_knows_them() -> None:
    asked = read_yaml(PROJECT / "params.yaml")["privacy_utility"]
    assert default_sweep().model_dump(mode="json", include=set(asked)) == asked
    stage = read_yaml(PROJECT / "benchmarks" / "dvc.yaml")["stages"]["privacy_utility"]
    assert stage["params"] == ["privacy_utility"]
    outputs = [*stage["outs"], *(next(iter(plot)) for plot in stage["plots"])]
    assert sorted(Path(path).name for path in outputs) == ["plot.png", "plot.svg", "table.csv", "table.md"]
    assert all((PROJECT / path).exists() for path in stage["deps"])
