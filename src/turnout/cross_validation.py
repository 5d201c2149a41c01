"""Cross-validation: train one router per fold and evaluate it on the rows of that fold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from turnout.dataset.cells import SPLITS
from turnout.errors import RecordError
from turnout.evaluation.folds import pooled, score_fold
from turnout.evaluation.stage import EvaluateReport, earlier_report, write_report
from turnout.manifest import Manifest, Paths
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import ID2LABEL, LABEL_REASONING
from turnout.samples import DESCRIPTION_NAME, NO_LABEL, TRAFFIC_NAME, DatasetFolder
from turnout.stage import StageRun
from turnout.tables import read_known_labels
from turnout.training import Recipe, TrainReport, train

# Of the rows outside a fold, about one in eight chooses the epoch and fits the calibration.
_VALIDATION_PARTS = 8


class Fold(NamedTuple):
    """Rows of one fold, each shape `(…,)`."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def cross_validate(
    dataset: Path,
    out: Path,
    *,
    folds: int = 5,
    group_by: str | None = None,
    base: str | Path | None = None,
    recipe: Recipe | None = None,
    truth: Path | None = None,
    examples: int = 5,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> EvaluateReport:
    """Train and evaluate k routers on one data set; every row is a test row of exactly one.

    Rows of one group are in one fold, and intervals resample groups. The routers are not kept;
    `train_on_all` makes the one to serve.

    Args:
        dataset: What `turnout build` wrote; its own splits are put together.
        out: The folder for `report.json` and `report.html`; it appears only once complete.
        folds: How many, at least 2.
        group_by: `cv_group`, `conversation_id`, `user_id` or `group`; by default `cv_group`, and
            the conversation of rows without one.
        base: As in `turnout.training.train`.
        recipe: As in `turnout.training.train`.
        truth: What `turnout simulate` wrote beside its log; rows are then compared with it too.
        examples: Most confident mistakes of each kind that the report quotes.
        seed: Decides the folds and the resampling.
        on_progress: Called at every step.

    Raises:
        ArtifactError: If data set or base cannot be used.
        RecordError: If the column is empty, there are fewer groups than folds, a conversation lies
            in two groups, a fold would lack a label, or the truth does not fit.
        StoppedError: If a signal ended it; the same call goes on with the routers that are done.
        StorageError: If the folder cannot be written.
    """
    recipe = recipe or Recipe(seed=seed)
    options = {
        "folds": folds, "group_by": group_by, "base": None if base is None else str(base),
        "examples": examples, "seed": seed, **{f"recipe.{k}": v for k, v in asdict(recipe).items()},
    }  # fmt: skip
    inputs: dict[str, Paths] = {"dataset": dataset, "truth": truth}
    run = StageRun(out, Manifest.of("evaluate", inputs, options))
    if run.is_done():
        return earlier_report(out)
    truths = read_known_labels(truth) if truth else None
    data = DatasetFolder.read(dataset)
    table = _rows(dataset, group_by)
    plan = folds_of(table, folds, seed, where=f"{dataset}: {group_by or 'cv_group'}")
    work = out.with_name(f".{out.name}.{run.manifest.key[:12]}.work")
    scored = []
    for number, fold in enumerate(plan, 1):

        def step(name: str, done: int, total: int | None, number: int = number) -> None:
            on_progress(f"fold {number} of {folds}: {name}", done, total)

        rows, router = work / f"rows-{number}", work / f"router-{number}"
        _write_fold(data, table, fold, rows)
        train(rows, router, base=base, recipe=recipe, on_progress=step)
        scored.append(score_fold(router, rows, step))
    name = f"{folds} folds by {group_by or 'cv_group or conversation'}"
    content = pooled(data, scored, name=name, truths=truths, examples=examples, seed=seed)
    report = write_report(run, [content], on_progress)
    shutil.rmtree(work, ignore_errors=True)
    return report


