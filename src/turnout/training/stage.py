"""The training stage: a data set folder in, a router folder out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from turnout.errors import SettingsError
from turnout.manifest import Manifest, Paths, read_manifest
from turnout.progress import OnProgress, silent
from turnout.stage import StageRun
from turnout.training.processes import joined_processes
from turnout.training.recipe import Recipe, Tracker
from turnout.training.report import TrainReport
from turnout.training.samples import read_dataset
from turnout.training.stopping import stop_requests

_OPTIMIZE_WITHOUT_DOCSTRINGS = 2
# Other versions of these give other numbers, so they are part of what a router was made from.
_LIBRARIES = ("onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers")


def train(
    dataset: Path,
    out: Path,
    *,
    base: str | Path | None = None,
    recipe: Recipe | None = None,
    max_tokens: int | None = None,
    log_to: Collection[Tracker] = (),
    on_progress: OnProgress = silent,
) -> TrainReport:
    """Fine-tune a base encoder on a data set, calibrate it on validation, export it.

    A linear model on words is fitted too; where it is better on validation, it is the router.

    Args:
        dataset: What `turnout build` wrote.
        out: The router folder; it appears only once complete.
        base: A local folder or a Hugging Face id, which is then downloaded; None for
            all-MiniLM-L6-v2, which is installed and needs no network.
        recipe: How to fine-tune.
        max_tokens: Token budget; by default 128 (session) or 192 (conversation).
        log_to: What records losses and rates, each where its own environment says; by default
            nothing.
        on_progress: Called at every step.

    Raises:
        ArtifactError: If the data set or the base encoder cannot be used, or the encoder cannot be
            exported.
        RecordError: If the rows cannot train a router (one label only, too few, …).
        SettingsError: If the token budget or the precision does not suit the encoder, the memory
            does not suffice, the loss diverges, a tracker is not installed or cannot record, or
            Python runs without docstrings.
        StoppedError: If a signal ended it; the same call resumes it.
        StorageError: If the folder cannot be written.
    """
    _require_docstrings()
    recipe = recipe or Recipe()
    local_base = [Path(base)] if base is not None and Path(base).is_dir() else []
    # A local base is known by its content; where it lies decides nothing.
    options = {"base": None if local_base else base, "max_tokens": max_tokens, **asdict(recipe)}
    inputs: dict[str, Paths] = {"dataset": dataset, "base": local_base}
    run = StageRun(out, Manifest.of("train", inputs, options, libraries=_LIBRARIES))
    with joined_processes() as processes, stop_requests() as stop:
        if earlier := processes.broadcast(_earlier_report(run) if processes.first else ""):
            return TrainReport.from_json(out, json.loads(earlier))
        samples = read_dataset(dataset, recipe.seed)

        # A thread that spins while it waits for the others keeps its core from whatever else the
        # machine runs; OpenMP reads this once, when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # torch takes seconds to load: bad rows and reruns are answered before.
        from turnout.training.checkpoint import Checkpoint
        from turnout.training.fitting import fit_router, write_router, write_words_router
        from turnout.training.loop import FitContext
        from turnout.training.tracking import TrackedRun, tracked

        work = _work_folder(run)
        place = run.output() if processes.first else nullcontext()
        tracked_run = TrackedRun(out, work, options)
        with (
            place as partial,
            tracked(log_to if processes.first else (), tracked_run) as on_metrics,
        ):
            shown = on_progress if processes.first else silent
            context = FitContext(processes, Checkpoint(work), stop, shown, on_metrics)
            name = None if base is None else str(base)
            fitted = None
            if recipe.model != "words":
                fitted = fit_router(
                    samples, base=name, recipe=recipe, max_tokens=max_tokens, context=context
                )
            if partial is not None:
                partial.mkdir()
                if fitted is None:
                    report = write_words_router(samples, name, recipe.seed, partial, shown)
                else:
                    report = write_router(fitted, partial, shown)
                run.manifest.counts.update(report.to_json())
        if not processes.first:
            return replace(
                TrainReport.from_json(out, json.loads(processes.broadcast(""))), fresh=True
            )
        shutil.rmtree(work, ignore_errors=True)
        processes.broadcast(json.dumps(report.to_json()))
        return replace(report, router=out)


def _earlier_report(run: StageRun) -> str:
    """The report of an earlier run on the same inputs as JSON; empty where there is none."""
    return json.dumps((read_manifest(run.out) or {})["counts"]) if run.is_done() else ""


def _work_folder(run: StageRun) -> Path:
    """Where a run of these inputs and options keeps its checkpoint, so that the next finds it."""
    return run.out.with_name(f".{run.out.name}.{run.manifest.key[:12]}.work")


def _require_docstrings() -> None:
    if sys.flags.optimize >= _OPTIMIZE_WITHOUT_DOCSTRINGS:
        raise SettingsError(
            "PYTHONOPTIMIZE=2 (or python -OO): found Python without docstrings; expected them, as "
            "transformers reads its own. Run it again with PYTHONOPTIMIZE=1 or without."
        )
