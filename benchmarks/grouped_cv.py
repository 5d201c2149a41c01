"""Conversation routers on turns whose need was measured; results in docs/results/few-labels.md.

Usage: python benchmarks/grouped_cv.py TABLE.parquet [--folds K] [--drawings R] [--model M] …

TABLE holds one row a turn: `messages` (role, content; up to and with the current user message),
`turn_index`, `conversation_id`, `reasoning_score` and `fast_score` in [0, 1], `label` (0 reasoning,
1 fast, null neither), and the column that folds and intervals hold together (`cv_group`).

Every fold is scored by a router of the other folds: `turnout build --outcomes` on their labelled
turns, with the label as target, and `turnout train`, both with their defaults. What `build` sets
apart for testing is trained on too, since the fold is the test. The scores of all folds are judged
together: AUROC on labelled turns, APGR on all, and by how much the router is ahead, with 95 %
intervals that resample whole groups. With R drawings of folds a metric is its mean over them, which
leaves out the chance of one drawing. Rivals know the same labels; the first is the strongest:

- TF-IDF of the message and of up to 16 previous turns with their answers, beside turn index, turns
  before and lengths as numbers; logistic regression whose penalty is chosen on inner folds.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from turnout.dataset import build_from_outcomes
from turnout.protocols import checked_messages, grouped
from turnout.records import LABEL_REASONING, ModelInput, Turn
from turnout.routing import RouterFolder
from turnout.routing.formatter import MAX_STORED_TURNS, stored_turn
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import apgr, auroc
from turnout.training import Recipe, train

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Fit = Callable[["Turns", Rows, Rows], Floats]

ROUTER, LAST_MESSAGE = "router", "router, last message only"
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
INNER_FOLDS = 4
NEIGHBOURS = 25
VALIDATION_PERCENT = 10
# Numbers stand beside TF-IDF values, which are small; a full standard deviation would drown them.
NUMBER_SCALE = 0.3


@dataclass(frozen=True)
class Turns:
    """n measured turns.

    Attributes:
        rows: As the table has them.
        turns: The conversation up to each, oldest first.
        groups: What folds and intervals hold together.
        needs: Whether each needs reasoning; looked at where `labelled`.
        labelled: Whether that was shown.
        gaps: By how much reasoning was better, in [-1, 1].
    """

    rows: list[dict[str, Any]]
    turns: list[tuple[Turn, ...]]
    groups: NDArray[np.object_]
    needs: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    gaps: Floats

    @classmethod
    def read(cls, table: Path, by: str) -> "Turns":
        """Read a table of measured turns; ends the program where it is not there."""
        if not table.exists():
            sys.exit(f"skipped: {table} is not there; give a table of measured turns.")
        rows = pq.read_table(table).to_pylist()
        return cls(
            rows,
            [grouped(checked_messages(row["messages"])) for row in rows],
            np.asarray([row[by] for row in rows], dtype=object),
            np.asarray([row["label"] == LABEL_REASONING for row in rows]),
            np.asarray([row["label"] is not None for row in rows]),
            np.asarray([row["reasoning_score"] - row["fast_score"] for row in rows]),
        )

    def folds(self, count: int, seed: int) -> list[Rows]:
        """The rows of each fold; a group lies in one."""
        names, of = np.unique(self.groups, return_inverse=True)
        fold = np.random.default_rng(seed).permutation(len(names))[of] % min(count, len(names))
        return [np.flatnonzero(fold == number) for number in range(fold.max() + 1)]


class Drawing(NamedTuple):
    """The rows of each fold, and method → scores of every turn by what the other folds know."""

    folds: list[Rows]
    scores: dict[str, Floats]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--drawings", type=int, default=1, help="how often to draw folds")
    parser.add_argument("--by", default="cv_group", help="column that folds hold together")
    parser.add_argument("--model", default="auto", choices=("auto", "encoder", "words", "none"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    turns = Turns.read(arguments.table, arguments.by)
    drawings = []
    for seed in range(arguments.seed, arguments.seed + arguments.drawings):
        folds = turns.folds(arguments.folds, seed)
        scores: dict[str, Floats] = {}
        if arguments.model != "none":
            recipe = Recipe(seed=arguments.seed, model=arguments.model)
            scores |= out_of_fold_router(turns, folds, recipe)
        for name, fit in RIVALS.items():
            scores[name] = out_of_fold(turns, folds, fit)
        drawings.append(Drawing(folds, scores))
    print_table(turns, drawings)


def out_of_fold_router(turns: Turns, folds: Sequence[Rows], recipe: Recipe) -> dict[str, Floats]:
    """Scores by the routers of the other folds, as served and shown the last message only."""
    scores = {name: np.full(len(turns.rows), np.nan) for name in (ROUTER, LAST_MESSAGE)}
    for number, test in enumerate(folds):
        train = np.setdiff1d(np.arange(len(turns.rows)), test)
        with tempfile.TemporaryDirectory() as folder:
            router = trained(turns, train, Path(folder), recipe)
            for name, values in router_scores(router, turns, test).items():
                scores[name][test] = values
        here = test[turns.labelled[test]]
        value = auroc(scores[ROUTER][here], turns.needs[here], np.ones((1, len(here))))[0]
        print(
            f"fold {number + 1} of {len(folds)}: {len(here)} turns, AUROC {value:.3f}", flush=True
        )
    return scores


def trained(turns: Turns, known: Rows, folder: Path, recipe: Recipe) -> Path:
    """A router of the labelled turns among `known`, as a user would make it."""
    names = ("conversation_id", "label", "messages")
    rows = [
        {name: turns.rows[row][name] for name in names}
        | {"target": float(turns.needs[row]), "cv_group": turns.groups[row]}
        for row in known
        if turns.labelled[row]
    ]
    table, data, router = (folder / name for name in ("turns.parquet", "data", "router"))
    pq.write_table(pa.Table.from_pylist(rows), table)
    split = (99 - VALIDATION_PERCENT, VALIDATION_PERCENT, 1)
    build_from_outcomes(table, data, architecture="conversation", split=split)
    parts = [pq.read_table(data / f"{name}.parquet") for name in ("train", "test")]
    pq.write_table(pa.concat_tables(parts), data / "train.parquet")
    report = train(data, router, recipe=recipe)
    reason = f" ({report.choice.text})" if report.choice else ""
    print(f"  {report.rows['train']} training rows; {report.model} serves{reason}", flush=True)
    return router


def router_scores(router: Path, turns: Turns, rows: Rows) -> dict[str, Floats]:
    """Scores of some turns, as served and shown the last message only."""
    folder = RouterFolder.read(router)
    formatter, scorer = folder.spec.formatter, folder.scorer()
    shown = [formatter.format(turns.turns[row], int(turns.rows[row]["turn_index"])) for row in rows]
    alone = [ModelInput(row.message) for row in shown]
    return {
        ROUTER: np.float64(scorer.score(shown)),
        LAST_MESSAGE: np.float64(scorer.score(alone)),
    }


def out_of_fold(turns: Turns, folds: Sequence[Rows], fit: Fit) -> Floats:
    """Scores of every turn by a rival that was fitted on the other folds."""
    scores = np.zeros(len(turns.rows))
    for test in folds:
        train = np.setdiff1d(np.flatnonzero(turns.labelled), test)
        scores[test] = fit(turns, train, test)
    return scores


def _before(turns: Turns, row: int) -> list[Turn]:
    """Previous turns as a data set stores them, newest first."""
    return [stored_turn(turn) for turn in reversed(turns.turns[row][:-1])][:MAX_STORED_TURNS]


def _message(turns: Turns, rows: Rows) -> list[str]:
    return [turns.turns[row][-1].user_message for row in rows]


def _context(turns: Turns, rows: Rows) -> list[str]:
    return [
        " ".join(f"{t.user_message} {t.assistant_message or ''}" for t in _before(turns, row))
        for row in rows
    ]


def _history_length(turns: Turns, rows: Rows) -> Floats:
    return np.log1p([[len(text)] for text in _context(turns, rows)])


def _turn_index(turns: Turns, rows: Rows) -> Floats:
    return np.asarray([[turns.rows[row]["turn_index"]] for row in rows], np.float64)


def _numbers(turns: Turns, rows: Rows) -> Floats:
    """Turn index, turns before, and lengths of history and message, shape `(len(rows), 4)`."""
    before = [[len(_before(turns, row))] for row in rows]
    message = np.log1p([[len(text)] for text in _message(turns, rows)])
    return np.hstack([_turn_index(turns, rows), before, _history_length(turns, rows), message])


def tfidf_with_context(turns: Turns, train: Rows, test: Rows) -> Floats:
    """The strongest rival: words of message and whole history, turn index and lengths."""
    columns, test_columns = [], []
    for texts in (_message, _context):
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        columns.append(words.fit([*texts(turns, train), "word"]).transform(texts(turns, train)))
        test_columns.append(words.transform(texts(turns, test)))
    numbers = StandardScaler().fit(_numbers(turns, train))
    for parts, rows in ((columns, train), (test_columns, test)):
        parts.append(sparse.csr_matrix(NUMBER_SCALE * numbers.transform(_numbers(turns, rows))))
    return _logistic(
        sparse.hstack(columns).tocsr(),
        sparse.hstack(test_columns).tocsr(),
        turns.needs[train],
        turns.groups[train],
    )


def _tfidf_last_message(turns: Turns, train: Rows, test: Rows) -> Floats:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    columns = words.fit_transform(_message(turns, train))
    test_columns = words.transform(_message(turns, test))
    return _logistic(columns, test_columns, turns.needs[train], turns.groups[train])


def _logistic(
    columns: sparse.csr_matrix,
    test_columns: sparse.csr_matrix,
    needs: NDArray[np.bool_],
    groups: NDArray[np.object_],
) -> Floats:
    """Log-odds, with the penalty that has the least loss on inner folds of whole groups."""
    folds = list(GroupKFold(min(INNER_FOLDS, len(set(groups)))).split(columns, groups=groups))

    def loss(penalty: float) -> float:
        losses = [
            log_loss(
                needs[inner_test],
                _fitted(columns[inner_train], needs[inner_train], penalty).predict_proba(
                    columns[inner_test]
                )[:, 1],
                labels=[False, True],
            )
            for inner_train, inner_test in folds
        ]
        return float(np.mean(losses))

    best = min(PENALTIES, key=loss)
    return np.asarray(_fitted(columns, needs, best).decision_function(test_columns))


def _fitted(
    columns: sparse.csr_matrix, needs: NDArray[np.bool_], penalty: float
) -> LogisticRegression:
    return LogisticRegression(C=penalty, max_iter=1000).fit(columns, needs)


def _by_number(number: Callable[[Turns, Rows], Floats]) -> Fit:
    """Rank by one number, in the direction that the known rows have."""

    def fit(turns: Turns, train: Rows, test: Rows) -> Floats:
        model = LogisticRegression().fit(number(turns, train), turns.needs[train])
        return np.asarray(model.decision_function(number(turns, test)))

    return fit


def _neighbours(turns: Turns, train: Rows, test: Rows) -> Floats:
    words = TfidfVectorizer(sublinear_tf=True)
    columns = words.fit_transform(_message(turns, train))
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train)), metric="cosine")
    near = nearest.fit(columns).kneighbors(
        words.transform(_message(turns, test)), return_distance=False
    )
    return np.asarray(turns.needs[train][near].mean(axis=1))


def _random(turns: Turns, train: Rows, test: Rows) -> Floats:
    return np.random.default_rng(int(test[0])).random(len(test))


RIVALS: dict[str, Fit] = {
    "TF-IDF with context, turn index and lengths": tfidf_with_context,
    "TF-IDF, last message": _tfidf_last_message,
    "history length": _by_number(_history_length),
    "turn index": _by_number(_turn_index),
    "nearest neighbours, last message": _neighbours,
    "random": _random,
}


def print_table(turns: Turns, drawings: Sequence[Drawing]) -> None:
    """Every method in three metrics, and the lead of the first, paired; means over drawings.

    AUROC inside folds compares turns of one fold alone: folds have different routers, and a user
    never compares the scores of two.
    """
    labelled = np.flatnonzero(turns.labelled)
    by_label = Resampling(turns.groups[labelled].tolist())
    by_gap = Resampling(turns.groups.tolist())
    needs = turns.needs[labelled]

    def ranked(name: str, weights: Floats) -> Floats:
        each = [auroc(drawing.scores[name][labelled], needs, weights) for drawing in drawings]
        return np.mean(each, axis=0)

    def ranked_inside(name: str, weights: Floats) -> Floats:
        each = [_inside(drawing, name, labelled, needs, weights) for drawing in drawings]
        return np.mean(each, axis=0)

    def recovered(name: str, weights: Floats) -> Floats:
        each = [apgr(drawing.scores[name], turns.gaps, weights) for drawing in drawings]
        return np.mean(each, axis=0)

    print(
        f"\n{len(turns.rows):,} turns, {len(labelled):,} labelled, "
        f"{needs.mean():.0%} of these need reasoning, {len(set(turns.groups))} groups\n\n"
        "| method | AUROC | ahead by | inside folds | ahead by | APGR | ahead by |\n"
        "|---|---|---|---|---|---|---|"
    )
    names = list(drawings[0].scores)
    for name in names:
        cells = []
        for resampling, metric in (
            (by_label, ranked),
            (by_label, ranked_inside),
            (by_gap, recovered),
        ):
            cells.append(shown(resampling.estimate(partial(metric, name))))
            lead = resampling.estimate(partial(_lead, metric, names[0], name))
            cells.append("" if name == names[0] else shown(lead, "+.3f"))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _inside(
    drawing: Drawing, name: str, labelled: Rows, needs: NDArray[np.bool_], weights: Floats
) -> Floats:
    """AUROC over pairs of turns of one fold."""
    values = drawing.scores[name][labelled]
    sums, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in drawing.folds:
        rows = np.flatnonzero(np.isin(labelled, fold))
        w = weights[:, rows]
        here = (w * needs[rows]).sum(1) * (w * ~needs[rows]).sum(1)
        sums += here * np.nan_to_num(auroc(values[rows], needs[rows], w))
        pairs += here
    return sums / pairs


def _lead(
    metric: Callable[[str, Floats], Floats], first: str, other: str, weights: Floats
) -> Floats:
    return metric(first, weights) - metric(other, weights)


def shown(estimate: Estimate, form: str = ".3f") -> str:
    """A number and its interval."""
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


if __name__ == "__main__":
    main()
