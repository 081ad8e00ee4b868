"""`averaging: fedex`: the weights after a round are the mean of the clients' weights, saved and resumed as such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.numpy import load_file

from common.errors import PrivFedTalkError
from tests.training.small_federation import CLIENTS, InProcess, TrainerFor, federate, whole_settings
from training.adapters.adapter import Adapter, load_adapted
from training.adapters.factors import Factors, factorised
from training.federation.algorithm import Start, run_federation
from training.federation.client.training import Announcement, LocalUpdate
from training.federation.methods import configure, server_of
from training.federation.methods.base import Released, Theta
from training.model.backbones.tiny import TinyBackbone
from training.settings import AdapterSettings, TrainingSettings

Weights = dict[str, npt.NDArray[np.float64]]


def exact_settings(method: str, averaging: str = "fedex", **federation: object) -> TrainingSettings:
    whole = whole_settings()
    adapter = AdapterSettings(rank=2, alpha=3.0, averaging=averaging)
    rounds = whole.federation.model_copy(update=federation)
    return configure(method, whole.model_copy(update={"adapter": adapter, "federation": rounds}))


def effective(adapter: Adapter, theta: Theta) -> Weights:
    """Every adapted layer's weight as its input meets it, W + s (R + B A), as PEFT merges it."""
    adapter.load_vector(theta)
    weights = {}
    for name, layer in adapter.model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            base, change = layer.get_base_layer().weight, layer.get_delta_weight("default")
            weights[name] = (base.double() + change.double()).detach().numpy()
    assert weights
    return weights


class Watched(InProcess):
    """Keeps the weights that every client ends with, and those it started from."""

    def train(self, clients: Sequence[str], announced: Announcement) -> dict[str, LocalUpdate]:
        self.before = effective(self.trainer.adapter, announced.theta)
        self.after: dict[str, tuple[int, Weights]] = {}
        updates: dict[str, LocalUpdate] = {}
        for client in clients:
            updates[client] = update = self.trainer.train(client, announced)
            theta = announced.theta.copy()
            theta[: len(update.delta)] += update.delta
            self.after[client] = (update.clips, effective(self.trainer.adapter, theta))
        return updates


@pytest.mark.parametrize(
    ("method", "clients", "rate"),
    [("fedavg", CLIENTS, 1.0), ("fedavg", CLIENTS, 0.5), ("scaffold", CLIENTS, 1.0), ("fedavg", ["c1"], 1.0)],
)
def test_weights_after_a_round_are_the_mean_of_the_clients_weights(
    trainer_for: TrainerFor, tmp_path: Path, method: str, clients: list[str], rate: float
) -> None:
    """To float32's rounding, also in the second round, where everybody starts with a residual; where `plain` is not."""
    gaps = {}
    for averaging in ("fedex", "plain"):
        settings = exact_settings(method, averaging, server_rate=rate, learning_rate=0.02, local_steps=4)
        trainer = trainer_for(settings, method)
        engine, adapter = Watched(trainer), trainer.adapter
        start = Start(adapter.vector(), adapter.base_sha256, adapter.factors)
        for rounds in (1, 2):
            federation = settings.federation.model_copy(update={"rounds": rounds})
            run = settings.model_copy(update={"federation": federation})
            folder = tmp_path / averaging
            theta = run_federation(engine, method, start, clients, lambda theta: 0.0, run, folder, seed=5).theta
            found = effective(adapter, theta)
            clips = sum(count for count, _ in engine.after.values())
            gaps[averaging, rounds] = 0.0
            for name, weight in found.items():
                mean = sum(count * weights[name] for count, weights in engine.after.values()) / clips
                expected = engine.before[name] + rate * (mean - engine.before[name])
                assert np.abs(expected - engine.before[name]).max() > 1e-4
                gaps[averaging, rounds] = max(gaps[averaging, rounds], np.abs(weight - expected).max())
    assert max(gaps["fedex", 1], gaps["fedex", 2]) < 1e-6
    if len(clients) > 1:
        assert min(gaps["plain", 1], gaps["plain", 2]) > 1e-4


def test_only_factors_go_up_and_the_residual_comes_down(trainer_for: TrainerFor, tmp_path: Path) -> None:
    trainer = trainer_for(exact_settings("fedavg"), "fedavg")
    update = trainer.train("c0", Announcement(1, trainer.adapter.vector()))
    assert len(update.delta) == len(trainer.adapter) < len(trainer.adapter.vector())
    found = {
        averaging: federate(trainer_for, "fedavg", exact_settings("fedavg", averaging), tmp_path / averaging).records
        for averaging in ("fedex", "plain")
    }
    assert [record.bytes_up for record in found["fedex"]] == [record.bytes_up for record in found["plain"]]
    residual = 4 * trainer.adapter.factors.size
    assert all(
        exact.bytes_down == plain.bytes_down + len(CLIENTS) * residual
        for exact, plain in zip(found["fedex"], found["plain"], strict=True)
    )


