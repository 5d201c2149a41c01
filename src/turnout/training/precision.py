"""In which numbers matrices are multiplied, by what the machine can do; knows no data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers

from turnout.training.recipe import Precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a model computes; its weights stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_in_bfloat16(device, precision))


@contextmanager
def quick_attention(model: transformers.PreTrainedModel, precision: Precision) -> Iterator[None]:
    """Attention as the device learns it quickest, for a while.

    On a CPU in bfloat16 the fused attention takes four times as long backwards as the plain one.
    """
    before = model.config._attn_implementation
    if model.device.type == "cpu" and _in_bfloat16(model.device, precision):
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _in_bfloat16(device: torch.device, precision: Precision) -> bool:
    return precision == "bfloat16" or (precision == "auto" and _multiplies_bfloat16(device))


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device does it itself: an emulation is many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
