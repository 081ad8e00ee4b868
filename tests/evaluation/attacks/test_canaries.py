"""The audit on the release path itself: silent on a run that is right, loud where noise is missing."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from common.folders import RunFolder
from evaluation.attacks.canaries import (
    AuditReport,
    AuditSettings,
    Canaries,
    Claim,
    audit,
    audit_run,
    default_canaries,
    judge,
)
from evaluation.attacks.canary_bounds import Estimate
from evaluation.report.privacy_page import write_privacy_reports
from tests.training.privacy_records import round_record, settings_with, write_method
from training.federation.client.training import LocalUpdate
from training.federation.server.aggregation import Aggregator
from training.privacy.mechanisms import noise, release
from training.settings.privacy import PrivacySettings

CENTRAL = PrivacySettings(mode="central", secure_aggregation=False, noise_multiplier=1.5, seeded_noise=0)
ONCE = Claim(CENTRAL, 1.0, "full", 1, 2e-4)
"""One round of everybody with a small delta: here a lower bound can reach what the fault makes of epsilon."""
SAMPLED = Claim(CENTRAL.model_copy(update={"noise_multiplier": 1.0}), 0.1, "poisson", 20, 5e-4)
SIZE = {"canaries": 500, "dimension": 5000}
FEWER = {"canaries": 200, "dimension": 4000}


def test_canaries_fill_the_clipping_norm_or_send_the_zero_vector() -> None:
    canaries = Canaries.draw(40, 500, seed=1)
    settings = CENTRAL.model_copy(update={"noise_multiplier": 0.0, "gamma": 2.0, "n_max": 7})
    aggregator = Aggregator(settings, 40, 0, clip_norm=0.3, denominator=20.0)
    assert 10 < canaries.included.sum() < 30
    for number, was_in in enumerate(canaries.included):
        vector = aggregator.contribute(canaries.names[number], canaries.update(number, settings, 0.3), 1).vector
        if was_in:
            np.testing.assert_allclose(vector[:500], 0.3 * canaries.directions[number], atol=1e-6)
        else:
            assert not vector.any()


def test_the_whole_protocol_carries_them() -> None:
    """Skellam shares under masks, opened: without much noise those who were in stand out, and nobody else."""
    private = PrivacySettings(noise_multiplier=0.05, clip_norm=0.4, adaptive_clipping=True)
    # Cohorts are secret coins: that one of ten canaries is in no round at all has a chance of 1e-5.
    found = audit(Claim(private, 0.9, "poisson", 6, 1e-3), AuditSettings(canaries=20, dimension=2000))
    assert (found.mode, found.secure_aggregation, found.opened, found.per_round) == ("distributed", True, 6, 18)
    assert found.all_iterates.right == found.all_iterates.guesses == 6
    assert found.one_shot.value > 10


@pytest.mark.parametrize(("claim", "size"), [(ONCE, SIZE), (SAMPLED, FEWER)])
def test_a_correct_run_stays_under_its_claim(claim: Claim, size: dict) -> None:
    for seed in (0, 1):
        found = audit(claim, AuditSettings(**size, seed=seed))
        assert not found.flagged and "Not refuted" in found.verdict
        assert found.claimed_epsilon is not None
        assert max(found.final.value, found.all_iterates.value) < found.claimed_epsilon
        assert found.one_shot.low < found.claimed_epsilon


def test_noise_planted_too_small_is_flagged_by_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code adds a tenth of the variance that the settings, hence the accountant, say."""
    right = release.noise_deviation
    monkeypatch.setattr(release, "noise_deviation", lambda *given: right(*given) / math.sqrt(10))
    found = audit(ONCE, AuditSettings(**SIZE))
    assert found.flagged and found.verdict.startswith("Refuted: ε is at least")
    assert found.claimed_epsilon is not None and found.final.value > found.claimed_epsilon


def test_noise_planted_too_small_is_flagged_under_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    right = release.noise_deviation
    monkeypatch.setattr(release, "noise_deviation", lambda *given: right(*given) / math.sqrt(10))
    found = audit(SAMPLED, AuditSettings(**FEWER))
    assert found.claimed_epsilon is not None
    assert found.flagged and found.one_shot.low > found.claimed_epsilon


