"""Options that make a step faster or smaller and change only the last digits of its result."""

from __future__ import annotations

import torch
from torch import nn

from training.model.backbones.interface import Backbone
from training.model.device import has_fast_bfloat16
from training.settings import ComputeSettings

MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SIZES = 64
"""Limit on compiled sizes of a block; `sd15`'s residual blocks alone have more sizes than torch's limit of 8."""


def speed_up(backbone: Backbone, settings: ComputeSettings) -> None:
    """Apply the settings to a backbone with its adapter; it stays on its device."""
    backbone.enable_gradient_checkpointing(settings.gradient_checkpointing)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):  # a convolution's output has the memory layout of its weight
            layer.weight.data = layer.weight.data.contiguous(memory_format=layout)
    if settings.frozen_bfloat16:
        halve_frozen(backbone)
    if settings.compile:
        torch.compiler.config.recompile_limit = max(torch.compiler.config.recompile_limit, SIZES)
        backbone.compile_blocks()


def halve_frozen(backbone: Backbone) -> None:
    """Store frozen matrices as bfloat16, which autocast would otherwise cast at every step.

    Trained parameters stay float32, and on a device without fast bfloat16 everything does.
    """
    device = next(backbone.parameters()).device
    if not has_fast_bfloat16(device):
        return
    for layer in backbone.modules():
        if isinstance(layer, MATRIX_LAYERS) and not any(p.requires_grad for p in layer.parameters(recurse=False)):
            for parameter in layer.parameters(recurse=False):
                parameter.data = parameter.data.bfloat16()
