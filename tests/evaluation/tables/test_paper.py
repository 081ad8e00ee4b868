"""The paper's tables from a made-up run whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from common.folders import RunFolder
from evaluation.catalogue import models_in
from evaluation.measuring.protocol import COLUMNS
from evaluation.report.files import write_tables
from evaluation.results.document import assemble, read_results, write_results
from evaluation.results.run_files import traffic
from evaluation.tables import paper as paper_tables
from tests.evaluation.made_up_run import make_facts, make_table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two methods of three rounds, 1,000 parameters of a backbone of 50,000; the metric rows of the test beside."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    table, facts = make_table(), make_facts()
    for name, rows in table.groupby("method"):
        home = folder.evaluation(str(name))
        home.mkdir(parents=True)
        rows.to_parquet(home / "metrics.parquet")
        (home / "validation_loss.json").write_text(json.dumps(dict(facts.validation_losses.get(str(name), {}))))
    for method, losses in {"privfedtalk": (0.5, 0.4, 0.45), "fedavg": (0.5, 0.45, 0.44)}.items():
        folder.federation(method).mkdir(parents=True)
        lines = [
            {"round": n, "clients": ["a", "b"], "bytes_up": 100, "bytes_down": 60, "public_validation_loss": loss}
            for n, loss in enumerate(losses)
        ]
        folder.rounds(method).write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder.model("backbone").mkdir(parents=True)
    save_file({"w": np.zeros((50, 1000), np.float32)}, folder.model("backbone") / "model.safetensors")
    results = assemble(table, facts)
    traffic = {"trainable_parameters": 1000, "bytes_up": 300, "bytes_down": 180,
               "bytes_up_of_one_client_in_one_round": 50}  # fmt: skip
    results["communication"]["methods"] = {"privfedtalk": traffic, "fedavg": traffic}
    write_results(results, folder.results)
    return folder


def test_the_comparison_has_gates_last_and_marks_what_differs(run: RunFolder) -> None:
    table = paper_tables.comparison(read_results(run.results), models_in("main"))
    assert table["Method"].tolist() == [
        "PrivFedTalk", "FedAvg", "Frozen backbone", "Still picture", "Real video, coded", "Noise",
    ]  # fmt: skip
    mouth = table.set_index("Method")["Mouth PSNR ↑"]
    assert "*" in mouth["PrivFedTalk"] and "*" not in mouth["Frozen backbone"]
    assert "FID ↓" not in table  # nobody was measured: no column of dashes, and no other number
    assert "Frame delta, real" in table
    ablations = paper_tables.comparison(read_results(run.results), models_in("ablations"))
    assert "FedAvg" not in set(ablations["Method"]) and len(ablations) == 5


def test_communication_is_set_against_the_whole_backbone(run: RunFolder) -> None:
    row = paper_tables.communication(run, read_results(run.results)).set_index("Method").loc["PrivFedTalk"]
    assert (row["Up, plain (bytes)"], row["Up, as sent (bytes)"], row["Down (bytes)"]) == (4000, 50, 30)
    assert row["Whole backbone (bytes)"] == 200_000 and row["Plain adapter / backbone"] == "0.0200"
    assert (row["Best round"], row["Total to best (bytes)"]) == (1, 2 * 160)


def test_what_is_sent_is_read_from_the_rounds(run: RunFolder, tmp_path: Path) -> None:
    """SCAFFOLD sends two vectors, pooled clips and clients alone none, though all train the same 1,000 parameters."""
    copy = RunFolder(tmp_path)
    copy.model("backbone").parent.mkdir()
    copy.model("backbone").symlink_to(run.model("backbone"))
    sent = {"privfedtalk": (4000, 4500), "scaffold": (8000, 8012), "centralized": (0, 0), "local": (0, 0)}
    for method, (plain, up) in sent.items():
        copy.federation(method).mkdir(parents=True)
        line = {"round": 1, "clients": ["a", "b"], "bytes_up": 2 * up, "bytes_down": 2 * plain}
        silent = {"round": 2, "clients": ["a", "b"], "bytes_up": 0, "bytes_down": 0, "vector_bytes": 0}
        lines = [line | {"vector_bytes": plain}, silent]
        copy.rounds(method).write_text(
            "".join(json.dumps(one | {"public_validation_loss": 0.5}) + "\n" for one in lines)
        )
        copy.adapter(method).mkdir()
        (copy.adapter(method) / "privfedtalk.json").write_text(json.dumps({"parameters": 1000}))
    results = {"communication": {"methods": {method: traffic(copy, method) for method in sent}}}
    table = paper_tables.communication(copy, results)
    assert table["Up, plain (bytes)"].tolist() == [4000, 8000, 0, 0]
    assert table["Plain adapter / backbone"].tolist() == ["0.0200", "0.0400", "0.0000", "0.0000"]
    assert set(table["Trainable parameters"]) == {1000}


def test_every_clients_gain_is_there(run: RunFolder) -> None:
    table = paper_tables.per_client(run, ["fedavg", "noise"])
    assert len(table) == 8 and set(table["Method"]) == {"FedAvg"}
    first = table.iloc[0]
    assert float(first["Gain (%)"]) == pytest.approx(100 * (1 - 0.115 / 0.12), abs=0.01)


def test_published_rows_stand_apart(run: RunFolder) -> None:
    table = paper_tables.beside_published(read_results(run.results))
    ours = table[table["Source"] == "this run"]
    assert len(table) - len(ours) == 8 and ours["Data"].str.contains("not comparable").all()
    assert set(ours["SyncProxy"]) == {"–"}  # the paper's own, which its text does not define


def test_files_are_the_same_twice_and_nothing_is_typed(run: RunFolder, tmp_path: Path) -> None:
    for name in ("one", "two"):
        files = write_tables(run, tmp_path / name)
    assert {path.name for path in files} >= {"table1.csv", "table1.md", "table1.tex", "table2.csv", "findings.md"}
    for path in files:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    assert "Not comparable" in (tmp_path / "one" / "published.md").read_text()
    assert "no significant difference" in (tmp_path / "one" / "findings.md").read_text().lower()
    clips = pd.read_parquet(tmp_path / "one" / "per_clip.parquet")
    assert len(clips) == len(pd.concat(pd.read_parquet(p) for p in run.root.rglob("metrics.parquet")))
    figures = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert figures["fedavg"]["lip_correlation"] == pytest.approx(0.94)


def test_a_run_without_rows_has_an_empty_table(tmp_path: Path) -> None:
    empty = paper_tables.per_clip(RunFolder(tmp_path), [])
    assert list(empty.columns) == COLUMNS and empty.empty
