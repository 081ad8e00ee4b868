"""Methods against their papers' formulas and limits, on small problems and on the small federation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from common.errors import PrivFedTalkError
from tests.training.small_federation import (
    CLIENTS,
    FEDERATION,
    InProcess,
    TrainerFor,
    federate,
    settings_with,
    whole_settings,
)
from training.adapters.membership import POOLED
from training.federation.algorithm import FederationResult, Start, run_federation
from training.federation.client.training import Announcement
from training.federation.methods import check_names, configure, named
from training.federation.methods.base import LocalRule, Released, State, Theta
from training.federation.methods.components import EVERY
from training.federation.methods.fedadam import AdamServer
from training.federation.methods.fedprox import ProximalSteps
from training.pipeline import pooled_steps
from training.settings import TrainingSettings
from training.settings.methods import FedAdamSettings, FedProxSettings, ScaffoldSettings

Gradient = Callable[[Theta], Theta]


def of(method: str, **groups: object) -> TrainingSettings:
    return configure(method, whole_settings().model_copy(update=groups))


def descend(rule: LocalRule, theta: Theta, gradient: Gradient, steps: int) -> Theta:
    """The trainer's inner loop on a problem whose gradient is known."""
    parameter = nn.Parameter(torch.from_numpy(rule.start(theta).copy()))
    optimizer = rule.begin([parameter])
    for _ in range(steps):
        parameter.grad = torch.from_numpy(gradient(parameter.detach().numpy()).astype(np.float32))
        rule.correct([parameter])
        optimizer.step()
        rule.after_step([parameter], optimizer)
    rule.end([parameter], optimizer)
    return parameter.detach().numpy()


def run_on(method: str, settings: TrainingSettings, gradients: list[Gradient], rounds: int, steps: int) -> Theta:
    """Rounds of a method over clients that are nothing but gradients, all of equal weight."""
    theta = np.zeros(1, np.float32)
    way = named(method)
    server = way.server_rule(settings)
    state, kept = server.initial(theta), [State() for _ in gradients]
    for _ in range(rounds):
        rules = [way.local_rule(settings, server.announce(state), own) for own in kept]
        ends = [descend(rule, theta, gradient, steps) for rule, gradient in zip(rules, gradients, strict=True)]
        kept = [rule.state for rule in rules]
        extra = {name: np.mean([rule.extra[name] for rule in rules], axis=0) for name in rules[0].extra}
        total = np.sum([end.astype(np.float64) - theta for end in ends], axis=0)
        theta, state = server.step(theta, Released(total, len(ends), extra), state)
    return theta


def test_a_method_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="unknown method 'fedsgd'; choose one of privfedtalk, fedavg"):
        check_names(["fedavg", "fedsgd"])
    with pytest.raises(PrivFedTalkError, match="unknown method 'fedsgd'"):
        named("fedsgd")


# Ablations and FedAvg have the rules of privfedtalk; the pooled trainer has a test of its own.
@pytest.mark.parametrize("method", ["privfedtalk", "fedprox", "scaffold", "fedadam", "local"])
def test_an_interrupted_method_continues_bit_for_bit(trainer_for: TrainerFor, tmp_path: Path, method: str) -> None:
    settings = settings_with(method, noise_multiplier=0.5)
    whole = federate(trainer_for, method, settings, tmp_path / "whole")
    kept = client_states(trainer_for, method, 3)
    for rounds in (2, 3):
        resumed = federate(trainer_for, method, settings, tmp_path / "cut", rounds=rounds)
    np.testing.assert_array_equal(whole.theta, resumed.theta)
    assert [r.round for r in resumed.records] == [1, 2, 3]
    for before, after in zip(kept, client_states(trainer_for, method, 3), strict=True):
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def client_states(trainer_for: TrainerFor, method: str, number: int) -> list[State]:
    storage = trainer_for(settings_with(method), method).storage
    return [storage.load_state(client, number) for client in CLIENTS]