def folds_of(table: pa.Table, folds: int, seed: int, *, where: str) -> list[Fold]:
    """Rows of every fold: whole groups, labels as even as groups allow.

    Args:
        table: Its columns `cv_group` (the group of every row) and `label`.
        folds: How many.
        seed: Decides which groups go together.
        where: Name of the groups for error messages.

    Raises:
        RecordError: If there are too few groups, or a fold would lack a label.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups, labels = _groups_and_labels(table)
    if (n_groups := len(set(groups))) < max(folds, 3):
        raise RecordError(
            f"{where}: {n_groups} groups in {len(groups):,} rows; expected at least "
            f"{max(folds, 3)}, one a fold and one to validate on. Ask for fewer --folds, or group "
            "by another column."
        )
    _require_labels(labels, folds, where)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    plan = []
    for number, (rest, test) in enumerate(splitter.split(groups, _strata(labels), groups), 1):
        parts = _parts(rest, groups, labels, seed)
        if parts is None:
            raise RecordError(
                f"{where}: fold {number} of {folds} leaves no groups with both labels to train and "
                "to validate on; expected both in each. Ask for fewer --folds, or group by another "
                "column."
            )
        plan.append(Fold(*parts, test))
    return plan


def train_on_all(
    dataset: Path,
    out: Path,
    *,
    group_by: str | None = None,
    base: str | Path | None = None,
    recipe: Recipe | None = None,
    on_progress: OnProgress = silent,
) -> TrainReport:
    """Train the router to serve on all rows of a data set, those of its test split too.

    About one row in eight chooses an encoder's epoch and fits the calibration; a linear model on
    words learns from these too.

    Args:
        dataset: As in `cross_validate`.
        out: The router folder; it appears only once complete.
        group_by: As in `cross_validate`; rows to validate on are whole groups.
        base: As in `turnout.training.train`.
        recipe: As in `turnout.training.train`.
        on_progress: Called at every step.

    Raises:
        ArtifactError: If data set or base cannot be used.
        RecordError: If no groups with both labels can be set apart to validate on.
        StoppedError: If a signal ended it; the same call goes on.
        StorageError: If the folder cannot be written.
    """
    recipe = recipe or Recipe()
    data, table = DatasetFolder.read(dataset), _rows(dataset, group_by)
    groups, labels = _groups_and_labels(table)
    parts = _parts(np.arange(len(labels)), groups, labels, recipe.seed)
    if parts is None:
        raise RecordError(
            f"{dataset}: {group_by or 'cv_group'}: no groups with both labels to train and to "
            "validate on; expected both in each. Group by another column."
        )
    with TemporaryDirectory(prefix="turnout-") as folder:
        rows = Path(folder) / "rows"
        _write_fold(data, table, Fold(*parts, np.arange(0)), rows)
        if (dataset / TRAFFIC_NAME).is_file():
            shutil.copyfile(dataset / TRAFFIC_NAME, rows / TRAFFIC_NAME)
        return train(rows, out, base=base, recipe=recipe, on_progress=on_progress)


def _parts(
    rows: NDArray[np.int64], groups: NDArray[np.object_], labels: NDArray[np.int8], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Of these rows some to train and some to validate on: whole groups, both labels in each."""
    for parts in _inner_splits(_strata(labels[rows]), groups[rows], seed):
        train_rows, validation_rows = (rows[part] for part in parts)
        if _has_both_labels(labels[train_rows]) and _has_both_labels(labels[validation_rows]):
            return train_rows, validation_rows
    return None


def _groups_and_labels(table: pa.Table) -> tuple[NDArray[np.object_], NDArray[np.int8]]:
    groups = np.asarray(table["cv_group"].to_pylist(), dtype=object)
    return groups, table["label"].fill_null(NO_LABEL).to_numpy()


def _strata(labels: NDArray[np.int8]) -> NDArray[np.int64]:
    """1 also for rows without a label: scikit-learn would warn of a class of few rows."""
    return np.where(labels == LABEL_REASONING, 0, 1)


def _inner_splits(
    strata: NDArray[np.int64], groups: NDArray[np.object_], seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Splits of rows into training and validation, the one with the most training rows first."""
    from sklearn.model_selection import StratifiedGroupKFold

    rarest = int(np.bincount(strata, minlength=2).min())
    for parts in range(min(_VALIDATION_PARTS, len(set(groups)), rarest), 1, -1):
        splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        yield from splitter.split(groups, strata, groups)


def _require_labels(labels: NDArray[np.int8], folds: int, where: str) -> None:
    for label, name in ID2LABEL.items():
        n_rows = int((labels == label).sum())
        if n_rows < folds:
            raise RecordError(
                f"{where}: {n_rows} rows with label {label} ({name}); expected at least {folds}, "
                "one a fold. Ask for fewer --folds, or build from a longer log."
            )


def _has_both_labels(labels: NDArray[np.int8]) -> bool:
    return set(ID2LABEL) <= set(labels.tolist())


def _rows(dataset: Path, group_by: str | None) -> pa.Table:
    """All rows of a data set, with their group as `cv_group`."""
    table = pa.concat_tables([pq.read_table(dataset / f"{name}.parquet") for name in SPLITS])
    conversations = table["conversation_id"].to_pylist()
    named = table[group_by or "cv_group"].to_pylist()
    if group_by is not None and not any(named):
        raise RecordError(
            f"{dataset}: {group_by}: none of {len(named):,} rows has one; expected values to group "
            "by. Group by another column, or leave --group-by out."
        )
    groups = [name or row for name, row in zip(named, conversations, strict=True)]
    of_conversation: dict[str, str] = {}
    for conversation, group in zip(conversations, groups, strict=True):
        other = of_conversation.setdefault(conversation, group)
        if other != group:
            raise RecordError(
                f"{dataset}: conversation {conversation} lies in the groups {other} and {group}; "
                "expected one group a conversation. Group by another column."
            )
    place = table.schema.get_field_index("cv_group")
    return table.set_column(place, "cv_group", pa.array(groups, pa.string()))


def _write_fold(data: DatasetFolder, table: pa.Table, fold: Fold, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(SPLITS, fold, strict=True):
        write_parquet(table.take(pa.array(np.sort(rows))), folder / f"{name}.parquet")
    text = json.dumps(data.description, indent=2, sort_keys=True) + "\n"
    (folder / DESCRIPTION_NAME).write_text(text, encoding="utf-8")
