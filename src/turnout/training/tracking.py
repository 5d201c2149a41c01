"""Record losses and rates with TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from turnout.errors import SettingsError
from turnout.training.checkpoint import CHECKPOINT_NAME
from turnout.training.loop import OnMetrics, unrecorded
from turnout.training.recipe import Tracker


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as trackers see it.

    Attributes:
        out: The router folder; its name is the run's.
        work: Where the run keeps its checkpoint and its ids in the trackers.
        parameters: The options of the run.
    """

    out: Path
    work: Path
    parameters: Mapping[str, object]

    def id_in(self, tracker: Tracker) -> str | None:
        """The run's id in a tracker; None where there is no checkpoint to resume."""
        file = self._id_file(tracker)
        return file.read_text("utf-8") if self._resumes and file.is_file() else None

    def keep_id(self, tracker: Tracker, run_id: str) -> None:
        """Store the id for the run that resumes from the checkpoint."""
        self.work.mkdir(parents=True, exist_ok=True)
        self._id_file(tracker).write_text(run_id, "utf-8")

    def forget_ids(self) -> None:
        """Delete the ids of a run that left no checkpoint."""
        if not self._resumes:
            shutil.rmtree(self.work, ignore_errors=True)

    @property
    def _resumes(self) -> bool:
        return (self.work / CHECKPOINT_NAME).is_file()

    def _id_file(self, tracker: Tracker) -> Path:
        return self.work / f"{tracker}.id"


def tracker_folder(out: Path) -> Path:
    """The folder of TensorBoard's files: beside the router folder, whose files have digests."""
    return out.with_name(f"{out.name}.tensorboard")


@contextmanager
def tracked(trackers: Collection[Tracker], run: TrackedRun) -> Iterator[OnMetrics]:
    """Record while the block runs; a resumed run continues its record.

    Raises:
        SettingsError: If a tracker is not installed, or cannot record where its environment says.
    """
    if not trackers:
        yield unrecorded
        return
    try:
        with ExitStack() as stack:
            recorders = [
                stack.enter_context(_TRACKERS[name](run)) for name in dict.fromkeys(trackers)
            ]

            def on_metrics(step: int, metrics: Mapping[str, float]) -> None:
                for record in recorders:
                    record(step, metrics)

            yield on_metrics
    finally:
        run.forget_ids()


@contextmanager
def _tensorboard(run: TrackedRun) -> Iterator[OnMetrics]:
    library = _imported("torch.utils.tensorboard", "tensorboard")
    with library.SummaryWriter(tracker_folder(run.out)) as writer:

        def on_metrics(step: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)

        yield on_metrics


@contextmanager
def _mlflow(run: TrackedRun) -> Iterator[OnMetrics]:
    # Its import reports the use of the library to its makers, unless this is set.
    with _environment_default("MLFLOW_DISABLE_TELEMETRY", "true"):
        library = _imported("mlflow", "mlflow")
    known = run.id_in("mlflow")
    try:
        # A resumed run keeps its name and parameters.
        with library.start_run(run_id=known, run_name=None if known else run.out.name) as started:
            run.keep_id("mlflow", started.info.run_id)
            if not known:
                library.log_params(dict(run.parameters))
            yield lambda step, metrics: library.log_metrics(dict(metrics), step=step)
    except library.MlflowException as error:
        raise _refused(
            "mlflow", error, "MLFLOW_TRACKING_URI to name a store that takes the run"
        ) from error


@contextmanager
def _wandb(run: TrackedRun) -> Iterator[OnMetrics]:
    # It reports its errors to its makers, offline too, unless this is set.
    with _environment_default("WANDB_ERROR_REPORTING", "false"):
        library = _imported("wandb", "wandb")
        # Record options and metrics alone: no screen, code, packages or machine.
        settings = library.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        try:
            started = library.init(
                id=run.id_in("wandb"),
                resume="allow",
                name=run.out.name,
                config=dict(run.parameters),
                settings=settings,
            )
        except (library.Error, ValueError) as error:  # a ValueError is a variable it cannot read
            raise _refused(
                "wandb", error, "WANDB_API_KEY to be set, or WANDB_MODE=offline"
            ) from error
        with started:
            run.keep_id("wandb", started.id)
            yield lambda step, metrics: started.log(dict(metrics), step=step)


_TRACKERS: Mapping[Tracker, Callable[[TrackedRun], AbstractContextManager[OnMetrics]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _imported(module: str, tracker: Tracker) -> ModuleType:
    """A tracker's module, untyped, as it comes with an extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--log-to {tracker}: {error.name} is not installed; expected it to be. Install it "
            f"with: pip install 'turnout[{tracker}]'"
        ) from error


@contextmanager
def _environment_default(name: str, value: str) -> Iterator[None]:
    """Set a variable while the block runs, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _refused(tracker: Tracker, error: Exception, expected: str) -> SettingsError:
    reason = str(error).rstrip(".")
    return SettingsError(
        f"--log-to {tracker}: {reason}; expected {expected}. Change it, or leave --log-to out."
    )
