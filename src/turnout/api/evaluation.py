"""Routers, or other scores, on test rows → metrics with intervals, curves, a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from turnout.api.classifier import RouterClassifier, router_and_inputs
from turnout.api.data import Split, require_seed, require_split
from turnout.errors import SettingsError
from turnout.evaluation.measure import Method, Reference, Scored, method_result
from turnout.records import ID2LABEL, LABEL_REASONING
from turnout.replay.miss_bound import threshold_for_miss
from turnout.routing.router import Router
from turnout.stats.bootstrap import Estimate, Resampling
from turnout.stats.metrics import SHARES

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
# Metrics of probabilities, which scores outside [0, 1] are not.
_PROBABILITY_METRICS = ("brier", "ece")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Evaluation:
    """Methods compared on the same test rows.

    Attributes:
        methods: In the order given; the first is what the others are compared with.
        rows: Rows compared.
        conversations: Their conversations or prompts.
    """

    methods: list[Method]
    rows: int
    conversations: int

    @property
    def arrow(self) -> pa.Table:
        """`table` as an Arrow table."""
        columns: dict[str, list[Any]] = {"method": [method.name for method in self.methods]}
        for name in self.methods[0].metrics:
            for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                columns[name + suffix] = [getattr(m.metrics[name], part) for m in self.methods]
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            columns["lead" + suffix] = [
                math.nan if m.lead is None else getattr(m.lead, part) for m in self.methods
            ]
        return pa.table(columns)

    @property
    def table(self) -> pd.DataFrame:
        """One row a method: every metric with its 95 % interval (`_low`, `_high`), as pandas.

        `auroc`, `brier`, `ece`, the shares of traffic for half and four fifths of the gain, and
        `apgr` where outcomes were measured. `lead` is the lead of the first method in AUROC (APGR
        where measured), paired over the same resamplings of whole conversations.
        """
        return self.arrow.to_pandas().set_index("method")

    def plot(self, ax: Any = None) -> Any:  # noqa: ANN401 - matplotlib publishes no types
        """Draw the cost–quality curves: the share of the gain, by the share sent to reasoning.

        Args:
            ax: Matplotlib axes to draw on; by default new ones.

        Returns:
            The axes.
        """
        if ax is None:
            from matplotlib import pyplot  # unlike a figure alone, a notebook shows it

            ax = pyplot.subplots()[1]
        for method in self.methods:
            ax.plot(SHARES, method.curve, label=method.name)
        ax.plot([0, 1], [0, 1], color="grey", linestyle=":", label="random")
        ax.set_xlabel("share of messages sent to reasoning")
        ax.set_ylabel("share of the gain")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        first = self.methods[0]
        names = [name for name in ("apgr", "auroc") if name in first.metrics]
        lines = [f"{self.rows:,} rows of {self.conversations:,} conversations"]
        for method in self.methods:
            shown = [f"{name.upper()} {_shown(method.metrics[name])}" for name in names]
            lines.append(f"{method.name}: {', '.join(shown)}")
            if method.lead is not None:
                lines[-1] += (
                    f"; {first.name} ahead by {_shown(method.lead, '+')} {names[0].upper()}"
                )
        return "\n".join(lines)


def evaluate(
    methods: Mapping[str, Router | RouterClassifier | ArrayLike], test: Split, *, seed: int = 0
) -> Evaluation:
    """Compare routers, or other scores, on test rows.

    Routers are scored for balanced rows, and rows count as such: where the labels have their ratio
    by weights, these apply.

    Args:
        methods: Name → a router, or scores of the test rows in their order: p_reasoning of shape
            `(n,)`, or `(n, 2)` as from `predict_proba`; an index of a Series is not looked at.
            Scores outside [0, 1] have no `brier` and no `ece`. The others are compared with the
            first one.
        test: Rows that no method was trained on, such as `data.test`; `data.test.rows` are their
            rows in the table.
        seed: Decides the resampling.

    Raises:
        SettingsError: If there is no method, scores are not finite or not one a row, or a router
            has another formatter.

    Example:
        >>> report = tn.evaluate({"router": router, "length": [0.5] * len(data.test)}, data.test)
        >>> list(report.table.index)
        ['router', 'length']
    """
    if not isinstance(methods, Mapping) or not methods:
        problem = type(methods).__name__ if methods else "no method"
        raise SettingsError(
            f"methods: found {problem}; expected names with routers or scores, such as "
            '{"router": router}.'
        )
    require_split(test, "test")
    require_seed(seed)
    samples = test.samples
    positive = samples.labels == LABEL_REASONING
    gap = 2.0 * samples.targets.astype(np.float64) - 1.0 if test.measured else None
    rows = np.flatnonzero(samples.labelled) if gap is None else np.arange(len(samples))
    labelled = samples.labelled[rows]
    if len(set(positive[rows][labelled].tolist())) < 2:
        raise SettingsError(
            f"test: {int(labelled.sum())} labelled rows of one label; expected both. Make a data "
            "set of more rows."
        )
    reference = Reference("labels", positive[rows], labelled, None if gap is None else gap[rows])
    scored = [
        Scored(name, "router" if number == 0 else "baseline", _scores(name, method, test)[rows])
        for number, (name, method) in enumerate(methods.items())
    ]
    clusters = samples.clusters_of(rows)
    resampling = Resampling(clusters, seed, factors=test.factors[rows])
    return Evaluation(
        [_measured(each, scored[0], reference, resampling) for each in scored],
        len(rows),
        len({samples.conversation_ids[row] for row in rows}),
    )


def choose_threshold(
    router: Router | RouterClassifier,
    test: Split,
    *,
    max_miss: float | None = None,
    share: float | None = None,
    confidence: float = 0.95,
) -> float:
    """The greatest threshold within a limit of misses, or for a share of rows; changes nothing.

    Args:
        router: The router.
        test: Rows that it was not trained on.
        max_miss: Of new messages that need reasoning, the share in (0, 1) that may go to fast.
        share: Instead of `max_miss`: the least share of these rows, in (0, 1], to send to
            reasoning.
        confidence: The confidence of `max_miss`, in (0, 1).

    Returns:
        A threshold for the population of `predict_proba`.

    Raises:
        RecordError: If the rows are too few for `max_miss`.
        SettingsError: If not one of `max_miss` and `share` is given, or one is out of range.

    Example:
        >>> 0 < tn.choose_threshold(router, data.test, share=0.5) < 1
        True
    """
    if (max_miss is None) == (share is None):
        raise SettingsError("max_miss and share: found both or none of them; expected one of them.")
    for name, value in (("max_miss", max_miss), ("share", share), ("confidence", confidence)):
        most = 1.0 if name == "share" else math.nextafter(1.0, 0.0)
        if value is not None and not (isinstance(value, Real) and 0 < value <= most):
            raise SettingsError(f"{name}: found {value!r}; expected a number between 0 and 1.")
    require_split(test, "test")
    scorer, inputs = router_and_inputs(router, test, "router")
    scores = scorer.probabilities_of(inputs)[:, LABEL_REASONING].astype(np.float64)
    if share is not None:
        ranked = np.sort(scores)[::-1]
        return float(ranked[max(int(np.ceil(share * len(ranked))), 1) - 1])
    needs = np.flatnonzero(test.samples.labels == LABEL_REASONING)
    clusters = test.samples.clusters_of(needs)
    return threshold_for_miss(scores[needs], clusters, max_miss or 0.0, confidence, where="test")


def _measured(
    scored: Scored, first: Scored, reference: Reference, resampling: Resampling
) -> Method:
    method = method_result(scored, first, reference, resampling)
    if scored.scores.min() < 0 or scored.scores.max() > 1:
        undefined = Estimate(float("nan"), float("nan"), float("nan"))
        method.metrics.update({name: undefined for name in _PROBABILITY_METRICS})
    return method


def _scores(name: str, method: Router | RouterClassifier | ArrayLike, test: Split) -> Floats:
    """Scores of the test rows, for the balanced population, shape `(n,)`."""
    if isinstance(method, Router | RouterClassifier):
        router, inputs = router_and_inputs(method, test, name)
        return router.folder.scorer().score(inputs).astype(np.float64)
    try:
        scores = np.asarray(method, np.float64)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{name}: found {type(method).__name__}, not of numbers ({error}); expected a router, "
            "or a number for each test row."
        ) from error
    if scores.shape == (len(test), len(ID2LABEL)):
        scores = scores[:, LABEL_REASONING]
    if scores.shape != (len(test),):
        raise SettingsError(
            f"{name}: found scores of shape {scores.shape}; expected {len(test)} numbers, one a "
            "test row. Of scores of the whole table, take data.test.rows."
        )
    if unknown := int((~np.isfinite(scores)).sum()):
        raise SettingsError(
            f"{name}: {unknown:,} of {len(scores):,} scores are no finite numbers; expected a "
            "number for each test row. Fill them."
        )
    return scores


def _shown(estimate: Estimate, sign: str = "") -> str:
    """A number with its 95 % interval."""
    value, low, high = (f"{end:{sign}.3f}" for end in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"
