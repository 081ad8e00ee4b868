"""Attacks look at a run and leave it as it was: every file outside its attacks and its report, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from common.folders import RunFolder
from tests import small_whole_run as small
from training.pipeline import federate

METHOD = "scaffold"
"""Its clients keep a state from round to round, without which they cannot go on."""


def content(run: RunFolder) -> dict[str, str]:
    """The SHA-256 of every file that is no attack's own; empty folders by their names."""
    found = {}
    for path in sorted(run.root.rglob("*")):
        place = path.relative_to(run.root)
        if place.parts[0] not in ("attacks", "report"):
            found[str(place)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = small.make_run(tmp_path / "mine")
    small.train(run, METHOD)
    return run


@pytest.mark.slow(minutes=0.2)
def test_every_attack_leaves_the_run_as_it_was_and_the_federation_goes_on(run: RunFolder) -> None:
    before = content(run)
    states = [name for name in before if "/state-" in name]
    assert len(states) == len(small.CLIENTS)
    for attack in (small.invert, small.infer_membership, small.audit):
        attack(run, METHOD)
        assert content(run) == before
    federation = small.TRAINING.federation.model_copy(update={"rounds": 2})
    longer = small.TRAINING.model_copy(update={"federation": federation})
    result = federate(run, METHOD, longer, seed=0, resume=True)
    assert [record.round for record in result.records] == [1, 2]
