"""Checkpoints of a fit: one safetensors file, replaced by rename."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from turnout.errors import ArtifactError
from turnout.storage import storage_error
from turnout.training.disk import disk_errors
from turnout.training.report import EpochResult

CHECKPOINT_NAME = "checkpoint.safetensors"
# A checkpoint is four times the model; written more often, it would cost more than it saves.
EVERY_S = 300.0
_PROGRESS = "progress"


@dataclass(slots=True)
class Progress:
    """How far a fit has come.

    Attributes:
        epoch: The current epoch, 1-based.
        step: Steps done in it.
        loss_sum: Training loss over its rows so far.
        results: Of the finished epochs.
        best_weights: The weights after the best of them, on the CPU.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    results: list[EpochResult] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def best_epoch(self) -> EpochResult | None:
        """The epoch of least validation loss; None before the first is finished."""
        return min(self.results, key=lambda result: result.validation_loss, default=None)


class Checkpoint:
    """The checkpoint of one run.

    Args:
        folder: Where it lies; None to write none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = None if folder is None else folder / CHECKPOINT_NAME
        self._written_at_s = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last one is older than `EVERY_S`."""
        return self.path is not None and time.monotonic() - self._written_at_s > EVERY_S

    def write(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
    ) -> None:
        """Replace the checkpoint; killed in the middle, the earlier one stays.

        Raises:
            StorageError: If it cannot be written.
        """
        if self.path is None:
            return
        state = optimizer.state_dict()["state"]
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in progress.best_weights.items()}
        tensors |= {
            f"optimizer.{number}.{name}": value
            for number, values in state.items()
            for name, value in values.items()
        }
        # Tied weights are one tensor under two names, which the format does not allow.
        tensors = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        text = json.dumps(
            {
                "epoch": progress.epoch,
                "step": progress.step,
                "loss_sum": progress.loss_sum,
                "results": [asdict(result) for result in progress.results],
            }
        )
        partial = self.path.with_suffix(".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with disk_errors(partial.parent):
                save_file(tensors, partial, metadata={_PROGRESS: text})
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            with suppress(OSError):
                self.path.parent.rmdir()  # unless an earlier checkpoint is in it
            raise storage_error(self.path, error) from error
        self._written_at_s = time.monotonic()

    def read(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the checkpoint into model and optimizer; fresh progress where there is none.

        Raises:
            ArtifactError: If the checkpoint cannot be read.
        """
        if self.path is None or not self.path.is_file():
            return Progress()
        try:
            with safe_open(self.path, framework="pt") as file:
                stored_progress: dict[str, Any] = json.loads(file.metadata()[_PROGRESS])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            model.load_state_dict(_under("model", tensors))
            stored = optimizer.state_dict()
            stored["state"] = _by_parameter(_under("optimizer", tensors))
            optimizer.load_state_dict(stored)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{self.path}: not readable as a checkpoint of this run ({error}); expected what "
                "an earlier run left. Delete it and train from the start."
            ) from error
        results = [EpochResult(**result) for result in stored_progress.pop("results")]
        return Progress(**stored_progress, results=results, best_weights=_under("best", tensors))


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def _by_parameter(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    return state