@pytest.mark.parametrize("method", ["scaffold", "local"])
def test_a_round_that_was_lost_never_happened(trainer_for: TrainerFor, tmp_path: Path, method: str) -> None:
    """Clients train round 3, the server dies before its checkpoint, and round 3 comes again."""
    settings = settings_with(method)
    whole = federate(trainer_for, method, settings, tmp_path / "whole")
    kept = client_states(trainer_for, method, 3)
    cut = federate(trainer_for, method, settings, tmp_path / "cut", rounds=2)
    trainer = trainer_for(settings, method)
    shared = {"c": np.ones_like(cut.theta)}
    for client in CLIENTS:
        trainer.train(client, Announcement(3, cut.theta + 0.1, shared, dict.fromkeys(CLIENTS, 2)))
    resumed = federate(trainer_for, method, settings, tmp_path / "cut")
    np.testing.assert_array_equal(whole.theta, resumed.theta)
    for before, after in zip(kept, client_states(trainer_for, method, 3), strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_client_whose_state_is_lost_says_so(trainer_for: TrainerFor, tmp_path: Path) -> None:
    federate(trainer_for, "local", settings_with("local"), tmp_path / "f", rounds=1)
    trainer = trainer_for(settings_with("local"), "local")
    next(trainer.storage.run.client_method("c1", "local").glob("state-*.safetensors")).unlink()
    with pytest.raises(PrivFedTalkError, match="what client c1 kept after round 1"):
        trainer.train("c1", Announcement(2, trainer.adapter.vector(), counted={"c1": 1}))


def test_fedprox_without_its_term_is_fedavg_bit_for_bit(trainer_for: TrainerFor, tmp_path: Path) -> None:
    fedavg = federate(trainer_for, "fedavg", of("fedavg"), tmp_path / "a", rounds=2)
    none = federate(trainer_for, "fedprox", of("fedprox", fedprox=FedProxSettings(mu=0)), tmp_path / "b", rounds=2)
    some = federate(trainer_for, "fedprox", of("fedprox", fedprox=FedProxSettings(mu=0.1)), tmp_path / "c", rounds=2)
    np.testing.assert_array_equal(fedavg.theta, none.theta)
    assert np.abs(some.theta - none.theta).max() > 1e-5


def test_fedprox_with_an_endless_term_stays_at_theta(trainer_for: TrainerFor) -> None:
    moved = {}
    for mu in (0.0, 1.0, 1e3, 1e12):
        trainer = trainer_for(of("fedprox", fedprox=FedProxSettings(mu=mu)), "fedprox")
        moved[mu] = np.abs(trainer.train("c0", Announcement(1, trainer.adapter.vector())).delta).max()
    assert moved[0.0] > moved[1.0] > moved[1e3] > moved[1e12]
    assert moved[1e12] < 1e-9


def test_fedprox_comes_to_rest_where_its_objective_does() -> None:
    """a/2 (y - b)^2 + mu/2 (y - theta)^2 has its minimum at (a b + mu theta) / (a + mu), whatever AdamW's scale."""
    a, b, mu = np.array([4.0, 0.01, 30.0]), np.array([1.0, -2.0, 0.5]), 0.5
    theta = np.array([0.2, 0.1, -0.3], np.float32)
    settings = of("fedprox", fedprox=FedProxSettings(mu=mu))
    rule = ProximalSteps(settings, {}, {})
    y = descend(rule, theta, lambda y: a * (y - b), steps=6000)
    np.testing.assert_allclose(y, (a * b + mu * theta) / (a + mu), atol=3 * settings.federation.learning_rate)


UNLIKE: list[Gradient] = [lambda y: 10 * (y + 1), lambda y: 1 * (y - 1)]
OPTIMUM = -9 / 11


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_scaffold_reaches_the_common_optimum_and_fedavg_does_not(optimizer: str) -> None:
    """Two quadratics of unlike curvature: averaging where each client drifted to misses the sum's minimum."""
    scaffold = of("scaffold", scaffold=ScaffoldSettings(optimizer=optimizer, sgd_learning_rate=0.02))
    fast = scaffold.federation.model_copy(update={"learning_rate": 0.01})
    scaffold = scaffold.model_copy(update={"federation": fast})
    reached = run_on("scaffold", scaffold, UNLIKE, rounds=120, steps=20)
    assert abs(reached[0] - OPTIMUM) < (1e-4 if optimizer == "sgd" else 0.02)
    drifted = run_on("fedavg", of("fedavg", federation=fast), UNLIKE, rounds=120, steps=20)
    assert abs(drifted[0] - OPTIMUM) > 0.1


def test_fedavg_by_sgd_drifts_on_the_same_problem() -> None:
    """What SCAFFOLD's plain SGD mends is drift, not AdamW: with c and c_k held at zero the same steps miss."""
    theta = np.zeros(1, np.float32)
    for _ in range(120):
        ends = []
        for gradient in UNLIKE:
            y = theta.copy()
            for _ in range(20):
                y = y - 0.02 * gradient(y)
            ends.append(y)
        theta = np.mean(ends, axis=0)
    assert abs(theta[0] - OPTIMUM) > 0.1


def test_scaffolds_variate_is_option_two_under_sgd() -> None:
    settings = of("scaffold", scaffold=ScaffoldSettings(optimizer="sgd", sgd_learning_rate=0.02))
    c, c_k, x = (np.array([value], np.float32) for value in (0.3, -0.2, 0.5))
    rule = named("scaffold").local_rule(settings, {"c": c}, {"c": c_k})
    y = descend(rule, x, UNLIKE[0], steps=7)
    np.testing.assert_allclose(rule.state["c"], c_k - c + (x - y) / (7 * 0.02), rtol=1e-4)
    np.testing.assert_allclose(rule.extra["c"], rule.state["c"] - c_k, rtol=1e-6)


def test_scaffolds_variates_stay_in_balance(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """The server's c is the clip-weighted mean of the clients' own, round after round, and it moves theta."""
    result = federate(trainer_for, "scaffold", settings_with("scaffold"), tmp_path / "f")
    states = client_states(trainer_for, "scaffold", 3)
    mean = sum((i + 1) * state["c"] for i, state in enumerate(states)) / 6
    server = load_file(tmp_path / "f" / "checkpoint" / "round-00003.safetensors")
    np.testing.assert_allclose(server["server.c"], mean, atol=1e-6)
    assert np.abs(mean).max() > 1e-5
    plain = federate(trainer_for, "fedavg", settings_with("fedavg"), tmp_path / "g")
    assert np.abs(plain.theta - result.theta).max() > 1e-5
    assert result.records[0].bytes_up > 1.9 * plain.records[0].bytes_up
    assert [plain.records[0].vector_bytes, result.records[0].vector_bytes] == [
        plain.theta.nbytes,
        2 * plain.theta.nbytes,
    ]


def test_scaffold_under_privacy_is_an_error() -> None:
    private = whole_settings().model_copy(update={"components": {"scaffold": ("dp", "secure_aggregation")}})
    with pytest.raises(PrivFedTalkError, match="void the guarantee"):
        configure("scaffold", private)


def test_fedadam_is_the_papers_formula_and_torchs_adam() -> None:
    adam = FedAdamSettings(learning_rate=0.05, beta1=0.8, beta2=0.95, tau=0.01)
    rule = AdamServer(of("fedadam", fedadam=adam))
    theta = np.array([0.5, -1.0, 2.0], np.float32)
    state = rule.initial(theta)
    m, v, by_hand = np.zeros(3), np.full(3, 0.01**2), theta.astype(np.float64)
    parameter = nn.Parameter(torch.from_numpy(theta.astype(np.float64)))
    torchs = torch.optim.Adam([parameter], betas=(0.8, 0.95))
    rng = np.random.default_rng(0)
    for step in range(1, 8):
        update = rng.normal(0, 0.1, 3)
        theta, state = rule.step(theta, Released(update * 4, 4.0), state)
        m, v = 0.8 * m + 0.2 * update, 0.95 * v + 0.05 * update**2
        by_hand += 0.05 * m / (np.sqrt(v) + 0.01)
        # torch corrects for the start at zero; with rate and eps scaled, the correction cancels.
        for group in torchs.param_groups:
            group["lr"] = 0.05 * (1 - 0.8**step) / np.sqrt(1 - 0.95**step)
            group["eps"] = 0.01 / np.sqrt(1 - 0.95**step)
        parameter.grad = torch.from_numpy(-update)
        if step == 1:
            torchs.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros(3, dtype=torch.float64),
                "exp_avg_sq": torch.full((3,), 0.01**2, dtype=torch.float64),
            }
        torchs.step()
    np.testing.assert_allclose(theta, by_hand, rtol=1e-5)
    np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=1e-5)


