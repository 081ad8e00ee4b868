"""The device and the precision of computations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from common.errors import PrivFedTalkError


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes the first GPU if there is one, else the CPU; any torch device name is accepted."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def open_device(name: str) -> torch.device:
    """The device that a user named; raises PrivFedTalkError if the name is unknown or the device cannot be used."""
    try:
        device = choose_device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PrivFedTalkError(
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}", "name auto, cpu, cuda or cuda:0"
        ) from error
    return device


def sent(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """x on a device; a copy to a GPU may still be under way when this returns.

    The copy to a GPU starts from pinned memory. A copy from other memory would wait until the GPU has finished all
    earlier work, so training could not launch a step before the last one has ended.
    """
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products run natively; emulated ones are slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch answers for the current device
            return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


_full_precision = ContextVar("full_precision", default=False)


@contextlib.contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """bfloat16 autocast if the hardware has it and `full_precision` is not active, else plain float32."""
    enabled = has_fast_bfloat16(device) and not _full_precision.get()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
        yield


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """No autocast inside the body; for optimisation over inputs, whose gradients bfloat16 makes piecewise constant."""
    token = _full_precision.set(True)
    try:
        yield
    finally:
        _full_precision.reset(token)


@contextlib.contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the body and restore its former state afterwards."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operations on one thread inside the body; the number of threads is put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """x as float32; float64, which gradient checks use, is kept."""
    return x if x.dtype == torch.float64 else x.float()


def narrowed(x: torch.Tensor) -> torch.Tensor:
    """x in autocast's precision if autocast is on, so that an input of several matrix products is cast only once."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(kind))
