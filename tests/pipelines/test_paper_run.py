"""Stages side by side: each after those that it needs, each once, and a failure is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.paper_run import DVC, generations, main

ROOT = Path(__file__).parents[2]


def test_all_stages_come_once_after_those_they_need() -> None:
    found = generations(ROOT)
    names = [name for names in found for name in names]
    assert len(names) == len(set(names))
    assert {name.split("@")[0] for name in names} == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    place = {name: number for number, names in enumerate(found) for name in names}
    order = ["corpus", "people", "backbone@0", "federation@0-fedavg", "evaluation@0-fedavg", "table1"]
    assert [place[name] for name in order] == sorted(place[name] for name in order)
    assert place["federation@0-fedavg"] == place["federation@2-scaffold"]


@pytest.mark.slow
def test_what_need_not_wait_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meet = "touch {0}.begun; for i in $(seq 200); do test -e {1}.begun && break; sleep 0.1; done; test -e {1}.begun"
    stages = {
        "left": {"cmd": f"{meet.format('left', 'right')} && echo 1 > left", "outs": ["left"]},
        "right": {"cmd": f"{meet.format('right', 'left')} && echo 2 > right", "outs": ["right"]},
        "both": {"cmd": "cat left right > both", "deps": ["left", "right"], "outs": ["both"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    subprocess.run([DVC, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    assert main(["--jobs", "2"]) == 0
    assert (tmp_path / "both").read_text() == "1\n2\n"
    stages["both"]["cmd"] = "false"
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert main(["--jobs", "2"]) == 1