@pytest.mark.slow(minutes=0.2)
def test_shares_of_noise_planted_too_small_raise_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fault where clients add the noise: their shares, and what the server fills them up with, are a tenth.
    Forty parties under masks are what a test can pay for: the estimate shows the fault, its interval is too wide to
    call the claim refuted."""
    size = AuditSettings(canaries=40, dimension=1000, seed=1)

    def audits() -> list[AuditReport]:
        """Under two draws of the noise: one estimate of so few parties may be far off."""
        # A tolerated colluder would double the filling, and hide half of the fault.
        quiet = {"noise_multiplier": 1.0, "tolerated_colluders": 0}
        noisy = (PrivacySettings(**quiet, seeded_noise=seed) for seed in (0, 1))
        return [audit(Claim(settings, 0.25, "poisson", 20, 5e-4), size) for settings in noisy]

    honest = audits()
    assert not any(one.flagged for one in honest)
    right = noise.skellam_noise
    monkeypatch.setattr(noise, "skellam_noise", lambda variance, *given: right(variance / 10, *given))
    planted, estimated = (float(np.mean([one.one_shot.value for one in found])) for found in (audits(), honest))
    claimed = honest[0].claimed_epsilon
    assert claimed is not None and planted > 2 * max(estimated, claimed)


def test_clipping_that_was_forgotten_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canaries grow tenfold where nothing holds them to C."""
    grown = Canaries.update
    monkeypatch.setattr(Canaries, "update", lambda self, number, settings, C: grown(self, number, settings, 10 * C))
    assert not audit(SAMPLED, AuditSettings(**FEWER)).flagged  # clipped, they are as before
    monkeypatch.setattr(release, "clip", lambda delta, C: np.asarray(delta, np.float64))
    assert audit(SAMPLED, AuditSettings(**FEWER)).flagged


def test_the_audits_clipping_norm_follows_the_expected_cohort_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Poisson sampling no figure of a sum may follow who came: C moves by Σ b_k over q N, not over those drawn."""
    drawn: dict[float, list[bool]] = {}
    whole = Canaries.update

    def half(self: Canaries, number: int, settings: PrivacySettings, C: float) -> LocalUpdate:
        drawn.setdefault(C, []).append(bool(self.included[number]))
        return whole(self, number, settings, C / 2)

    monkeypatch.setattr(Canaries, "update", half)
    adaptive = CENTRAL.model_copy(update={"noise_multiplier": 0.0, "adaptive_clipping": True, "clip_quantile": 0.9})
    audit(Claim(adaptive, 0.5, "poisson", 6, 1e-3), AuditSettings(canaries=20, dimension=200))
    norms, expected = list(drawn), 10
    assert len(norms) == 6 and len({len(came) for came in drawn.values()}) > 1
    for C, after in pairwise(norms):
        within = min(0.5 + 0.5 * sum(drawn[C]) / expected, 1.0)  # who sends the zero vector counts for a half
        assert after == pytest.approx(C * math.exp(-0.2 * (within - 0.9)), rel=1e-5)


def test_what_refutes_a_claim() -> None:
    wide, high = Estimate(5.0, 2.0, 9.0), Estimate(9.0, 6.0, 12.0)
    assert not judge(4.0, wide, 3.9, 1e-5)[0]
    assert judge(4.0, wide, 4.1, 1e-5)[0] and judge(4.0, high, 1.0, 1e-5)[0]
    flagged, verdict = judge(math.inf, high, 50.0, 1e-5)
    assert not flagged and "nothing to refute" in verdict


def test_masked_cohorts_stay_small() -> None:
    masked = PrivacySettings()
    assert default_canaries(Claim(masked, 0.1, "poisson", 1, 0.1)) == 240
    assert default_canaries(Claim(masked, 1.0, "full", 1, 0.1)) == 64
    assert default_canaries(Claim(CENTRAL, 0.001, "poisson", 1, 0.1)) == 1000


def test_a_runs_audit_is_kept_and_shown_until_it_is_trained_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "mine")
    settings = settings_with(mode="central", secure_aggregation=False)
    write_method(run, "privfedtalk", settings, [round_record(1), round_record(2)])
    kept = run.attack("audit", "privfedtalk") / "audit.json"
    planted = audit_run(run, "privfedtalk", AuditSettings(canaries=100, noise_factor=0.1))
    assert planted.dimension == 1000 and planted.noise_factor == 0.1 and not kept.exists()
    found = audit_run(run, "privfedtalk", AuditSettings(canaries=100))
    told = json.loads(kept.read_text())
    assert told["claimed_epsilon"] == pytest.approx(found.claimed_epsilon) and told["sampling"] == "full"
    (page,) = write_privacy_reports(run, ["privfedtalk"], tmp_path / "out")
    assert "Canary audit" in page.read_text() and "Canary audit" in page.with_suffix(".md").read_text()
    assert found.verdict in page.with_suffix(".md").read_text()
    told["settings"]["noise_multiplier"] = 9.0
    kept.write_text(json.dumps(told))
    (page,) = write_privacy_reports(run, ["privfedtalk"], tmp_path / "out")
    assert "Canary audit" not in page.read_text()
