"""The fine-tuning loop: batches in, the best epoch's weights out; knows no file and no export."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from turnout.errors import SettingsError
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.encoding import TokenIds
from turnout.samples import Samples
from turnout.training.batches import Batch, batches
from turnout.training.calibration import refined_loss
from turnout.training.encoder import BaseEncoder, input_names
from turnout.training.recipe import Recipe
from turnout.training.report import EpochResult

WEIGHT_DECAY = 0.01
WARMUP_SHARE = 0.1
MAX_GRADIENT_NORM = 1.0
# A new head starts from random numbers and has few steps to settle.
HEAD_RATE_FACTOR = 10.0
# Epochs without a lower validation loss before the rest is left out.
PATIENCE_EPOCHS = 1


@dataclass(frozen=True, slots=True)
class TokenisedSplit:
    """A split as the encoder reads it; `tokens[i]` belongs to row i of `samples`."""

    samples: Samples
    tokens: Sequence[TokenIds]

    def tokens_of(self, rows: NDArray[np.int64]) -> list[TokenIds]:
        """The tokens of some rows, in their order."""
        return [self.tokens[int(row)] for row in rows]


def fine_tune(
    encoder: BaseEncoder,
    train: TokenisedSplit,
    validation: TokenisedSplit,
    recipe: Recipe,
    on_progress: OnProgress = silent,
) -> tuple[EpochResult, ...]:
    """Fine-tune the encoder's model in place, on a GPU where there is one.

    It ends on the CPU, with the weights of the epoch of least validation loss after calibration.
    The loss is cross-entropy against the soft target, weighted by row. The same seed on the same
    machine gives the same weights.

    The model stays in evaluation mode: dropout's random numbers cost a quarter of a step on a
    CPU, and over few epochs the early stop does its work.

    Raises:
        SettingsError: If the loss diverges.
    """
    model = encoder.model.to("cuda" if torch.cuda.is_available() else "cpu")
    steps_an_epoch = math.ceil(len(train.tokens) / recipe.batch_size)
    steps = recipe.epochs * steps_an_epoch
    optimizer = _optimizer(encoder, recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    order = np.random.default_rng(recipe.seed)
    results: list[EpochResult] = []
    best: dict[str, torch.Tensor] = {}
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for step, batch in enumerate(
            batches(train.tokens, recipe.batch_size, pad_id=_pad_id(model), order=order)
        ):
            loss = _loss(_logits(model, batch), train.samples, batch.rows)
            total += _finite(float(loss.detach()), recipe) * len(batch.rows)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            on_progress("fine-tune", (epoch - 1) * steps_an_epoch + step + 1, steps)
        logits = predict(model, validation.tokens)
        results.append(_epoch_result(epoch, total / len(train.tokens), logits, validation.samples))
        _finite(results[-1].validation_loss, recipe)
        kept = min(results, key=lambda result: result.validation_loss)
        if kept.epoch == epoch:
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        elif epoch - kept.epoch >= PATIENCE_EPOCHS:
            on_progress("fine-tune", steps, steps)
            break
    model.load_state_dict(best)
    model.to("cpu")
    return tuple(results)


def predict(
    model: transformers.PreTrainedModel, tokens: Sequence[TokenIds], batch_size: int = 64
) -> NDArray[np.float32]:
    """Logits of shape `(n, 2)`, in row order."""
    logits = np.zeros((len(tokens), 2), np.float32)  # (n, 2)
    with torch.inference_mode():
        for batch in batches(tokens, batch_size, pad_id=_pad_id(model)):
            logits[batch.rows] = _logits(model, batch).float().cpu().numpy()
    return logits


def _pad_id(model: transformers.PreTrainedModel) -> int:
    return model.config.pad_token_id or 0


def _logits(model: transformers.PreTrainedModel, batch: Batch) -> torch.Tensor:
    device: torch.device = model.device
    inputs = {name: getattr(batch, name).to(device) for name in input_names(model)}
    # A CPU without bfloat16 instructions emulates it, many times slower; so do older GPUs.
    bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        logits: torch.Tensor = model(**inputs).logits
    return logits


def _loss(logits: torch.Tensor, samples: Samples, rows: NDArray[np.int64]) -> torch.Tensor:
    reasoning = torch.as_tensor(samples.targets[rows], device=logits.device)  # (b,)
    weight = torch.as_tensor(samples.weights[rows], device=logits.device)  # (b,)
    target = torch.zeros_like(logits, dtype=torch.float32)  # (b, 2)
    target[:, LABEL_REASONING] = reasoning
    target[:, LABEL_FAST] = 1 - reasoning
    per_row = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
    # Divided by rows, not by the batch's weight: a batch of light rows is a light step.
    return (per_row * weight).mean() / float(samples.weights.mean())


def _finite(loss: float, recipe: Recipe) -> float:
    if not math.isfinite(loss):
        raise SettingsError(
            f"--learning-rate: with {recipe.learning_rate:g} the loss became {loss}; expected it "
            "to stay finite. Choose a lower rate."
        )
    return loss


def _epoch_result(
    epoch: int, train_loss: float, logits: NDArray[np.float32], validation: Samples
) -> EpochResult:
    margins = np.float64(logits[:, LABEL_REASONING]) - logits[:, LABEL_FAST]  # (n,)
    if not np.isfinite(margins).all():
        return EpochResult(epoch, train_loss, math.nan, math.nan)
    loss = refined_loss(
        margins, validation.targets.astype(np.float64), validation.weights.astype(np.float64)
    )
    labelled = validation.labelled
    needs_reasoning = validation.labels[labelled] == LABEL_REASONING
    return EpochResult(
        epoch, train_loss, loss, float(roc_auc_score(needs_reasoning, margins[labelled]))
    )


def _optimizer(encoder: BaseEncoder, learning_rate: float) -> torch.optim.AdamW:
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in encoder.model.named_parameters():
        rate = learning_rate * (HEAD_RATE_FACTOR if name in encoder.fresh else 1.0)
        decay = WEIGHT_DECAY if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()], fused=True
    )


def _rate(step: int, steps: int) -> float:
    warmup = max(1, int(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))
