"""What each source of evidence adds, against the truth of two simulated logs.

The simulator's users give no feedback and do not mean to complain or to repeat themselves, and no
judge or person reads its turns: people, outcomes and a judge are drawn from the truth with the
error rates printed here.

Usage: python benchmarks/evidence.py FOLDER
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from turnout.catalog import load_catalog
from turnout.engine import connect
from turnout.labels.aggregation import (
    STATED_ACCURACIES,
    SourceAccuracies,
    Votes,
    calibrated,
    check_votes,
    fitted_accuracies,
    probability,
)
from turnout.labels.evidence import CODES, votes
from turnout.labels.external_votes import (
    ExternalVotes,
    human_labels,
    judged_needs,
    measured_outcomes,
)
from turnout.logs import ingest
from turnout.simulation import simulate
from turnout.stats.calibration import calibration_error
from turnout.tables import read_known_labels
from turnout.turns import read_turns

Indices = NDArray[np.int64]

SEEDS = (7, 8)
CONVERSATIONS = 2000
GROUPS = {
    "model": ("model_first", "model_later"),
    "switches": ("upgrade", "before_upgrade", "downgrade"),
    "effort": ("effort",),
    "repeats and complaints": ("repeated_request", "complaint"),
    "people, 5 % of turns, 5 % wrong": ("human",),
    "outcomes, 10 % of turns, 15 % wrong": ("outcome",),
    "judge, 10 % of turns, 20 or 35 % wrong": ("judge", "judge_leaning"),
}
LOG = ("model", "switches", "effort", "repeats and complaints")


def simulated(folder: Path, seed: int) -> tuple[Votes, Votes, Indices, Indices]:
    """Votes, truth, turn index and conversation of one log."""
    simulate(folder / f"log{seed}", n_conversations=CONVERSATIONS, seed=seed)
    turns = folder / f"turns{seed}.parquet"
    ingest([folder / f"log{seed}" / "turns.parquet"], turns)
    known = read_known_labels(folder / f"log{seed}" / "truth.parquet")
    external = _external(folder, known, np.random.default_rng(seed))
    backend = connect()
    table = backend.to_pyarrow(
        votes(read_turns(backend, turns), backend, load_catalog(), external).order_by(
            "conversation_id", "turn_index"
        )
    )
    keys = zip(table["conversation_id"].to_pylist(), table["turn_index"].to_pylist(), strict=True)
    truth = np.asarray([int(known[key] == 0) for key in keys], np.int8)
    cast = np.stack([table[code].to_numpy() for code in CODES], axis=1).astype(np.int8)
    conversation = np.unique(table["conversation_id"].to_numpy(), return_inverse=True)[1]
    return cast, truth, table["turn_index"].to_numpy(), conversation


def _external(
    folder: Path, known: Mapping[tuple[str, int], int], rng: np.random.Generator
) -> list[ExternalVotes]:
    keys = sorted(known)

    def drawn(share: float, wrong: float) -> Iterator[tuple[tuple[str, int], bool]]:
        for key in keys:
            if rng.random() < share:
                needs = known[key] == 0
                yield key, bool(needs) != bool(rng.random() < wrong)

    human = [(c, t, "reasoning" if v else "fast") for (c, t), v in drawn(0.05, 0.05)]
    outcome = [(c, t, float(v), float(not v)) for (c, t), v in drawn(0.10, 0.15)]
    needs = [(c, t, 5 if v else 1) for (c, t), v in drawn(0.07, 0.20)]
    taken = {row[:2] for row in needs}
    leaning = [(c, t, 4 if v else 2) for (c, t), v in drawn(0.03, 0.35)]
    needs += [row for row in leaning if row[:2] not in taken]
    names = ("conversation_id", "turn_index")
    return [
        reader(_written(folder / f"{reader.__name__}.parquet", (*names, *columns), rows))
        for reader, columns, rows in (
            (human_labels, ("label",), human),
            (measured_outcomes, ("reasoning_score", "fast_score"), outcome),
            (judged_needs, ("need",), needs),
        )
    ]


def _written(path: Path, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Path:
    columns = zip(*rows, strict=True)
    pq.write_table(pa.table({n: list(c) for n, c in zip(names, columns, strict=True)}), path)
    return path


def only(cast: Votes, groups: Sequence[str]) -> Votes:
    """The votes of some groups alone."""
    wanted = {code for group in groups for code in GROUPS[group]}
    return np.where(np.isin(CODES, list(wanted))[None, :], cast, 0).astype(np.int8)


def print_row(
    name: str,
    cast: Votes,
    truth: Votes,
    index: Indices,
    accuracies: SourceAccuracies = STATED_ACCURACIES,
) -> None:
    """One row: agreement with the truth on turns with evidence, later ones, AUROC, calibration."""
    p = probability(cast, accuracies)
    has_vote = (cast != 0).any(axis=1)
    right = (p >= 0.5) == (truth == 1)
    ece = calibration_error(p[has_vote], truth[has_vote] == 1)
    print(
        f"| {name} | {has_vote.mean():.1%} | {right[has_vote].mean():.1%} "
        f"| {right[has_vote & (index > 1)].mean():.1%} "
        f"| {roc_auc_score(truth[has_vote], p[has_vote]):.3f} | {ece:.3f} |"
    )


def main(folder: Path) -> None:
    """Print one table a log."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        cast, truth, index, conversation = simulated(folder, seed)
        print(f"\nseed {seed}: {len(truth):,} turns, {truth.mean():.1%} need reasoning\n")
        print("| evidence | of turns | agree with the truth | of later turns | AUROC | ECE |")
        print("|---|---|---|---|---|---|")
        for group in GROUPS:
            print_row(f"{group} alone", only(cast, [group]), truth, index)
        print_row("log", only(cast, LOG), truth, index)
        for group in LOG:
            print_row(
                f"log without {group}", only(cast, [g for g in LOG if g != group]), truth, index
            )
        for group in list(GROUPS)[len(LOG) :]:
            print_row(f"log and {group}", only(cast, [*LOG, group]), truth, index)
            own = (only(cast, [group]) != 0).any(axis=1)
            print_row("its own turns: log", only(cast, LOG)[own], truth[own], index[own])
            print_row(
                "its own turns: log and it", only(cast, [*LOG, group])[own], truth[own], index[own]
            )
        print_row("all", cast, truth, index)
        rng = np.random.default_rng(seed)
        for n in (100, 1000, len(truth)):
            known = np.full(len(truth), -1, np.int8)
            rows = rng.permutation(len(truth))[:n]
            known[rows] = truth[rows]
            log = only(cast, LOG)
            fitted = fitted_accuracies(check_votes(log, known, conversation))
            print_row(f"log, accuracies of {n:,} known turns", log, truth, index, fitted)
            fitted = calibrated(fitted, log, known, np.ones(len(CODES), bool))
            print_row(f"log, calibrated on {n:,} known turns", log, truth, index, fitted)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