@pytest.mark.slow(minutes=0.1)
def test_a_cut_run_goes_on_and_the_best_round_keeps_its_residual(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = exact_settings("fedavg", learning_rate=0.02)
    whole = federate(trainer_for, "fedavg", settings, tmp_path / "whole")
    first = federate(trainer_for, "fedavg", settings, tmp_path / "cut", rounds=1)
    np.testing.assert_array_equal(federate(trainer_for, "fedavg", settings, tmp_path / "cut").theta, whole.theta)
    size = trainer_for(settings, "fedavg").adapter.factors.size
    assert np.abs(whole.theta[-size:]).max() > 1e-5
    # The first round is the best of those whose public loss is the same.
    best = exact_settings("fedavg", learning_rate=0.02, keep="best")
    np.testing.assert_array_equal(federate(trainer_for, "fedavg", best, tmp_path / "best").theta, first.theta)


def test_saved_files_load_with_peft_alone_on_the_base(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = exact_settings("fedavg", learning_rate=0.02, local_steps=4)
    theta = federate(trainer_for, "fedavg", settings, tmp_path / "f").theta
    trainer = trainer_for(settings, "fedavg")
    trainer.adapter.save(tmp_path / "adapter", theta, {"method": "fedavg"})
    expected = effective(trainer.adapter, theta)
    base = trainer.storage.run.model("backbone")
    by_peft = PeftModel.from_pretrained(TinyBackbone.load(base), str(tmp_path / "adapter"))
    for name, layer in by_peft.named_modules():
        if hasattr(layer, "get_delta_weight"):
            weight = layer.get_base_layer().weight + layer.get_delta_weight("default")
            np.testing.assert_allclose(weight.detach().numpy(), expected.pop(name), atol=1e-6)
    assert not expected
    g = torch.Generator().manual_seed(0)
    x = [torch.randn(*size, generator=g) for size in ((2, 6, 4, 8, 8), (2, 6, 6, 10), (2, 4, 8, 8), (2, 6, 12))]
    with torch.no_grad():
        here = trainer.backbone(x[0], torch.tensor([10, 700]), *x[1:])
        there = load_adapted(TinyBackbone.load(base), tmp_path / "adapter")(x[0], torch.tensor([10, 700]), *x[1:])
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


def test_one_adapter_serves_methods_and_clients_without_traces(trainer_for: TrainerFor) -> None:
    """A residual that was loaded is gone when a vector with another one, or with none, is."""
    trainer = trainer_for(exact_settings("fedavg"), "fedavg")
    adapter = trainer.adapter
    start = adapter.vector()
    before = effective(adapter, start)
    other = start + np.random.default_rng(0).normal(0, 0.1, len(start)).astype(np.float32)
    changed = effective(adapter, other)
    np.testing.assert_array_equal(adapter.vector(), other)
    after = effective(adapter, start[: len(adapter)])
    for name, weight in before.items():
        np.testing.assert_array_equal(after[name], weight)
        assert np.abs(changed[name] - weight).max() > 1e-2


def test_personal_adapters_start_from_the_residual_and_keep_it(trainer_for: TrainerFor, tmp_path: Path) -> None:
    settings = exact_settings("fedavg", learning_rate=0.02)
    theta = federate(trainer_for, "fedavg", settings, tmp_path / "f").theta
    trainer = trainer_for(settings, "fedavg")
    trainer.personalise("c1", theta, 1)
    own = load_file(trainer.storage.adapter("c1") / "adapter_model.safetensors")
    before = effective(trainer.adapter, theta)
    base = PeftModel.from_pretrained(
        TinyBackbone.load(trainer.storage.run.model("backbone")), str(trainer.storage.adapter("c1"))
    )
    moved = {
        name: float((layer.get_base_layer().weight + layer.get_delta_weight("default")).detach().sub(
            torch.from_numpy(before[name])).abs().max())
        for name, layer in base.named_modules()
        if hasattr(layer, "get_delta_weight")
    }  # fmt: skip
    assert own and 1e-5 < max(moved.values()) < 0.5


@pytest.mark.parametrize("method", ["privfedtalk", "dp_only"])
def test_it_is_refused_where_the_server_may_not_see_factors(method: str) -> None:
    with pytest.raises(PrivFedTalkError, match=f"fedex, and {method} has dp or secure_aggregation") as caught:
        exact_settings(method)
    assert "averaging=ffa" in caught.value.remedy


def test_it_is_refused_where_nothing_is_averaged() -> None:
    with pytest.raises(PrivFedTalkError, match="the server of fedadam does not average"):
        exact_settings("fedadam")


def test_who_counts_for_nothing_has_no_part_in_it() -> None:
    layout = Factors.of({"x.lora_A.default.weight": (1, 2), "x.lora_B.default.weight": (2, 1)})
    rule = server_of("fedavg", exact_settings("fedavg"), layout)
    theta = np.concatenate([np.ones(4, np.float32), np.zeros(4, np.float32)])
    good = np.array([1.0, 0.0, 0.0, 2.0])
    released = Released(0.5 * good, 0.5, each=[(0.5, 0.5 * good), (0.0, np.zeros(4))])
    new, _ = rule.step(theta, released, rule.initial(theta))
    alone, _ = rule.step(theta, Released(good, 1.0, each=[(1.0, good)]), {})
    np.testing.assert_allclose(new, alone)
    np.testing.assert_allclose(new, [2, 1, 1, 3, 0, 0, 0, 0])


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**31))
@settings(max_examples=50)
def test_factors_of_least_rank_multiply_to_the_matrix(rows: int, columns: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    a, b = factorised(matrix)
    assert len(a) == max(1, min(rows, columns, rank))
    np.testing.assert_allclose(b.astype(np.float64) @ a, matrix, atol=1e-5 * (1 + np.abs(matrix).max()))
