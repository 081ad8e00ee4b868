"""The functions that are mutated, and the tests that must notice their mutants."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The check of a sum's norm guards what is learnt, not what is seen, and is left out.
# File → a regular expression of its functions (`Class.method`) that guard secrecy or say what it costs; in the order in
# which they are run.
TARGETS = {
    "training/privacy/secure_aggregation/client.py": ".*",
    "training/privacy/secure_aggregation/server.py": ".*",
    "training/privacy/secure_aggregation/shamir.py": ".*",
    "training/privacy/secure_aggregation/masking.py": ".*",
    "training/privacy/secure_aggregation/keys.py": ".*",
    "training/privacy/secure_aggregation/payloads.py": ".*",
    "training/privacy/mechanisms/grid.py": ".*",
    "training/privacy/mechanisms/noise.py": ".*",
    "training/privacy/mechanisms/poisson_sampling.py": "(?!PoissonSampling.most).*",
    "training/privacy/mechanisms/base.py": r"Mechanism\.(?!norm_bound|_noise_length).*",
    "training/privacy/mechanisms/distributed_skellam.py": ".*",
    "training/privacy/mechanisms/central_gaussian.py": ".*",
    "training/privacy/mechanisms/no_noise.py": ".*",
    "training/privacy/mechanisms/paper_literal.py": r"PaperLiteral\.(?!norm_bound).*",
    "training/privacy/mechanisms/factory.py": ".*",
    "training/privacy/secure_aggregation/policy.py": "ClientPolicy.*",
    "training/federation/server/aggregation.py": r"Aggregator\.(?!bytes_).*|_weighted",
    "training/federation/server/opening.py": "open_round|poisson_sampling_of|next_.*",
    "preparation/clients/consent.py": "Consent.*|read_consent|objection.*|check_generation|record_.*|_agreed|people_of",
    "preparation/clients/gate.py": r"CropGate\.(?!has_crop).*",
    "preparation/shards/gate.py": ".*",
    "training/privacy/accounting/coins.py": ".*",
    "training/privacy/accounting/signed_log.py": ".*",
    "training/privacy/accounting/ledger.py": ".*",
    "training/learning/eligible.py": "trainable_clients",
    "training/federation/server/cohorts.py": ".*",
    "training/claims/violations.py": "violations|_unpaid_clipping|_twice.*",
    "training/claims/verification.py": ".*",
    "training/federation/server/checkpoint.py": "RoundRecord.*|Progress.*|load_.*|begin_.*|resume_.*|discard_.*",
    "training/claims/account.py": "(?!_events).*",
    "training/federation/server/spending.py": ".*",
    "training/privacy/accounting/conditions.py": ".*",
    "training/privacy/accounting/promise.py": ".*",
    "training/settings/privacy.py": "PrivacySettings.*|largest_delta",
    "training/privacy/accounting/schedule.py": ".*",
    "training/privacy/accounting/allocation.py": ".*",
    "training/privacy/accounting/epsilon.py": "epsilon_.*|_(composed|amplified|rare)|without.*_rdp",
    "training/privacy/accounting/guarantee.py": "epsilons|epsilon_towards.*|share_known.*|release_of|skellam_mechanism",
    "training/privacy/secure_aggregation/in_process.py": "aggregate_in_process|new_identities",
    "training/federation/round.py": "play_round",
    "training/federation/records.py": "record_of",
    "training/federation/server/step.py": "server_step",
    "training/federation/algorithm.py": "run_federation|_trained|_fingerprint",
    "training/claims/report.py": "privacy_report",
    "training/privacy/secure_aggregation/messages.py": ".*",
    "training/privacy/mechanisms/release.py": ".*",
}

# Tests whose parts take longer than `running.SLOWEST_TEST_SECONDS` are left out one by one.
TESTS = (
    "tests/training/privacy",
    "tests/training/federation/test_secrecy.py",
    "tests/training/federation/server/test_aggregation.py",
    "tests/training/claims",
    "tests/training/federation/server/test_cohorts.py",
    "tests/training/federation/server/test_checkpoint.py",
    "tests/training/federation/test_algorithm.py",
    "tests/training/federation/test_max_epsilon.py",
    "tests/training/adapters/test_membership.py",
    "tests/training/adapters/test_origin.py",
    "tests/preparation/clients/test_consent.py",
)
_PROTOCOL = ("adversary", "adversary_requests", "protocol_attacks", "client_policy", "split_views")
_FIGURES = ("adversary_figures", "adversary_ledger", "claims", "accounting")
# File → the tests that a mutant of it is shown before all others, where they run its line; `test_` and `.py` left out.
FIRST = {
    **{
        f"training/privacy/secure_aggregation/{name}.py": _PROTOCOL
        for name in ("client", "keys", "payloads", "messages")
    },
    "training/privacy/secure_aggregation/server.py": ("aggregation", *_PROTOCOL),
    "training/privacy/secure_aggregation/shamir.py": ("shamir_masking", *_PROTOCOL),
    "training/privacy/secure_aggregation/masking.py": ("shamir_masking", *_PROTOCOL),
    "training/privacy/secure_aggregation/policy.py": ("client_policy",),
    "training/privacy/secure_aggregation/in_process.py": ("secure_aggregation", "client_policy", "adversary_rounds"),
    **{
        f"training/privacy/mechanisms/{name}.py": ("skellam", "secrecy", "poisson_sampling")
        for name in ("grid", "noise", "poisson_sampling")
    },
    **{
        f"training/privacy/mechanisms/{name}.py": ("mechanisms", "aggregation", "client_policy", "secrecy", "skellam")
        for name in ("base", "distributed_skellam", "central_gaussian", "no_noise", "paper_literal", "factory")
    },
    "training/settings/privacy.py": ("split_views", "adversary_figures", "claims", "secrecy"),
    "training/privacy/mechanisms/release.py": ("release", "secrecy"),
    **{
        f"training/privacy/accounting/{name}.py": ("adversary_figures", "accounting")
        for name in ("epsilon", "schedule", "allocation")
    },
    "training/claims/report.py": ("report", "claims"),
    "training/federation/server/aggregation.py": ("aggregation", "secrecy", "poisson_sampling", "skellam"),
    "training/federation/server/opening.py": ("aggregation", "adversary_rounds", "algorithm", "cohorts"),
    **dict.fromkeys(
        ("training/federation/algorithm.py", "training/federation/round.py", "training/federation/server/step.py"),
        ("adversary_rounds", "algorithm", "cohorts", "max_epsilon"),
    ),
    "training/federation/records.py": ("adversary_rounds", "algorithm", "claims"),
    "training/privacy/accounting/ledger.py": ("adversary_ledger", "adversary_rounds", "ledger"),
    "training/federation/server/checkpoint.py": ("adversary_ledger", "adversary_rounds", "checkpoint"),
    "training/federation/server/cohorts.py": ("adversary_figures", "cohorts", "coins"),
    **dict.fromkeys(("training/claims/verification.py", "training/claims/violations.py"), ("claims",)),
    **{f"training/privacy/accounting/{name}.py": _FIGURES for name in ("coins", "signed_log", "promise", "conditions")},
    "training/federation/server/spending.py": (*_FIGURES, "max_epsilon"),
    "training/claims/account.py": (*_FIGURES, "max_epsilon"),
    "training/privacy/accounting/guarantee.py": ("adversary_figures", "accounting", "secrecy"),
    **{f"preparation/{name}.py": ("consent",) for name in ("clients/consent", "clients/gate", "shards/gate")},
    "training/learning/eligible.py": ("membership",),
}
# Tests of plans and audits call the accountants many times; other tests notice the same faults.
LEFT_OUT = ("tests/training/privacy/accounting/test_plan.py", "tests/evaluation/attacks/test_canary_bounds.py")


def read(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")
