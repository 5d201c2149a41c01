"""What a router says of inputs unlike its training rows; knows no file and no data set folder.

There an encoder's margin is worth little, and what the surface of the message tells is worth more.
A gate moves from one to the other as the surface of an input lies farther from the training rows'.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from scipy.spatial import KDTree
from sklearn.linear_model import LinearRegression
from transformers.modeling_outputs import SequenceClassifierOutput

from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.samples import Samples
from turnout.training.calibration import fit_calibration
from turnout.training.report import Calibration
from turnout.training.split import TokenisedSplit, predict
from turnout.training.surface_fit import (
    HAS_OPTIONS,
    MOST_DEVIATIONS,
    SurfaceFit,
    fit_surface,
    in_labelled_groups,
)
from turnout.training.surface_trees import DEPTH, SurfaceTrees, fit_trees

Floats = NDArray[np.float64]

# Training rows that stand for all where there are more.
ANCHORS = 8192
# The gate opens over this part of its distance.
GATE_WIDTH = 0.15
# So that rows which are all alike do not shut everything else out at once.
MIN_GATE = 0.1


class Around(NamedTuple):
    """Where training rows lie: what is near them is of a known kind.

    Attributes:
        anchors: Scaled counts of training rows, shape `(k, 18)`.
        gate: Distance to the nearest anchor at which known and unknown kinds weigh the same.
    """

    anchors: Floats
    gate: float


class Weights(NamedTuple):
    """How much encoder and trees count where a message is of a known kind.

    Attributes:
        encoder: Of the encoder's margin, at least 0.
        trees: Of the trees' margin, at least 0.
        bias: In logits.
    """

    encoder: float
    trees: float
    bias: float


class RouterWithFallback(torch.nn.Module):
    """A classifier and its fallback as one classifier; takes the counts of the surface besides.

    Args:
        classifier: From ids to two logits, calibrated.
        surface: What the counts say of messages of any kind.
        trees: What the counts say of messages of known kinds.
        around: Where the training rows lie.
    """

    reads_surface = True

    def __init__(
        self,
        classifier: transformers.PreTrainedModel,
        *,
        surface: SurfaceFit,
        trees: SurfaceTrees,
        around: Around,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = classifier.config
        self.anchors = _constant(around.anchors)
        self.gate = _constant(around.gate)
        self.mean = _constant(surface.mean)
        self.deviation = _constant(surface.deviation)
        self.slopes = _constant(surface.slopes)
        self.bias = _constant(surface.bias)
        self.tree_counts = torch.nn.Parameter(torch.as_tensor(trees.counts), requires_grad=False)
        self.tree_thresholds = _constant(trees.thresholds)
        self.tree_values = _constant(trees.values)
        self.tree_bias = _constant(trees.bias)
        self.encoder_weight = _constant(1.0)
        self.trees_weight = _constant(0.0)
        self.known_bias = _constant(0.0)
        # The calibration of the mixture.
        self.scale = _constant(1.0)
        self.shift = _constant(0.0)
        # A new module is in training mode, and the export would put the classifier in it too.
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.gate.device

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        surface: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits of shape `(b, 2)`, label by label; `surface` has the shape `(b, 18)`."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits = self.classifier(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        known = self.known_bias + self.trees_weight * self.trees_margin(surface)
        known = known + self.encoder_weight * (logits[:, LABEL_REASONING] - logits[:, LABEL_FAST])
        familiar = self.familiarity(surface)
        margin = familiar * known + (1 - familiar) * self.surface_margin(surface)
        half = (self.scale * margin + self.shift) / 2
        by_label = {LABEL_REASONING: half, LABEL_FAST: -half}
        return SequenceClassifierOutput(
            logits=torch.stack([by_label[label] for label in sorted(by_label)], 1)
        )

    def familiarity(self, surface: torch.Tensor) -> torch.Tensor:
        """In (0, 1), shape `(b,)`: near 1 where training rows lie close by."""
        scaled = self._scaled(surface)
        # The constant stands on the left: on the right it would be quantised, too coarse here.
        products = torch.matmul(self.anchors, scaled.T)  # (k, b)
        squares = (self.anchors**2).sum(1)[:, None] - 2 * products
        distance = ((scaled**2).sum(1) + squares.amin(0)).clamp(min=0).sqrt()
        return torch.sigmoid((self.gate - distance) / (GATE_WIDTH * self.gate))

    def surface_margin(self, surface: torch.Tensor) -> torch.Tensor:
        """What the counts say of messages of any kind, in logits, shape `(b,)`."""
        options = surface[:, HAS_OPTIONS] > 0
        slopes = torch.where(options[:, None], self.slopes[1], self.slopes[0])  # (b, 18)
        bias = torch.where(options, self.bias[1], self.bias[0])
        # Not a matrix product: those are quantised, and the counts differ in size.
        return (self._scaled(surface) * slopes).sum(1) + bias

    def trees_margin(self, surface: torch.Tensor) -> torch.Tensor:
        """What the counts say of messages of known kinds, in logits, shape `(b,)`."""
        columns = surface.T  # (18, b)
        at = torch.zeros_like(self.tree_counts[:, :1]) * columns[:1].long()  # (t, b), at the roots
        for _ in range(DEPTH):
            # Not by indexing: what that looks up is quantised.
            asked = torch.gather(self.tree_counts, 1, at)
            right = torch.gather(columns, 0, asked) > torch.gather(self.tree_thresholds, 1, at)
            at = 2 * at + 1 + right.long()
        ends = at - self.tree_counts.shape[1]
        return torch.gather(self.tree_values, 1, ends).sum(0) + self.tree_bias

    def weigh(self, weights: Weights) -> None:
        """Let encoder and trees count so much from now on."""
        self.encoder_weight.fill_(weights.encoder)
        self.trees_weight.fill_(weights.trees)
        self.known_bias.fill_(weights.bias)

    def calibrate(self, calibration: Calibration) -> None:
        """Scale and shift the mixture from now on."""
        self.scale.fill_(calibration.scale)
        self.shift.fill_(calibration.bias)

    def _scaled(self, surface: torch.Tensor) -> torch.Tensor:
        deviations = (surface - self.mean) / self.deviation
        return deviations.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)


def counts_of(split: TokenisedSplit) -> Floats:
    """The counts of every row's message, shape `(n, 18)`."""
    return np.asarray([one.surface for one in split.tokens], np.float64)


