"""Router + samples → measurements with intervals beside trivial baselines, and batch scores.

Knows no trainer and no gateway.
"""

from __future__ import annotations

from turnout.evaluation.stage import EvaluateReport, evaluate

__all__ = ["EvaluateReport", "evaluate"]
