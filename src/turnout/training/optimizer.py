"""AdamW with a learning rate that warms up and falls."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch

WEIGHT_DECAY = 0.01
WARMUP_SHARE = 0.1
# New layers start from random numbers and have few steps to settle.
FRESH_RATE_FACTOR = 10.0
_PEAK = "peak_lr"


def adamw(
    model: torch.nn.Module, learning_rate: float, fresh: AbstractSet[str] = frozenset()
) -> torch.optim.AdamW:
    """An optimizer of all trainable parameters; matrices alone decay.

    Args:
        model: Already on its device.
        learning_rate: Peak rate of pretrained parameters.
        fresh: Names of the parameters that start from random numbers; they learn faster.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = learning_rate * (FRESH_RATE_FACTOR if name in fresh else 1.0)
            decay = WEIGHT_DECAY if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, _PEAK: rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
    """Set every group's rate for a 0-based step of `steps`; returns the share of the peak.

    It follows from the step alone, so that a resumed run has nothing to restore.
    """
    warmup = max(1, int(steps * WARMUP_SHARE))
    share = (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
    for group in optimizer.param_groups:
        group["lr"] = group[_PEAK] * share
    return share