def fit_fallback(
    classifier: transformers.PreTrainedModel,
    train: TokenisedSplit,
    validation: TokenisedSplit,
    strange: float,
    seed: int,
) -> RouterWithFallback:
    """Find where training rows lie, and what their surface tells of their targets.

    Args:
        classifier: Fine-tuned and calibrated, on the CPU.
        train: What it was trained on, with the counts of its messages; n rows.
        validation: What says how much encoder and trees count; both labels present.
        strange: Share of the training rows, in (0, 1), that lie beyond the gate.
        seed: Decides the trees, and which rows stand for all where there are many.
    """
    counts = counts_of(train)
    surface = fit_surface(train.samples, counts)
    near = surface.scaled(counts[in_labelled_groups(train.samples)])
    model = RouterWithFallback(
        classifier,
        surface=surface,
        trees=fit_trees(train.samples, counts, seed),
        around=around_of(near, strange, seed),
    )
    rows = np.flatnonzero(in_labelled_groups(validation.samples))
    logits = predict(classifier, validation, rows)
    trees = model.trees_margin(torch.as_tensor(counts_of(validation)[rows], dtype=torch.float32))
    margins = np.float64(logits[:, LABEL_REASONING]) - logits[:, LABEL_FAST]
    model.weigh(stacked(margins, trees.numpy().astype(np.float64), validation.samples.at(rows)))
    return model


def around_of(scaled: Floats, strange: float, seed: int) -> Around:
    """The gate stands where that share of the rows is farther from all others."""
    rows = np.random.default_rng(seed).permutation(len(scaled))[:ANCHORS]
    anchors = scaled[rows]
    distances, _ = KDTree(anchors).query(anchors, k=2)  # the nearest one is the row itself
    return Around(anchors, max(MIN_GATE, float(np.quantile(distances[:, 1], 1 - strange))))


def stacked(encoder: Floats, trees: Floats, samples: Samples) -> Weights:
    """How much two margins tell of the targets together, calibrated by the labels.

    By the targets, as measured gaps say more than labels that were cut from them; neither margin
    ever speaks against itself.

    Args:
        encoder: Shape `(n,)`.
        trees: Shape `(n,)`.
        samples: n rows; both labels present.

    Source:
        Wolpert (1992), "Stacked generalization"; Breiman (1996), "Stacked regressions".
    """
    margins = np.stack([encoder, trees], 1)
    found = LinearRegression(positive=True).fit(margins, samples.targets, samples.weights)
    slopes = found.coef_ if found.coef_.any() else np.asarray([1.0, 0.0])
    labelled = samples.labelled
    calibration = fit_calibration(
        (margins @ slopes)[labelled], samples.labels[labelled] == LABEL_REASONING
    )
    of_encoder, of_trees = (float(calibration.scale * slope) for slope in slopes)
    return Weights(of_encoder, of_trees, calibration.bias)


def _constant(value: Floats | float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.as_tensor(value, dtype=torch.float32), requires_grad=False)
