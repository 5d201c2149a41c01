"""The precision of matrix products: bfloat16 where machine and encoder have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import transformers

from turnout.errors import SettingsError
from turnout.training.recipe import Precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a model runs; its weights stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device, precision))


@contextmanager
def quick_attention(model: transformers.PreTrainedModel, precision: Precision) -> Iterator[None]:
    """Use the attention that trains fastest on the device while the block runs.

    On a CPU in bfloat16 the fused attention takes four times as long backwards as the plain one.
    """
    before = model.config._attn_implementation
    if model.device.type == "cpu" and has_bfloat16(model.device, precision):
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def trains_in_bfloat16(
    model: transformers.PreTrainedModel, precision: Precision, logits: Callable[[], torch.Tensor]
) -> bool:
    """Whether the encoder runs in bfloat16, forwards and backwards.

    Some encoders (DeBERTa) mix precisions, and torch refuses that; one batch shows it.

    Args:
        model: On its device.
        precision: What the user asked for.
        logits: Computes the logits of a few rows, with `precision`.

    Raises:
        SettingsError: If bfloat16 was asked for and the encoder does not run in it.
    """
    try:
        logits().float().sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if precision == "auto":
            return False
        raise SettingsError(
            f"--precision bfloat16: {type(model).__name__} does not run in it "
            f"({str(error).strip().splitlines()[0]}); expected float32. Leave --precision out."
        ) from error
    finally:
        model.zero_grad()
    return True


def has_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether to multiply in bfloat16 there, as far as user and machine decide."""
    return precision == "bfloat16" or (precision == "auto" and _multiplies_bfloat16(device))


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has the instructions: emulated, it is many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
