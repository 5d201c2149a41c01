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

from turnout.progress import OnProgress
from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.routing.encoding import TokenIds
from turnout.training.batches import Batch, batches
from turnout.training.samples import Samples

WEIGHT_DECAY = 0.01
WARMUP_SHARE = 0.1
MAX_GRADIENT_NORM = 1.0
# The head starts from random numbers and has few steps to settle.
HEAD_RATE_FACTOR = 10.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fine-tune.

    Attributes:
        epochs: Passes over the training rows, at most; the best one is kept.
        learning_rate: Peak rate of the encoder; warmed up over a tenth of the steps, then linear
            to zero.
        batch_size: Rows a step.
        seed: Decides the head's start and the order of rows.
    """

    epochs: int = 3
    learning_rate: float = 5e-5
    batch_size: int = 32
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch gave on validation.

    Attributes:
        epoch: 1-based.
        train_loss: Mean weighted cross-entropy in nats.
        validation_loss: The same on validation.
        validation_auroc: Area under ROC for the reasoning class, labelled rows only.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_auroc: float


def fine_tune(
    model: transformers.PreTrainedModel,
    train: tuple[Samples, Sequence[TokenIds]],
    validation: tuple[Samples, Sequence[TokenIds]],
    recipe: Recipe,
    *,
    pad_id: int,
    on_progress: OnProgress,
) -> list[EpochResult]:
    """Fine-tune `model` in place; it ends with the weights of the epoch of least validation loss.

    The loss is cross-entropy against the soft target, weighted by row. The same seed on the same
    machine gives the same weights.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    samples, tokens = train
    steps = recipe.epochs * math.ceil(len(tokens) / recipe.batch_size)
    optimizer = _optimizer(model, recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    order = np.random.default_rng(recipe.seed)
    names = input_names(model)
    results: list[EpochResult] = []
    best: dict[str, torch.Tensor] = {}
    done = 0
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        total = 0.0
        for batch in batches(
            tokens, recipe.batch_size, pad_id=pad_id, input_names=names, order=order
        ):
            loss = _loss(_logits(model, batch, device), samples, batch.rows)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += float(loss.detach()) * len(batch.rows)
            done += 1
            on_progress("fine-tune", done, steps)
        logits = predict(model, validation[1], pad_id)
        result = _epoch_result(epoch, total / len(tokens), logits, validation[0])
        if not results or result.validation_loss < min(r.validation_loss for r in results):
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        results.append(result)
    model.load_state_dict(best)
    model.eval()
    model.to("cpu")
    return results


def predict(
    model: transformers.PreTrainedModel,
    tokens: Sequence[TokenIds],
    pad_id: int,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Logits of shape `(n, 2)`, in row order."""
    model.eval()
    logits = np.zeros((len(tokens), 2), np.float32)  # (n, 2)
    with torch.inference_mode():
        for batch in batches(tokens, batch_size, pad_id=pad_id, input_names=input_names(model)):
            logits[batch.rows.numpy()] = _logits(model, batch, model.device).float().cpu().numpy()
    return logits


def input_names(model: transformers.PreTrainedModel) -> frozenset[str]:
    """What the encoder takes: `token_type_ids` only where it has embeddings for them."""
    names = {"input_ids", "attention_mask"}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.add("token_type_ids")
    return frozenset(names)


def _logits(
    model: transformers.PreTrainedModel, batch: Batch, device: torch.device
) -> torch.Tensor:
    inputs = {name: value.to(device) for name, value in batch.inputs.items()}
    # On CPUs bfloat16 pays only with hardware support; elsewhere it is many times slower.
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits: torch.Tensor = model(**inputs).logits
    return logits


def _loss(logits: torch.Tensor, samples: Samples, rows: torch.Tensor) -> torch.Tensor:
    reasoning = torch.as_tensor(samples.targets[rows.numpy()], device=logits.device)  # (b,)
    weight = torch.as_tensor(samples.weights[rows.numpy()], device=logits.device)  # (b,)
    target = torch.zeros_like(logits, dtype=torch.float32)
    target[:, LABEL_REASONING] = reasoning
    target[:, LABEL_FAST] = 1 - reasoning
    per_row = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
    # Divided by rows, not by the batch's weight: a batch of light rows is a light step.
    return (per_row * weight).mean() / float(samples.weights.mean())


def _epoch_result(
    epoch: int, train_loss: float, logits: NDArray[np.float32], validation: Samples
) -> EpochResult:
    rows = torch.arange(len(validation))
    loss = float(_loss(torch.as_tensor(logits), validation, rows))
    labelled = validation.labelled
    margin = logits[:, LABEL_REASONING] - logits[:, LABEL_FAST]
    auroc = roc_auc_score(validation.labels[labelled] == LABEL_REASONING, margin[labelled])
    return EpochResult(epoch, train_loss, loss, float(auroc))


def _optimizer(model: transformers.PreTrainedModel, learning_rate: float) -> torch.optim.AdamW:
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = learning_rate * (HEAD_RATE_FACTOR if _is_head(name) else 1.0)
        decay = 0.0 if parameter.ndim < 2 else WEIGHT_DECAY
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()], fused=True
    )


def _is_head(name: str) -> bool:
    return name.startswith(("classifier.", "score.", "head."))


def _rate(step: int, steps: int) -> float:
    warmup = max(1, int(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))
