"""Gradients by one process and by two are the same bits, and those of the whole batch up to rounding."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.model.autoencoders import small
from training.model.halves import Part, open_gradients, picked
from training.settings import VaeSettings

SETTINGS = VaeSettings(widths=(8, 8), blocks=1)
RANDOM = np.random.default_rng(0)
FRAMES = RANDOM.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
FEATURES = RANDOM.random((9, 4, 4)) < 0.3
INDEX = np.array([0, 3, 3, 5, 8, 1, 2])
RECONSTRUCTION = partial(small._loss, SETTINGS)
"""A loss that another process can import, with chance in it."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 3, 3))


def square(model: nn.Module, part: Part) -> Tensor:
    return model(torch.from_numpy(part["x"])).square().mean()


def autoencoder() -> small.SmallVae:
    torch.manual_seed(0)
    return small.SmallVae(SETTINGS)


def trained(workers: int, steps: int = 4) -> tuple[dict[str, Tensor], list[float]]:
    model = autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    losses = []
    with open_gradients(model, RECONSTRUCTION, workers) as gradients:
        for step in range(steps):
            losses.append(float(gradients(7, picked(INDEX, (1, step), frames=FRAMES, features=FEATURES))))
            optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}, losses


@pytest.mark.slow(minutes=0.1)
def test_two_processes_learn_what_one_does_bit_for_bit() -> None:
    (one, losses), (two, losses_of_two) = trained(1), trained(2)
    assert losses == losses_of_two and len(set(losses)) == 4
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["encoder.1.weight"], autoencoder().state_dict()["encoder.1.weight"])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_gradient_is_the_whole_batchs(count: int) -> None:
    model = network()
    batch = np.random.default_rng(1).standard_normal((count, 3, 12, 12)).astype(np.float32)
    whole = square(model, {"x": batch})
    expected = torch.autograd.grad(whole, list(model.parameters()))
    with open_gradients(model, square, workers=1) as gradients:
        loss = gradients(count, lambda cut: {"x": batch[cut]})
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-6)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_batch_is_cut_in_two_and_each_half_has_chance_of_its_own() -> None:
    whole = picked(INDEX, (1, 0), frames=FRAMES)
    first, second = whole(slice(0, 4)), whole(slice(4, 7))
    np.testing.assert_array_equal(np.concatenate([first["frames"], second["frames"]]), FRAMES[INDEX])
    assert first["seed"] != second["seed"] != picked(INDEX, (1, 1), frames=FRAMES)(slice(4, 7))["seed"]
    cuts: list[slice] = []

    def part(cut: slice) -> Part:
        cuts.append(cut)
        return {"x": np.zeros((cut.stop - cut.start, 3, 12, 12), np.float32)}

    with open_gradients(network(), square, workers=1) as gradients:
        gradients(7, part)
    assert sorted((cut.start, cut.stop) for cut in cuts) == [(0, 4), (4, 7)]


def test_a_parameter_that_the_loss_does_not_touch_has_no_gradient() -> None:
    used, unused = network(), nn.Linear(2, 2)

    def loss(model: nn.Module, part: Part) -> Tensor:
        assert isinstance(model, nn.ModuleDict)
        return square(model["used"], part)

    with open_gradients(nn.ModuleDict({"used": used, "unused": unused}), loss, workers=1) as gradients:
        gradients(4, lambda cut: {"x": np.zeros((cut.stop - cut.start, 3, 12, 12), np.float32)})
    assert unused.weight.grad is None and all(parameter.grad is not None for parameter in used.parameters())


def test_an_error_of_the_other_process_is_raised_here() -> None:
    def part(cut: slice) -> Part:
        return picked(INDEX, (1, 0), frames=FRAMES, features=FEATURES[:, :3] if cut.start else FEATURES)(cut)

    with (
        open_gradients(autoencoder(), RECONSTRUCTION, workers=2) as gradients,
        pytest.raises(RuntimeError, match="size of tensor") as caught,
    ):
        gradients(7, part)
    assert "in a worker process" in "".join(caught.value.__notes__)


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with open_gradients(network(), square, workers=1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
