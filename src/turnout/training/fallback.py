"""What a router says of inputs unlike its training rows; knows no file and no data set folder.

There an encoder's margin is worth little, and what the surface of the message tells is worth more.
A gate moves from one to the other as an input lies farther from the training rows.
"""

from __future__ import annotations

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.modeling_outputs import SequenceClassifierOutput

from turnout.records import LABEL_FAST, LABEL_REASONING
from turnout.training.batches import batch_rows
from turnout.training.report import Calibration
from turnout.training.split import TokenisedSplit, inputs_of
from turnout.training.surface_fit import HAS_OPTIONS, MOST_DEVIATIONS, SurfaceFit, fit_surface

Floats = NDArray[np.float64]

# Which layer's states tell kinds apart: later ones know needs and have forgotten kinds.
FEATURE_DEPTH = 1 / 3
# Training rows that stand for all; a third as many besides set the gate.
ANCHORS = 3072
# The gate opens over a tenth of the distance between these quantiles of training rows' cosines.
SPREAD = (0.05, 0.25)
GATE_WIDTH = 0.1
MIN_GATE_WIDTH = 1e-3
_ROWS = 64


class RouterWithFallback(torch.nn.Module):
    """A classifier and its fallback as one classifier; takes the counts of the surface besides.

    Args:
        classifier: From ids to two logits, calibrated.
        anchors: Unit vectors, shape `(k, d)`: where the training rows lie.
        gate: The cosine to the nearest anchor at which both margins weigh the same.
        gate_width: Change of cosine that moves their odds by a factor of e.
        surface: What the counts say.
    """

    reads_surface = True

    def __init__(
        self,
        classifier: transformers.PreTrainedModel,
        *,
        anchors: Floats,
        gate: float,
        gate_width: float,
        surface: SurfaceFit,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = classifier.config
        self.anchors = _constant(anchors)
        self.gate = _constant(gate)
        self.gate_width = _constant(gate_width)
        self.mean = _constant(surface.mean)
        self.deviation = _constant(surface.deviation)
        self.slopes = _constant(surface.slopes)
        self.bias = _constant(surface.bias)
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
        found = self.classifier(
            input_ids=input_ids, attention_mask=attention_mask, **types, output_hidden_states=True
        )
        margin = found.logits[:, LABEL_REASONING] - found.logits[:, LABEL_FAST]
        features = mean_of_tokens(feature_states(found), attention_mask)
        familiar = self.familiarity(features)
        margin = familiar * margin + (1 - familiar) * self.surface_margin(surface)
        half = (self.scale * margin + self.shift) / 2
        by_label = {LABEL_REASONING: half, LABEL_FAST: -half}
        return SequenceClassifierOutput(
            logits=torch.stack([by_label[label] for label in sorted(by_label)], 1)
        )

    def familiarity(self, features: torch.Tensor) -> torch.Tensor:
        """In (0, 1), shape `(b,)`: near 1 where training rows lie close by."""
        return torch.sigmoid((nearest(features, self.anchors) - self.gate) / self.gate_width)

    def surface_margin(self, surface: torch.Tensor) -> torch.Tensor:
        """What the counts alone say, in logits, shape `(b,)`."""
        deviations = (surface - self.mean) / self.deviation
        deviations = deviations.clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        options = surface[:, HAS_OPTIONS] > 0
        slopes = torch.where(options[:, None], self.slopes[1], self.slopes[0])  # (b, 18)
        bias = torch.where(options, self.bias[1], self.bias[0])
        # Not a matrix product: those are quantised, and the counts differ in size.
        return (deviations * slopes).sum(1) + bias

    def calibrate(self, calibration: Calibration) -> None:
        """Scale and shift the mixture from now on."""
        self.scale.fill_(calibration.scale)
        self.shift.fill_(calibration.bias)

    def familiarities(self, split: TokenisedSplit) -> Floats:
        """Of every row, shape `(n,)`."""
        features = features_of(self.classifier, split, np.arange(len(split.tokens)))
        familiar = self.familiarity(torch.as_tensor(features, dtype=torch.float32))
        return familiar.numpy().astype(np.float64)


def feature_states(found: SequenceClassifierOutput) -> torch.Tensor:
    """The states that tell kinds apart, shape `(b, t, d)`."""
    layers: tuple[torch.Tensor, ...] = found.hidden_states or ()
    return layers[round(FEATURE_DEPTH * (len(layers) - 1))]


def mean_of_tokens(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Of states of shape `(b, t, d)`, those the mask shows; shape `(b, d)`."""
    mask = attention_mask[..., None].to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)


def nearest(features: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Cosine of b vectors to the nearest of k unit vectors, shape `(b,)`."""
    unit = torch.nn.functional.normalize(features, dim=1)
    # The constant stands on the left: on the right it would be quantised, too coarse for the gate.
    return torch.matmul(anchors, unit.T).amax(0)


def fit_fallback(
    classifier: transformers.PreTrainedModel, train: TokenisedSplit, strange: float, seed: int
) -> RouterWithFallback:
    """Find where training rows lie and what their surface tells of their targets.

    Args:
        classifier: Fine-tuned and calibrated, on the CPU.
        train: What it was trained on, with the counts of its messages; n rows.
        strange: Share of rows like these, in (0, 1), that lie beyond the gate.
        seed: Decides which rows stand for all where there are many.
    """
    draw = np.random.default_rng(seed)
    rows = draw.permutation(len(train.tokens))[: ANCHORS * 4 // 3]
    unit = _unit(features_of(classifier, train, rows))  # (m, d)
    # The gate is set on rows that are no anchors.
    held = max(1, len(rows) // 4)
    anchors = unit[held:]
    cosines = (unit[:held] @ anchors.T).max(1)
    low, high = np.quantile(cosines, SPREAD)
    counts = np.asarray([one.surface for one in train.tokens], np.float64)  # (n, 18)
    return RouterWithFallback(
        classifier,
        anchors=anchors,
        gate=float(np.quantile(cosines, strange)),
        gate_width=max(GATE_WIDTH * float(high - low), MIN_GATE_WIDTH),
        surface=fit_surface(train.samples, counts),
    )


def features_of(
    classifier: transformers.PreTrainedModel, split: TokenisedSplit, rows: NDArray[np.int64]
) -> Floats:
    """Where some rows lie, shape `(len(rows), d)`, in their order."""
    inputs = inputs_of(classifier, split)
    found = np.zeros((len(rows), classifier.config.hidden_size))
    with torch.inference_mode():
        for places in batch_rows(split.lengths[rows], _ROWS):
            given = inputs(rows[places])
            states = feature_states(classifier(**given, output_hidden_states=True))
            found[places] = mean_of_tokens(states, given["attention_mask"]).numpy()
    return found


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _constant(value: Floats | float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.as_tensor(value, dtype=torch.float32), requires_grad=False)
