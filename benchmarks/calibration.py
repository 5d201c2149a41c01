"""Which calibration map to fit on validation rows; see docs/experiments/012-calibration-maps.md.

Usage: python benchmarks/calibration.py FOLDER …

Every FOLDER is one that benchmarks/label_noise.py left: a session data set `data/` and
`embeddings.npz`. Scores of logistic regression on TF-IDF and on the embeddings are mapped to
probabilities by every candidate, fitted on the validation rows. What counts is the log loss, in
nats a row, by cross-validation on the validation rows (what could choose) and on the test rows
(what is so); differences from the linear map that Turnout fits. Intervals are over the score sets
(Student's t).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import t as student
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from turnout.samples import DatasetFolder
from turnout.stats.calibration import calibration_error
from turnout.training.calibration import fit_calibration

Floats = NDArray[np.float64]
Map = Callable[[Floats], Floats]

FOLDS = 5
# A map that says 0 or 1 would lose without bound.
CLIP = 0.005
KNOTS = 8


def linear(margins: Floats, needs: NDArray[np.bool_]) -> Map:
    """Temperature, or Platt where the bias pays: what `turnout train` fits."""
    fitted = fit_calibration(margins, needs, np.ones(len(margins)))
    return lambda new_margins: expit(fitted.scale * new_margins + fitted.bias)


def beta_map(margins: Floats, needs: NDArray[np.bool_]) -> Map:
    """Kull, Silva Filho and Flach (2017), "Beta calibration"."""

    def features(new_margins: Floats) -> tuple[Floats, Floats]:
        return -np.logaddexp(0, -new_margins), np.logaddexp(0, new_margins)  # log p, -log(1 - p)

    def z(parameters: Floats, new_margins: Floats) -> Floats:
        low, high = features(new_margins)
        return np.exp(parameters[0]) * low + np.exp(parameters[1]) * high + parameters[2]

    def loss(parameters: Floats) -> float:
        value = z(parameters, margins)
        return float((np.logaddexp(0, value) - needs * value).sum())

    fitted = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"maxiter": 2000}).x
    return lambda new_margins: expit(z(fitted, new_margins))


def isotonic(margins: Floats, needs: NDArray[np.bool_]) -> Map:
    """Zadrozny and Elkan (2002)."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(margins, needs)
    return lambda new_margins: np.clip(fitted.predict(new_margins), CLIP, 1 - CLIP)


def few_knots(margins: Floats, needs: NDArray[np.bool_]) -> Map:
    """Isotonic over bins of equal mass, straight lines between their middles."""
    parts = np.array_split(np.argsort(margins, kind="stable"), KNOTS)
    centres = np.asarray([margins[rows].mean() for rows in parts])
    shares = np.asarray([(needs[rows].sum() + 1) / (len(rows) + 2) for rows in parts])
    levels = IsotonicRegression().fit_transform(centres, shares)
    return lambda new_margins: np.clip(np.interp(new_margins, centres, levels), CLIP, 1 - CLIP)


CANDIDATES = {
    "linear (temperature or Platt)": linear,
    "beta": beta_map,
    "isotonic": isotonic,
    f"isotonic, {KNOTS} knots": few_knots,
}


def log_loss(p: Floats, needs: NDArray[np.bool_]) -> float:
    """Nats a row."""
    return float(-np.where(needs, np.log(p), np.log1p(-p)).mean())


def cross_validated(fit: Callable[..., Map], margins: Floats, needs: NDArray[np.bool_]) -> float:
    """Log loss of rows by maps that did not see them."""
    fold = np.random.default_rng(0).permutation(len(margins)) % FOLDS
    p = np.zeros(len(margins))
    for k in range(FOLDS):
        p[fold == k] = fit(margins[fold != k], needs[fold != k])(margins[fold == k])
    return log_loss(p, needs)


def score_sets(folder: Path) -> list[tuple[Floats, NDArray[np.bool_], Floats, NDArray[np.bool_]]]:
    """Validation margins and needs, test margins and needs: of TF-IDF and of embeddings."""
    data = DatasetFolder.read(folder / "data")
    train, validation, test = (data.split(name) for name in ("train", "validation", "test"))
    needs = [split.labels == 0 for split in (train, validation, test)]
    texts = [[row.message for row in split.inputs] for split in (train, validation, test)]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts[0])
    stored = np.load(folder / "embeddings.npz")
    sets = []
    for strength, features in (
        (3.0, [vectorizer.transform(split) for split in texts]),
        (10.0, [stored[name] for name in ("train", "validation", "test")]),
    ):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features[0], needs[0])
        validation_margins, test_margins = (
            model.decision_function(split) for split in features[1:]
        )
        sets.append((validation_margins, needs[1], test_margins, needs[2]))
    return sets


def interval(values: Floats) -> str:
    """Mean and 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} ({values.mean() - half:+.4f} to {values.mean() + half:+.4f})"


def main() -> None:
    """Print the table."""
    sets = [score_set for name in sys.argv[1:] for score_set in score_sets(Path(name))]
    names = list(CANDIDATES)
    crossed, tested, errors = (np.zeros((len(sets), len(names))) for _ in range(3))
    for row, (margins, needs, test_margins, test_needs) in enumerate(sets):
        for column, fit in enumerate(CANDIDATES.values()):
            crossed[row, column] = cross_validated(fit, margins, needs)
            p = fit(margins, needs)(test_margins)
            tested[row, column] = log_loss(p, test_needs)
            errors[row, column] = calibration_error(p, test_needs)
    print(f"{len(sets)} score sets, {len(sets[0][0])} validation and {len(sets[0][2])} test rows\n")
    print("| map | log loss, cross-validated | log loss, test | ECE, test |\n|---|---|---|---|")
    for column, name in enumerate(names):
        shown = [
            f"{table[:, 0].mean():.4f}" if column == 0 else interval(table[:, column] - table[:, 0])
            for table in (crossed, tested, errors)
        ]
        print(f"| {name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
