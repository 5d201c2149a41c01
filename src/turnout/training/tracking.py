"""What a fit measures → a tracker's files, for its own viewer; knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from turnout.training.loop import OnMetrics, unrecorded
from turnout.training.recipe import Tracker


def tracker_folder(out: Path) -> Path:
    """Where the files go: beside the router folder, whose own files are fixed by their digests."""
    return out.with_name(f"{out.name}.tensorboard")


@contextmanager
def tracked(tracker: Tracker | None, out: Path) -> Iterator[OnMetrics]:
    """Record while the block runs; what a resumed run records goes on in the same place.

    Raises:
        ModuleNotFoundError: If the tracker is not installed.
    """
    if tracker is None:
        yield unrecorded
        return
    # Untyped, and there only with the extra.
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tracker_folder(out)) as writer:

        def on_metrics(step: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)

        yield on_metrics
