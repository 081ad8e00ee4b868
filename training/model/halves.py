"""Gradients of a batch by two processes of one thread each.

Several threads that share each small operation wait for one another at its end; beside one other busy process that
makes training 6 to 15 times slower. Processes with a part of the batch each meet once a step.

A batch is always cut into the same parts, each is computed on one thread, and their gradients are added in the same
order. So the result is the same bit for bit with one worker and with two.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.workers import end_with_parent, portable
from common.workers.processes import start_shielded
from training.model.device import one_thread

Part = dict[str, NDArray[Any]]
"""Some items of a batch, as arrays by name: tensors would take a file in shared memory each to another process."""
Loss = Callable[[nn.Module, Part], Tensor]
"""The mean losses of a part, [K] or a scalar; training descends on the first, or the scalar. Whatever is random in them
follows from the part alone. A function at the top of a module, or a `functools.partial` of one: another process
imports it."""


class Gradients:
    """Sets a model's gradients to those of a batch; see `open_gradients`."""

    def __init__(self, model: nn.Module, loss: Loss, whole: bool, other: _Other | None) -> None:
        self._model, self._loss, self._whole, self._other = model, loss, whole, other
        self._parameters = learning(model)

    def __call__(self, count: int, part: Callable[[slice], Part]) -> Tensor:
        """The mean losses of a batch of `count` items, of which `part` gives some; earlier gradients are dropped."""
        if self._whole or count < 2:
            return backward(self._model, self._loss, part(slice(0, count)), 1.0)
        middle = (count + 1) // 2
        weight = middle / count
        if self._other is not None:
            self._other.begin(part(slice(middle, count)), (count - middle) / count)
        losses = backward(self._model, self._loss, part(slice(0, middle)), weight)
        first = [parameter.grad for parameter in self._parameters]
        if self._other is not None:
            further, second = self._other.finish()
        else:
            further = backward(self._model, self._loss, part(slice(middle, count)), (count - middle) / count)
            second = [parameter.grad for parameter in self._parameters]
        for parameter, one, two in zip(self._parameters, first, second, strict=True):
            parameter.grad = one + two if one is not None and two is not None else one if two is None else two
        return losses + further


@contextmanager
def open_gradients(
    model: nn.Module, loss: Loss, workers: int, device: torch.device | None = None
) -> Iterator[Gradients]:
    """What sets the model's gradients to those of a batch, see `Gradients`; all operations inside use one thread.

    With two or more `workers` and a model on the CPU, another process computes the second half of each batch. It shares
    the model's tensors: an optimizer that changes them in place changes them there as well. With one worker this
    process does it all. On a GPU (`device`) batches are not cut.
    """
    if device is not None and device.type != "cpu":
        yield Gradients(model, loss, True, None)
        return
    with one_thread(), contextlib.ExitStack() as stack:
        other = stack.enter_context(_other_process(model, loss)) if workers > 1 else None
        yield Gradients(model, loss, False, other)


def picked(index: NDArray[np.int64], seed: tuple[int, int], **arrays: NDArray[Any]) -> Callable[[slice], Part]:
    """For `Gradients`: the parts of a batch that has the items `index` of each array; "seed" is a number from `seed`
    for what is random in the part."""

    def part(cut: slice) -> Part:
        state = np.random.SeedSequence([*seed, cut.start]).generate_state(1)
        return {"seed": state, **{name: array[index[cut]] for name, array in arrays.items()}}

    return part


def generator_of(part: Part) -> torch.Generator:
    """The generator of what is random in a part of `picked`."""
    return torch.Generator().manual_seed(int(part["seed"][0]))


def learning(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def backward(model: nn.Module, loss: Loss, part: Part, weight: float) -> Tensor:
    """Set the model's gradients to those of a part, weighted; its weighted losses, without a gradient."""
    for parameter in learning(model):
        parameter.grad = None
    losses = weight * loss(model, part)
    losses.reshape(-1)[0].backward()
    return losses.detach()


@dataclass(frozen=True)
class _Failed:
    """The work of the other process raised an error."""

    error: Exception
    trace: str


class _Other:
    """The other process, as seen by the one that trains. `gradients` are shared with it, one for each parameter."""

    def __init__(self, connection: Connection, gradients: list[Tensor]) -> None:
        self._connection, self._gradients = connection, gradients

    def begin(self, part: Part, weight: float) -> None:
        """Let it begin with a part; that it died shows in `finish`."""
        with contextlib.suppress(OSError):
            self._connection.send((part, weight))

    def finish(self) -> tuple[Tensor, list[Tensor | None]]:
        """Wait for the losses and the gradients; None for a parameter that the loss does not depend on."""
        try:
            reply = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("the process with the other half of the batch died (killed for memory?)") from error
        if isinstance(reply, _Failed):
            reply.error.add_note(f"in a worker process:\n{reply.trace}")
            raise reply.error
        losses, given = reply
        shared = zip(self._gradients, given, strict=True)
        return torch.from_numpy(losses), [gradient if has else None for gradient, has in shared]


@contextmanager
def _other_process(model: nn.Module, loss: Loss) -> Iterator[_Other]:
    model.share_memory()
    gradients = [torch.zeros_like(parameter).share_memory_() for parameter in learning(model)]
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, model, gradients, loss), daemon=True)
    start_shielded(process)  # the process that trains ends this one
    theirs.close()
    try:
        yield _Other(ours, gradients)
    finally:
        ours.close()
        process.kill()  # it keeps nothing that would have to be saved
        process.join()


def _serve(connection: Connection, model: nn.Module, gradients: list[Tensor], loss: Loss) -> None:
    """Until the pipe is closed: the gradients of one part after the other, into shared memory."""
    end_with_parent()
    torch.set_num_threads(1)
    parameters = learning(model)
    with contextlib.suppress(EOFError, OSError):
        while True:
            part, weight = connection.recv()
            try:
                losses = backward(model, loss, part, weight)
                for shared, parameter in zip(gradients, parameters, strict=True):
                    if parameter.grad is not None:
                        shared.copy_(parameter.grad)
                connection.send((losses.numpy(), [parameter.grad is not None for parameter in parameters]))
            except Exception as error:
                connection.send(_Failed(portable(error), traceback.format_exc()))
