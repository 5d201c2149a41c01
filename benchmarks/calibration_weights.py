"""What row weights are worth in calibration; see docs/experiments/031-weights-in-calibration.md.

Usage: python benchmarks/calibration_weights.py ROUTER DATASET TRUTH.parquet

ROUTER was trained on DATASET, whose rows come from a simulated log. Its scores are calibrated anew
on the labelled validation rows, once with their weights and once without, and judged by the truth
of the test rows. The interval of the gain in log loss resamples conversations.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import expit

from turnout.records import LABEL_REASONING
from turnout.routing import RouterFolder
from turnout.samples import DatasetFolder, Samples
from turnout.stats.bootstrap import Resampling
from turnout.stats.calibration import calibration_error
from turnout.tables import read_known_labels
from turnout.training.calibration import fit_calibration


def main() -> None:
    """Print both calibrations, and the gain of the weights."""
    router, dataset, truth = map(Path, sys.argv[1:4])
    data, scorer = DatasetFolder.read(dataset), RouterFolder.read(router).scorer()
    known = read_known_labels(truth)

    def margins(split: Samples) -> np.ndarray:
        return np.asarray([scorer.log_odds(scorer.encode(row)) for row in split.inputs])

    validation, test = data.split("validation"), data.split("test")
    rows = np.flatnonzero(validation.labelled)
    labels, weights = validation.labels[rows] == LABEL_REASONING, np.float64(validation.weights)
    validation_margins, test_margins = margins(validation)[rows], margins(test)
    keys = zip(test.conversation_ids, test.turn_indices.tolist(), strict=True)
    needs = np.asarray([known[key] == LABEL_REASONING for key in keys])
    losses = {}
    for name, counted in (("without", np.ones(len(rows))), ("with", weights[rows])):
        fitted = fit_calibration(validation_margins, labels, counted)
        p = expit(fitted.scale * test_margins + fitted.bias)
        losses[name] = -np.where(needs, np.log(p), np.log1p(-p))
        print(f"{name} weights: calibration error {calibration_error(p, needs):.3f}")
    gain = losses["without"] - losses["with"]
    estimate = Resampling(test.conversation_ids).estimate(lambda w: w @ gain / w.sum(1))
    print(f"gain {estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f}) nats a row")


if __name__ == "__main__":
    main()
