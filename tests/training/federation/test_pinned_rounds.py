"""Rounds of every mechanism, with and without masks, under every sampling: the same bits as were pinned.

Updates are made of small powers of two, so that their norms are exact on every machine; clients go missing, send no
numbers, train from old thetas and forget to clip, so that rounds of every outcome are among them. To pin anew after a
change that is meant to change results: `python tests/training/federation/test_pinned_rounds.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.files import write_text
from evaluation.attacks.canaries import AuditSettings, Claim, audit
from training.federation.algorithm import Start, run_federation
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods.base import Theta
from training.federation.server.checkpoint import RoundRecord
from training.privacy.accounting.schedule import Sampling
from training.settings import FederationSettings, TrainingSettings
from training.settings.privacy import NO_PROOF, PrivacySettings
from training.settings.rounds import AvailabilitySettings, CheckSettings, FaultSettings

PINNED = Path(__file__).with_name("pinned_rounds.json")
DIMENSION, ROUNDS = 40, 8
CLIENTS = [f"c{number}" for number in range(8)]
MECHANISMS: dict[str, dict[str, Any]] = {
    "distributed, masked": {"mode": "distributed"},
    "distributed, masked, a colluder": {"mode": "distributed", "tolerated_colluders": 1},
    "central, masked": {"mode": "central"},
    "central": {"mode": "central", "secure_aggregation": False},
    "none, masked": {"mode": "none"},
    "none": {"mode": "none", "secure_aggregation": False},
    "the paper's": {"mode": NO_PROOF, "secure_aggregation": False},
}
SAMPLINGS: dict[str, dict[str, Any]] = {
    "everybody": {"clients_per_round": None},
    "fixed": {"clients_per_round": 5, "sampling": "fixed"},
    "poisson": {"clients_per_round": 2, "sampling": "poisson"},
}
CASES = [f"{mechanism} / {sampling}" for mechanism in MECHANISMS for sampling in SAMPLINGS]
AUDITS: dict[str, tuple[dict[str, Any], float, Sampling]] = {
    "distributed, masked": ({"mode": "distributed"}, 0.3, "poisson"),
    "central": ({"mode": "central", "secure_aggregation": False}, 0.2, "fixed"),
    "central, capped": ({"mode": "central", "secure_aggregation": False, "max_participation": 3}, 0.4, "poisson"),
    "none": ({"mode": "none", "secure_aggregation": False}, 1.0, "full"),
}


class SmallPowers:
    """Trains nobody: an update of powers of two, by client, round and the theta that it begins from."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        return {client: self._update(client, announced) for client in clients}

    def _update(self, client: str, announced: Announcement) -> LocalUpdate:
        key = f"{client} {announced.round} {announced.counted.get(client, 0)} {int((announced.theta > 0).sum())}"
        drawn = np.frombuffer(hashlib.shake_256(key.encode()).digest(DIMENSION), np.uint8)
        delta = (2.0 ** (drawn % 3) * np.where(drawn & 64, 1, -1) / 2**6).astype(np.float32)
        delta[0] = 2.0**-4  # the largest is a power of two
        parts = {"identity": drawn[1] / 256, "stability": drawn[2] / 256}
        return LocalUpdate(delta, 1 + drawn[3] % 20, drawn[4] / 256, {"total": drawn[5] / 16}, 0.0, **parts)


def settings_of(case: str) -> tuple[str, TrainingSettings]:
    """The method, and the settings of one of `CASES`."""
    mechanism, sampling = case.split(" / ")
    small = {"clip_norm": 0.25, "noise_multiplier": 0.7, "n_max": 8, "tolerated_colluders": 0, "survivor_floor": 0.6}
    moving = {"adaptive_clipping": True, "denominator": "lagged", "metrics": ("score", "identity"), "seeded_noise": 3}
    privacy = PrivacySettings.model_validate({**small, **moving, **MECHANISMS[mechanism]})
    faults = (
        FaultSettings(kind="nan", probability=0.1),
        FaultSettings(kind="stale", probability=0.2, rounds_late=2),
        FaultSettings(kind="unclipped", clients=("c3",), probability=0.4),
    )
    federation = FederationSettings.model_validate(
        {
            "rounds": ROUNDS,
            "availability": AvailabilitySettings(before_training=0.05, after_training=0.05, during_upload=0.1),
            "faults": faults,
            "checks": CheckSettings(worsening=0.5),
            **SAMPLINGS[sampling],
        }
    )
    method = "paper_literal" if privacy.mode == NO_PROOF else "privfedtalk"
    return method, TrainingSettings(federation=federation, privacy=privacy)


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def exact(record: RoundRecord) -> bytes:
    """All of a record but times, signatures, and what libraries of linear algebra and accounting round."""
    kept = asdict(record)
    for name in ("seconds", "signature", "update_norm", "epsilon_release", "epsilon_server"):
        del kept[name]
    return json.dumps(kept, sort_keys=True).encode()


