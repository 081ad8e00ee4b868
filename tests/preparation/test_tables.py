"""The quarantine table, the seeds and the code version: small, and everything leans on them."""

from __future__ import annotations

from pathlib import Path

from common.provenance import code_version
from common.seeding import generator
from preparation.quarantine import QuarantineRow, load_quarantine, replace_rows, save_quarantine

ROWS = [QuarantineRow(f"{name}.mp4", step, "reason", "remedy") for name in "ba" for step in ("crops", "manifest")]


def test_quarantine_round_trip_is_sorted_and_unique(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.parquet"
    assert load_quarantine(path) == []
    save_quarantine([*ROWS, *ROWS], path)
    assert load_quarantine(path) == sorted(ROWS, key=lambda row: (row.file, row.step))
    save_quarantine([], path)
    assert load_quarantine(path) == []


def test_a_step_replaces_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.parquet"
    save_quarantine(ROWS, path)
    fresh = QuarantineRow("c.mp4", "crops", "new", "remedy")
    replace_rows(path, ["crops"], [fresh])
    assert set(load_quarantine(path)) == {fresh, *(row for row in ROWS if row.step == "manifest")}


def test_generators_depend_on_seed_and_labels_only() -> None:
    draw = generator(3, "split", "anna").random(4).tolist()
    assert draw == generator(3, "split", "anna").random(4).tolist()
    others = [generator(4, "split", "anna"), generator(3, "split", "bob"), generator(3, "splita", "nna")]
    assert all(draw != other.random(4).tolist() for other in others)


def test_code_version_follows_the_named_sources() -> None:
    versions = {
        code_version("preparation.media.video"),
        code_version("preparation.media.video", "preparation.speech.features"),
        code_version("preparation.media.video", without=("preparation.media.container",)),
    }
    assert len(versions) == 3 and code_version("preparation.media.video") in versions
    assert code_version("preparation.media") not in versions
    assert all(version.split("+")[0] and len(version.split("+")[1]) == 8 for version in versions)
