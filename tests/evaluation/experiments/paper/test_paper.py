"""The paper's tables over seeds, from made-up runs whose figures are known; the law that seeds add no clients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import PrivFedTalkError
from evaluation.catalogue import models_in
from evaluation.experiments.links import link
from evaluation.experiments.paper import figures, rows, tables
from evaluation.experiments.paper.folders import PaperFolder, open_seed
from evaluation.measuring.significance import client_means, paired_permutation
from tests.evaluation.experiments.paper import made_up


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> PaperFolder:
    folder = PaperFolder(tmp_path_factory.mktemp("data") / "rendered")
    made_up.make(folder)
    return folder


def test_a_seeds_run_reads_like_any_run_and_keeps_results_together(paper: PaperFolder) -> None:
    run = open_seed(paper, 0, made_up.METHODS, made_up.METHODS)  # a second time changes nothing
    assert run.clients_table.read_bytes() == paper.people.clients_table.read_bytes()
    run.client_method("a", "fedavg").joinpath("kept").write_text("own")
    assert (paper.federation("fedavg", 0) / "own" / "a" / "kept").read_text() == "own"
    assert (paper.evaluation("fedavg", 0) / "metrics.parquet").samefile(run.evaluation("fedavg") / "metrics.parquet")
    assert not run.clients_table.readlink().is_absolute()  # the folder may be moved


def test_a_link_never_replaces_what_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("precious")
    with pytest.raises(FileExistsError):
        link(tmp_path / "real", tmp_path / "elsewhere")
    assert (tmp_path / "real").read_text() == "precious"


def test_people_must_be_prepared_first(tmp_path: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="no prepared people"):
        open_seed(PaperFolder(tmp_path), 0)


def test_the_unit_is_the_client_so_a_repeated_seed_changes_no_p(paper: PaperFolder) -> None:
    pairs = [("privfedtalk", "backbone")]
    found = rows.read_rows(paper, ["privfedtalk", "backbone"], [0])
    repeated = pd.concat([found.assign(seed=seed) for seed in range(5)])
    once, often = (rows.compare_over_seeds(table, pairs) for table in (found, repeated))
    assert [one["p"] for one in once] == pytest.approx([one["p"] for one in often])
    assert all((one["clients"], one["seeds"], one["seeds_agreeing"]) == (8, 5, 5) for one in often)


def test_differences_and_their_p_are_those_of_client_means(paper: PaperFolder) -> None:
    names = ["privfedtalk", "backbone"]
    found = rows.read_rows(paper, names, made_up.SEEDS)
    one = next(
        one
        for one in rows.compare_over_seeds(found, [("privfedtalk", "backbone")])
        if one["metric"] == "validation_loss"
    )
    losses = found[found["metric"] == "validation_loss"]
    means = {name: client_means(part["value"], part["client"]) for name, part in losses.groupby("method")}
    difference = (means["privfedtalk"] - means["backbone"]).to_numpy(np.float64)
    assert one["difference"] == pytest.approx(difference.mean())
    assert one["p"] == pytest.approx(paired_permutation(difference, 0)) == pytest.approx(2 / 2**8)


def test_seeds_that_disagree_are_counted(paper: PaperFolder) -> None:
    found = rows.read_rows(paper, ["privfedtalk", "backbone"], made_up.SEEDS)
    turned = found["method"].eq("privfedtalk") & found["seed"].eq(1) & found["metric"].eq("validation_loss")
    found.loc[turned, "value"] *= 1.15  # now above the backbone's, by less than it is below under the other seed
    one = next(
        one
        for one in rows.compare_over_seeds(found, [("privfedtalk", "backbone")])
        if one["metric"] == "validation_loss"
    )
    assert (one["seeds"], one["seeds_agreeing"]) == (2, 1)


def test_an_interval_knows_that_seeds_are_few(paper: PaperFolder) -> None:
    """Where seeds differ and clients do not, resampling clients alone would find no doubt at all."""
    table = pd.DataFrame(
        [(client, seed, float(seed)) for client in "abcd" for seed in (0, 1) for _ in range(2)],
        columns=["client", "seed", "value"],
    )
    low, high = rows.interval(table["value"], table["client"], table["seed"], seed=0)
    assert (low, high) == (0.0, 1.0)
    same = table.assign(value=3.0)
    assert rows.interval(same["value"], same["client"], same["seed"], seed=0) == [3.0, 3.0]


def test_nobody_else_takes_part_in_the_clients_rows(paper: PaperFolder) -> None:
    assert set(rows.read_rows(paper, ["fedavg"], made_up.SEEDS)["client"]) == set(made_up.CLIENTS)
    with pytest.raises(PrivFedTalkError, match="seed 9"):
        rows.read_rows(paper, ["fedavg"], [9])


def test_table_1_has_sentences_from_its_tests_and_says_its_unit(paper: PaperFolder) -> None:
    files = tables.write_comparison(paper, "table1", made_up.METHODS, made_up.SEEDS, models_in("main"))
    assert {path.name for path in files} >= {"table1.csv", "table1.md", "table1.tex", "table1_tests.csv"}
    table = (paper.tables / "table1.md").read_text()
    assert "The unit is the client: 8 clients, each the mean over its clips and 2 seeds" in table
    shown = pd.read_csv(paper.tables / "table1.csv").set_index("Method")
    assert list(shown.index) == [
        "PrivFedTalk", "FedAvg", "Frozen backbone", "Still picture", "Real video, coded", "Noise",
    ]  # fmt: skip
    full = shown.to_dict("index")["PrivFedTalk"]
    assert "*" in full["Lip correlation ↑"] and "*" not in full["PSNR ↑"]
    said = (paper.tables / "table1_findings.md").read_text().splitlines()
    assert any("PrivFedTalk against the frozen backbone" in line and "in 2 of 2 seeds" in line for line in said)
    assert "- PrivFedTalk against FedAvg: no significant difference in any of 3 metrics." in said
    assert any(line.startswith("- Not measured: FVD") for line in said)
    assert "- PrivFedTalk does not beat noise on PSNR" in " ".join(said)  # all have the same, and that is said
    metrics = json.loads((paper.tables / "table1_metrics.json").read_text())
    assert metrics["fedavg"]["validation_loss"] == pytest.approx(0.9 * metrics["backbone"]["validation_loss"])


def test_tables_are_the_same_twice(paper: PaperFolder) -> None:
    def written() -> dict[Path, bytes]:
        files = [
            *tables.write_comparison(paper, "table1", made_up.METHODS, made_up.SEEDS, models_in("main")),
            *tables.write_communication(paper, made_up.METHODS, 0),
            *tables.write_privacy(paper, made_up.METHODS, 0),
            *tables.write_clients(paper, made_up.METHODS, made_up.SEEDS),
            *figures.write_validation_curves(paper, made_up.METHODS, made_up.SEEDS),
        ]
        return {path: path.read_bytes() for path in files}

    assert written() == written()


def test_clients_privacy_and_communication_say_what_the_files_hold(paper: PaperFolder) -> None:
    tables.write_clients(paper, made_up.METHODS, made_up.SEEDS)
    gains = pd.read_csv(paper.tables / "clients.csv")
    assert len(gains) == 16 and gains["Gain (%)"].tolist() == [10.0] * 16
    assert set(gains["Gains in"]) == {"2 of 2"}
    tables.write_privacy(paper, made_up.METHODS, 0)
    privacy = pd.read_csv(paper.tables / "privacy.csv").set_index("Method")
    assert privacy.loc["PrivFedTalk", "ε released"] == "12.5" and privacy.loc["FedAvg", "ε released"] == "–"
    assert privacy.loc["PrivFedTalk", "Clients for ε ≤ 8"] == "5,100"
    tables.write_communication(paper, made_up.METHODS, 0)
    sent = pd.read_csv(paper.tables / "communication.csv").set_index("Method")
    assert sent.loc["FedAvg", "Up, plain (bytes)"] == 4000 and sent.loc["FedAvg", "Best round"] == 1


def test_figure_3_is_the_mean_over_seeds(paper: PaperFolder) -> None:
    figures.write_validation_curves(paper, [*made_up.METHODS, "local"], made_up.SEEDS)
    wide = pd.read_csv(paper.figures / "figure3.csv")
    assert list(wide.columns) == ["round", "privfedtalk", "fedavg"]  # `local` has no shared adapter to follow
    assert wide["fedavg"].tolist() == pytest.approx([0.5, 0.45, 0.45])
