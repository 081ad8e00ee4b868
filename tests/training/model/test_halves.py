"""Gradients by one process and by two are the same bits, and those of the whole batch up to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.model.halves import halves, open_gradients

mean_output = nn.Module.__call__
"""A loss that another process can import: the networks below end in the mean of their output."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    mean = nn.Flatten(0), nn.Unflatten(0, (1, -1)), nn.AdaptiveAvgPool1d(1)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 3, 3), nn.SiLU(), *mean)


def trained(workers: int, steps: int = 5) -> tuple[dict[str, Tensor], list[float]]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    losses = []
    with open_gradients(model, mean_output, workers) as gradients:
        for step in range(steps):
            batch = torch.randn(7, 3, 12, 12, generator=torch.Generator().manual_seed(step))
            losses.append(float(gradients(len(batch), batch.__getitem__)))
            optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}, losses


def test_halves_cover_a_batch() -> None:
    assert halves(7) == [slice(0, 4), slice(4, 7)]
    assert halves(1) == [slice(0, 1)]


def test_two_processes_learn_what_one_does_bit_for_bit() -> None:
    (one, losses), (two, losses_of_two) = trained(1), trained(2)
    assert losses == losses_of_two
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["0.weight"], network().state_dict()["0.weight"])


def test_the_gradient_is_the_whole_batchs() -> None:
    model, batch = network(), torch.randn(5, 3, 12, 12)
    whole = model(batch)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    with open_gradients(model, mean_output, workers=1) as gradients:
        loss = gradients(len(batch), batch.__getitem__)
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-6)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_batch_of_one_needs_no_second_process() -> None:
    model, batch = network(), torch.randn(1, 3, 12, 12)
    with open_gradients(model, mean_output, workers=2) as gradients:
        assert float(gradients(1, batch.__getitem__)) == pytest.approx(float(model(batch).detach()))


def test_an_error_of_the_other_process_is_raised_here() -> None:
    with (
        open_gradients(network(), mean_output, workers=2) as gradients,
        pytest.raises(RuntimeError, match="to have 3 channels") as caught,
    ):
        gradients(5, lambda cut: torch.zeros(3, 5 if cut.start else 3, 12, 12))
    assert "in a worker process" in "".join(caught.value.__notes__)


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with open_gradients(network(), mean_output, workers=1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