def test_fedadam_under_privacy_takes_its_gradient_from_the_release(trainer_for: TrainerFor, tmp_path: Path) -> None:
    whole = whole_settings(noise_multiplier=0.5).model_copy(
        update={"components": {"fedadam": ("dp", "secure_aggregation")}}
    )
    settings = configure("fedadam", whole)
    assert settings.privacy.mode == "distributed"
    result = federate(trainer_for, "fedadam", settings, tmp_path / "f", rounds=1)
    plain = federate(trainer_for, "dp_only", configure("dp_only", whole), tmp_path / "g", rounds=1)
    start = trainer_for(settings, "fedadam").adapter.vector()
    gradient = plain.theta.astype(np.float64) - start
    adam = settings.fedadam
    m, v = (1 - adam.beta1) * gradient, adam.beta2 * adam.tau**2 + (1 - adam.beta2) * gradient**2
    expected = start + adam.learning_rate * m / (np.sqrt(v) + adam.tau)
    np.testing.assert_allclose(result.theta, expected, atol=1e-5)


def test_local_is_each_client_alone(trainer_for: TrainerFor, tmp_path: Path) -> None:
    """As one client's own federation of one, with an optimiser that nobody restarts; the server learns nothing."""
    settings = settings_with("local")
    result = federate(trainer_for, "local", settings, tmp_path / "f", rounds=2)
    trainer = trainer_for(settings, "local")
    start = trainer.adapter.vector()
    np.testing.assert_array_equal(result.theta, start)
    assert [(r.bytes_up, r.bytes_down, r.vector_bytes) for r in result.records] == [(0, 0, 0), (0, 0, 0)]
    own = [trainer.storage.load_state(client, 2)["theta"] for client in CLIENTS]
    assert min(np.abs(a - b).max() for a, b in [(own[0], own[1]), (own[1], own[2]), (own[0], start)]) > 1e-4
    first = trainer_for(settings_with("fedavg"), "fedavg").train("c0", Announcement(1, start)).delta
    trainer.train("c0", Announcement(1, start))
    np.testing.assert_array_equal(trainer.storage.load_state("c0", 1)["theta"], start + first)


