"""In which numbers matrices are multiplied, by what the machine can do; knows no model."""

from __future__ import annotations

import torch

from turnout.training.recipe import Precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a model computes; its weights stay in float32."""
    bfloat16 = precision == "bfloat16" or (precision == "auto" and _multiplies_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device does it itself: an emulation is many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