def rounds_of(case: str, folder: Path) -> dict[str, Any]:
    """What is pinned of a federation: digests of theta after each round and of the records; ε after the last round."""
    thetas: list[Theta] = []

    def after_round(record: RoundRecord) -> None:
        thetas.append(load_file(folder / "checkpoint" / f"round-{record.round:05d}.safetensors")["theta"])

    def loss(theta: Theta) -> float:
        return 1.0 + math.fsum(abs(theta.astype(np.float64))) / len(theta)

    method, settings = settings_of(case)
    start = Start(np.zeros(DIMENSION, np.float32), "base")
    result = run_federation(
        SmallPowers(), method, start, CLIENTS, loss, settings, folder, seed=14, on_round=after_round
    )
    last = result.records[-1]
    before = [np.zeros(DIMENSION, np.float32), *thetas]
    for record, old, new in zip(result.records, before, thetas, strict=False):
        assert record.update_norm == pytest.approx(float(np.linalg.norm(new - old)), rel=1e-5)
    return {
        "thetas": digest(*(theta.tobytes() for theta in thetas)),
        "kept": digest(result.theta.tobytes()),
        "records": digest(*map(exact, result.records)),
        "outcomes": ", ".join(record.outcome for record in result.records),
        "epsilons": {"release": last.epsilon_release, "server": last.epsilon_server},
    }


def audit_of(name: str) -> dict[str, Any]:
    """What is pinned of a canary audit."""
    privacy, rate, sampling = AUDITS[name]
    settings = PrivacySettings.model_validate({"noise_multiplier": 0.8, "seeded_noise": 4, **privacy})
    found = audit(Claim(settings, rate, sampling, 5, 1e-3), AuditSettings(canaries=20, dimension=200))
    bounds = (found.final, found.all_iterates, found.recomputed)
    return {
        "opened": found.opened,
        "right": ", ".join(f"{bound.right} of {bound.guesses}" for bound in bounds),
        "estimate": {"value": found.one_shot.value},
        "epsilons": {"claimed": found.claimed_epsilon},
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerances: dict[str, float]) -> None:
    """Everything is equal, but for the named groups of numbers, which may differ by so much."""
    for name, value in expected.items():
        for key, number in value.items() if name in tolerances else ():
            within = number if number is None else pytest.approx(number, rel=tolerances[name])
            assert found[name][key] == within
        assert name in tolerances or found[name] == value, name


@pytest.fixture(scope="module")
def pinned() -> dict[str, Any]:
    return dict(json.loads(PINNED.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES)
def test_rounds_are_the_pinned_ones_bit_for_bit(case: str, tmp_path: Path, pinned: dict[str, Any]) -> None:
    assert_same(rounds_of(case, tmp_path), pinned["rounds"][case], {"epsilons": 1e-6})


def test_pinned_rounds_have_every_outcome(pinned: dict[str, Any]) -> None:
    outcomes = {outcome for case in pinned["rounds"].values() for outcome in case["outcomes"].split(", ")}
    assert outcomes == {"applied", "empty", "aborted", "rolled back"}


@pytest.mark.parametrize("name", AUDITS)
def test_audits_are_the_pinned_ones(name: str, pinned: dict[str, Any]) -> None:
    assert_same(audit_of(name), pinned["audits"][name], {"estimate": 1e-4, "epsilons": 1e-6})


def pin() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rounds = {case: rounds_of(case, Path(folder) / str(number)) for number, case in enumerate(CASES)}
    found = {"rounds": rounds, "audits": {name: audit_of(name) for name in AUDITS}}
    write_text(PINNED, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    pin()