def test_centralized_goes_on_as_one_training_run(trainer_for: TrainerFor) -> None:
    """Two rounds of one trainer with its moments kept are AdamW's steps, never begun anew."""
    settings = of("centralized")
    way = named("centralized")
    theta, state = np.array([1.0, -2.0], np.float32), State()
    gradient: Gradient = lambda y: np.array([3.0, 0.2]) * y  # noqa: E731
    for _ in range(2):
        rule = way.local_rule(settings, {}, state)
        theta, state = descend(rule, theta, gradient, 5), rule.state
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    adamw = torch.optim.AdamW([parameter], lr=settings.federation.learning_rate, weight_decay=0.0)
    for _ in range(10):
        parameter.grad = torch.from_numpy(gradient(parameter.detach().numpy()).astype(np.float32))
        adamw.step()
    np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=1e-6)


def test_centralized_pools_the_clips_and_matches_the_steps(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = pooled_steps(of("centralized"), clients=3)
    assert settings.federation.local_steps == 3 * FEDERATION.local_steps
    some = of("centralized", federation=FEDERATION.model_copy(update={"clients_per_round": 2}))
    assert pooled_steps(some, clients=3).federation.local_steps == 2 * FEDERATION.local_steps
    trainer = trainer_for(settings, "centralized", CLIENTS)
    start = Start(trainer.adapter.vector(), trainer.adapter.base_sha256)
    update = trainer.train(POOLED, Announcement(1, start.theta))
    assert update.clips == 6
    assert trainer.storage.load_state(POOLED, 1)["step"] == 6
    seen = {clip.clip_id for clip in trainer._training_clips(POOLED, np.random.default_rng(0))}
    assert len(seen) == 6

    def rounds(number: int, folder: Path) -> FederationResult:
        few = settings.model_copy(update={"federation": settings.federation.model_copy(update={"rounds": number})})
        return run_federation(
            InProcess(trainer), "centralized", start, [POOLED], lambda theta: 0.0, few, folder, seed=5
        )

    whole = rounds(2, tmp_path / "whole")
    rounds(1, tmp_path / "cut")
    np.testing.assert_array_equal(rounds(2, tmp_path / "cut").theta, whole.theta)
    # The clips were brought together; no update travels.
    assert [(r.bytes_up, r.bytes_down, r.vector_bytes) for r in whole.records] == [(0, 0, 0), (0, 0, 0)]


def test_components_go_off_one_by_one() -> None:
    whole = whole_settings(noise_multiplier=0.5)
    assert configure("privfedtalk", whole) == whole

    def without(component: str) -> TrainingSettings:
        kept = tuple(each for each in EVERY if each != component)
        return configure("privfedtalk", whole.model_copy(update={"components": {"privfedtalk": kept}}))

    off = {component: without(component) for component in EVERY}
    assert off["isfa"].privacy == whole.privacy.model_copy(update={"gamma": 0.0})
    assert off["isfa"].objective == whole.objective
    assert off["tdc"].objective.tdc_weight == 0
    assert off["tdc"].privacy == whole.privacy
    assert off["dp"].privacy == whole.privacy.model_copy(update={"mode": "none", "seeded_noise": None})
    # Shares of noise need a hidden sum; without one the noise is a trusted server's.
    assert off["secure_aggregation"].privacy.mode == "central"
    for settings in off.values():
        assert type(settings.privacy)(**settings.privacy.model_dump()) == settings.privacy


def test_table_two() -> None:
    whole = whole_settings(noise_multiplier=0.5)
    rows = {name: configure(name, whole) for name in ("adapters_only", "dp_only", "tdc_only", "isfa_only")}
    facts = {
        name: (row.privacy.mode, row.privacy.secure_aggregation, row.privacy.gamma > 0, row.objective.tdc_weight > 0)
        for name, row in rows.items()
    }
    assert facts == {
        "adapters_only": ("none", False, False, False),
        "dp_only": ("distributed", True, False, False),
        "tdc_only": ("none", False, False, True),
        "isfa_only": ("none", False, True, False),
    }
    assert rows["adapters_only"] == configure("fedavg", whole)


def test_one_methods_settings_do_not_touch_another() -> None:
    other = whole_settings().model_copy(
        update={"fedprox": FedProxSettings(mu=9), "methods": ("local",), "components": {"scaffold": ("tdc",)}}
    )
    for method in ("privfedtalk", "fedavg", "fedadam", "local"):
        assert configure(method, other).fingerprint() == settings_with(method).fingerprint()
    assert configure("fedprox", other).fedprox.mu == 9
    assert configure("scaffold", other).objective.tdc_weight > 0


def test_personalisation_starts_at_theta_stays_with_the_client_and_resumes(trainer_for: TrainerFor) -> None:
    trainer = trainer_for(settings_with("fedprox"), "fedprox")
    theta = trainer.adapter.vector() + 0.01
    trainer.personalise("c1", theta, steps=2)
    folder = trainer.storage.adapter("c1")
    assert folder.is_relative_to(trainer.storage.run.client("c1"))
    own = load_file(folder / "adapter_model.safetensors")
    made = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    trainer.personalise("c1", theta, steps=2)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == made
    trainer.personalise("c1", theta + 0.01, steps=2)
    other = load_file(folder / "adapter_model.safetensors")
    assert any(np.abs(own[name] - other[name]).max() > 1e-4 for name in own)
    # Two AdamW steps of 2e-3: near theta, and not theta.
    trainer.adapter.load_vector(theta + 0.01)
    trainer.adapter.save(trainer.storage.run.adapter("plain"), theta + 0.01, {})
    start = load_file(trainer.storage.run.adapter("plain") / "adapter_model.safetensors")
    moved = max(np.abs(other[name] - start[name]).max() for name in start)
    assert 1e-4 < moved < 5e-3
