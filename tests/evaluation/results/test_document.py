"""results.json from made-up metric rows whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from common.errors import PrivFedTalkError
from evaluation.catalogue import of_clips
from evaluation.measuring.significance import compare
from evaluation.results.acceptance import CRITERIA, judge_criteria
from evaluation.results.document import assemble, read_results, write_results
from tests.evaluation.made_up_run import LEVELS, make_facts, make_table


def test_every_method_has_every_metric() -> None:
    results = assemble(make_table(), make_facts())
    assert set(results["methods"]) == set(LEVELS)
    for row in results["methods"].values():
        assert set(of_clips()) <= set(row) and {f"{metric}_se" for metric in of_clips()} <= set(row)
        assert (row["n"], row["clients"]) == (16, 8)
    fedavg = results["methods"]["fedavg"]
    assert fedavg["mouth_psnr"] == pytest.approx(24.7 + 0.1 * 3.5 + 0.005)
    assert fedavg["mouth_psnr_se"] == pytest.approx(0.1 * 6**0.5 / 8**0.5)
    assert fedavg["mouth_psnr_ci"][0] < fedavg["mouth_psnr"] < fedavg["mouth_psnr_ci"][1]
    assert fedavg["validation_loss"] == pytest.approx(0.15)
    assert fedavg["clients_better_than_backbone"] == 8
    assert results["methods"]["noise"]["validation_loss"] is None
    assert results["methods"]["copy_reference"]["flicker_ratio"] is None
    assert results["methods_unseen"] == {}
    assert results["seconds"]["corpus"] == 88.2


def test_pairs_are_compared_client_by_client() -> None:
    comparisons = assemble(make_table(), make_facts())["comparisons"]
    found = {(one["method"], one["baseline"], one["metric"]): one for one in comparisons}
    mouth = found["privfedtalk", "backbone", "mouth_psnr"]
    # The clients differ by far more than the methods: only pairing shows it.
    assert mouth["difference"] == pytest.approx(0.6) and mouth["standard_error"] == pytest.approx(0, abs=1e-9)
    assert (mouth["clients_higher"], mouth["clients"]) == (8, 8)
    assert mouth["p"] == pytest.approx(2 / 256) and mouth["p_holm"] == pytest.approx(3 * 2 / 256)
    assert found["privfedtalk", "fedavg", "identity"]["p"] == 1
    assert found["privfedtalk", "backbone", "validation_loss"]["clients_higher"] == 0


def test_clients_own_adapters_are_a_row_that_no_criterion_judges() -> None:
    table, facts = make_table(), make_facts()
    own = table[table["method"] == "fedavg"].assign(method="fedavg_personal")
    own.loc[own["metric"] == "mouth_psnr", "value"] += 0.4
    own.loc[own["metric"] == "lip_correlation", "value"] = 0.2  # below every bound
    results = assemble(pd.concat([table, own]), facts)
    assert results["methods"]["fedavg_personal"]["mouth_psnr"] == pytest.approx(
        results["methods"]["fedavg"]["mouth_psnr"] + 0.4
    )
    assert results["bars"] == assemble(table, facts)["bars"]
    found = {(one["method"], one["baseline"]): one for one in results["comparisons"] if one["metric"] == "mouth_psnr"}
    assert found["fedavg_personal", "fedavg"]["difference"] == pytest.approx(0.4)
    assert found["fedavg_personal", "backbone"]["difference"] == pytest.approx(1.1)
    assert not any(method == "privfedtalk_personal" for method, _ in found)


def test_only_clips_that_both_methods_have_count() -> None:
    table = make_table()
    table = table[~((table["method"] == "fedavg") & (table["client"] == "c0007"))]
    one = compare(table, [("fedavg", "backbone")], ["mouth_psnr", "absent"])
    assert [comparison.clients for comparison in one] == [7]


def test_criteria_are_judged_on_the_worst_method() -> None:
    results = assemble(make_table(), make_facts())
    criteria = {one["name"]: one for one in results["bars"]}
    assert criteria["mouth_over_still"]["value"] == pytest.approx(1.1)
    assert criteria["mouth_over_backbone"]["value"] == pytest.approx(0.6)
    assert criteria["lips_lost"]["value"] == pytest.approx(0.01)
    assert criteria["clients_better"]["value"] == 1
    assert all(one["pass"] for one in criteria.values())
    results["methods"]["fedavg"]["lip_correlation"] = 0.5
    results["corpus"]["face_rate"] = None
    again = {one["name"]: one for one in judge_criteria(results)}
    assert again["lip_correlation"]["pass"] is False and again["lip_correlation"]["value"] == 0.5
    assert again["face_rate"]["pass"] is None  # not measured is neither met nor missed


def test_a_criterion_that_noise_reaches_is_missed() -> None:
    table = make_table()
    table.loc[(table["method"] == "noise") & (table["metric"] == "identity"), "value"] = 0.97
    criteria = {one["name"]: one for one in assemble(table, make_facts())["bars"]}
    assert criteria["lost_to_noise"]["value"] == 1 and criteria["lost_to_noise"]["pass"] is False


def test_criteria_without_methods_are_not_measured() -> None:
    judged = judge_criteria({"methods": {}, "corpus": {}})
    assert len(judged) == len(CRITERIA) and all(one["pass"] is None for one in judged)


def test_strangers_are_kept_apart() -> None:
    unseen = make_table(["u0000", "u0001"], role="unseen")
    results = assemble(pd.concat([make_table(), unseen], ignore_index=True), make_facts())
    assert results["methods"]["fedavg"]["n"] == 16
    assert results["methods_unseen"]["fedavg"]["n"] == 4


def test_the_file_is_json_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_results(assemble(make_table(), make_facts()), tmp_path / f"{name}.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert read_results(tmp_path / "one.json") == json.loads((tmp_path / "two.json").read_text())
    with pytest.raises(PrivFedTalkError, match="no results"):
        read_results(tmp_path / "absent.json")


def test_infinity_is_named() -> None:
    table = make_table()
    table.loc[(table["method"] == "fedavg") & (table["metric"] == "psnr"), "value"] = float("inf")
    with pytest.raises(PrivFedTalkError, match="psnr of fedavg is infinite on c0000/00000"):
        assemble(table, make_facts())
