"""Gradients of a batch by two processes of one thread each.

Several threads that share each small operation wait for one another at its end; beside one other busy process that
makes training 6 to 15 times slower. Processes with a part of the batch each meet once a step.

A batch is always cut into the same parts, each is computed on one thread, and their gradients are added in the same
order. So the result is the same bit for bit with one worker and with two.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from common.workers import end_with_parent, portable
from common.workers.processes import start_shielded

PARTS = 2
"""Parts of a batch; a fixed number, for another one adds gradients in another order."""

Part = TypeVar("Part")
Loss = Callable[[nn.Module, Part], Tensor]
"""The mean losses of a part, [K] or a scalar; training descends on the first, or the scalar. Whatever is random in them
follows from the part alone. A function at the top of a module, or a `functools.partial` of one: another process
imports it."""


def halves(count: int) -> list[slice]:
    """The parts of a batch of `count` items, of nearly equal size, the larger first; none is empty."""
    edges = [-(-count * number // PARTS) for number in range(PARTS + 1)]
    cuts = [slice(start, stop) for start, stop in pairwise(edges)]
    return [cut for cut in cuts if cut.stop > cut.start]


class Gradients(Generic[Part]):
    """Sets a model's gradients to those of a batch; see `open_gradients`."""

    def __init__(self, model: nn.Module, loss: Loss[Part], whole: bool, other: _Other[Part] | None) -> None:
        self._model, self._loss, self._whole, self._other = model, loss, whole, other
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def __call__(self, count: int, part: Callable[[slice], Part]) -> Tensor:
        """The mean losses of a batch of `count` items, of which `part` gives some; gradients that were there go."""
        cuts = [slice(0, count)] if self._whole else halves(count)
        parts = [((cut.stop - cut.start) / count, part(cut)) for cut in cuts]
        if self._other is not None and len(parts) > 1:
            self._other.begin(parts[1:])
        total = self._add_up(parts[:1])
        if len(parts) > 1:
            first = [parameter.grad for parameter in self._parameters]
            if self._other is not None:
                further, theirs = self._other.finish()
            else:
                further = self._add_up(parts[1:])
                theirs = [parameter.grad for parameter in self._parameters]
            for parameter, ours, other in zip(self._parameters, first, theirs, strict=True):
                parameter.grad = _sum(ours, other)
            total = total + further
        return total

    def _add_up(self, parts: Sequence[tuple[float, Part]]) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        return add_up(self._model, self._loss, parts)


@contextmanager
def open_gradients(
    model: nn.Module, loss: Loss[Part], workers: int, device: torch.device | None = None
) -> Iterator[Gradients[Part]]:
    """What sets the model's gradients to those of a batch, see `Gradients`; all operations inside use one thread.

    With two or more `workers` and a model on the CPU, all parts but the first are computed by another process, which
    shares the model's tensors: an optimizer that changes them in place changes them there as well. With one worker this
    process does it all. On a GPU (`device`) batches are not cut.
    """
    if device is not None and device.type != "cpu":
        yield Gradients(model, loss, True, None)
        return
    with one_thread(), contextlib.ExitStack() as stack:
        other = stack.enter_context(_other_process(model, loss)) if workers > 1 else None
        yield Gradients(model, loss, False, other)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operations on one thread inside the body; the number of threads is put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def add_up(model: nn.Module, loss: Loss[Part], parts: Sequence[tuple[float, Part]]) -> Tensor:
    """Add the gradients of the weighted parts to the model's; the weighted sum of their losses, without a gradient."""
    total: Tensor | None = None
    for weight, part in parts:
        losses = weight * loss(model, part)
        losses.reshape(-1)[0].backward()
        total = losses.detach() if total is None else total + losses.detach()
    assert total is not None, "a batch without parts"
    return total


def _sum(ours: Tensor | None, further: Tensor | None) -> Tensor | None:
    if ours is None or further is None:
        return further if ours is None else ours
    return ours + further


@dataclass(frozen=True)
class _Failed:
    """The work of the other process raised an error."""

    error: Exception
    trace: str


class _Other(Generic[Part]):
    """The other process, seen from the one that trains."""

    def __init__(self, connection: Connection, gradients: list[Tensor]) -> None:
        self._connection, self._gradients = connection, gradients

    def begin(self, parts: Sequence[tuple[float, Part]]) -> None:
        """Let it begin with the weighted parts."""
        self._connection.send_bytes(_packed(parts))

    def finish(self) -> tuple[Tensor, list[Tensor | None]]:
        """Wait for the losses and the gradients; None for a parameter that the loss does not depend on."""
        try:
            reply = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise RuntimeError("the process with the other half of the batch died (killed for memory?)") from error
        if isinstance(reply, _Failed):
            reply.error.add_note(f"in a worker process:\n{reply.trace}")
            raise reply.error
        losses, given = reply
        return torch.from_numpy(losses), [
            gradient if has else None for gradient, has in zip(self._gradients, given, strict=True)
        ]


@contextmanager
def _other_process(model: nn.Module, loss: Loss[Part]) -> Iterator[_Other[Part]]:
    model.share_memory()
    gradients = [torch.zeros_like(each).share_memory_() for each in model.parameters() if each.requires_grad]
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


def _serve(connection: Connection, model: nn.Module, gradients: list[Tensor], loss: Loss[Any]) -> None:
    """Until the pipe is closed: the gradients of one batch's further parts after the other, into shared memory."""
    end_with_parent()
    torch.set_num_threads(1)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with contextlib.suppress(EOFError, OSError):
        while True:
            parts = pickle.loads(connection.recv_bytes())
            try:
                for parameter in parameters:
                    parameter.grad = None
                losses = add_up(model, loss, parts)
                for place, parameter in zip(gradients, parameters, strict=True):
                    if parameter.grad is not None:
                        place.copy_(parameter.grad)
                reply: Any = losses.numpy(), [parameter.grad is not None for parameter in parameters]
            except Exception as error:
                reply = _Failed(portable(error), traceback.format_exc())
            connection.send_bytes(pickle.dumps(reply))


class _Packer(pickle.Pickler):
    """Tensors travel as arrays: torch's own way makes a file in shared memory of each."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.from_numpy, (np.ascontiguousarray(value.detach().numpy()),)
        return NotImplemented


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Packer(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()
