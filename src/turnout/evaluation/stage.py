"""The evaluation stage: routers and data sets → a report folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.errors import RecordError, SettingsError
from turnout.evaluation.ablation import ContextAblation, context_ablation
from turnout.evaluation.baselines import Splits, baselines
from turnout.evaluation.findings import Leak, findings
from turnout.evaluation.measure import MAIN_METRICS, Reference, Scored, compare_methods
from turnout.evaluation.probes import Probe, ProbeResult, probe, probes_of
from turnout.evaluation.truncation import truncation_of
from turnout.manifest import Manifest, input_digests, read_manifest, tree_sha256
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_REASONING, ModelInput, Turn
from turnout.routing import RouterFolder
from turnout.routing.scorer import OnnxScorer
from turnout.samples import DatasetFolder, Samples, few_labels
from turnout.stage import StageRun
from turnout.tables import read_known_labels

REPORT_FORMAT_VERSION = 1
REPORT_NAME = "report.json"
PAGE_NAME = "report.html"
LABEL_NAMES = {
    "turns": "the log's labels",
    "labels": "weighed evidence",
    "outcomes": "measured outcomes",
}
TRUTH_NAME = "simulated truth"
_TIMED_ROWS = 200
_EXAMPLE_CHARS = 240


@dataclass(frozen=True, slots=True)
class EvaluateReport:
    """The result of an evaluation.

    Attributes:
        content: What `report.json` says.
        fresh: False where an earlier run on the same inputs was there already.
    """

    content: dict[str, Any]
    fresh: bool


def evaluate(
    pairs: Sequence[tuple[Path, Path]],
    out: Path,
    *,
    truth: Path | None = None,
    examples: int = 5,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> EvaluateReport:
    """Measure routers on the test rows of data sets, beside trivial baselines.

    Args:
        pairs: Router folder and data set folder, one or more.
        out: The folder for `report.json` and `report.html`; it appears only once complete.
        truth: What `turnout simulate` wrote beside its log; rows are then compared with it too.
        examples: Most confident mistakes of each kind that the report quotes; 0 quotes nothing.
        seed: Decides the resampling.
        on_progress: Called for every step.

    Raises:
        ArtifactError: If a router or a data set cannot be used, or they do not belong together.
        RecordError: If the truth does not fit, or the test rows hold one label only.
        SettingsError: If no pair is given, or `examples` is negative.
        StorageError: If `out` cannot be written.
    """
    if not pairs or examples < 0:
        raise SettingsError(
            f"found {len(pairs)} routers and {examples} examples; expected at least one router "
            "with its data set, and 0 or more examples."
        )
    routers, datasets = ([pair[side] for pair in pairs] for side in (0, 1))
    inputs = {"router": routers, "dataset": datasets, "truth": truth}
    manifest = Manifest.of("evaluate", inputs, {"examples": examples, "seed": seed})
    run = StageRun(out, manifest)
    if run.is_done():
        return earlier_report(out)
    truths = read_known_labels(truth) if truth else None
    measured = [
        _measure_router(router, dataset, truths, examples, seed, on_progress)
        for router, dataset in pairs
    ]
    return write_report(run, measured, on_progress)


def write_report(
    run: StageRun, measured: Sequence[dict[str, Any]], on_progress: OnProgress
) -> EvaluateReport:
    """Write `report.json` and `report.html`.

    Raises:
        StorageError: If the folder cannot be written.
    """
    content = json.loads(
        json.dumps({"format_version": REPORT_FORMAT_VERSION, "routers": measured}, default=str),
        # JSON has no NaN: what could not be measured is null.
        parse_constant=lambda _: None,
    )

    # Imported late: drawing takes seconds to load.
    from turnout.evaluation.page import render

    on_progress("report", 0, 1)
    with run.output() as partial:
        partial.mkdir()
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (partial / REPORT_NAME).write_text(text, encoding="utf-8")
        (partial / PAGE_NAME).write_text(render(content), encoding="utf-8")
    on_progress("report", 1, 1)
    return EvaluateReport(content, fresh=True)


def _measure_router(
    router: Path,
    dataset: Path,
    truths: dict[tuple[str, int], int] | None,
    examples: int,
    seed: int,
    on_progress: OnProgress,
) -> dict[str, Any]:
    folder, data = RouterFolder.read(router), DatasetFolder.read(dataset)
    data.require_shown_as(folder.spec.formatter, router)
    formatter = folder.spec.formatter
    train, validation, test = (
        data.split(name, formatter) for name in ("train", "validation", "test")
    )
    _require_labels(dataset, test)
    scorer = folder.scorer()
    name = folder.path.resolve().name

    def report_step(step: str, done: int, total: int | None) -> None:
        on_progress(f"{name}: {step}", done, total)

    splits = Splits(train, validation, data.measures_outcomes)
    scored = scored_methods(scorer, splits, test, report_step)
    references = references_of(data, test, truths, dataset)
    sent = sent_to_reasoning(folder, scored[0].scores, test.inputs, report_step)
    factors = data.label_factors("test", test.labels)
    results = []
    for number, reference in enumerate(references):
        report_step("intervals", number, len(references))
        # The log's share of reasoning is known for its labels only, the last reference.
        priors = folder.spec.priors if reference is references[-1] else None
        methods = with_oracle(scored, reference)
        results.append(compare_methods(reference, methods, test, sent, seed, priors, factors))
    report_step("intervals", len(references), len(references))
    truncation = truncation_of(scorer, test.inputs, folder.spec.max_tokens)
    views, probed = _context_results(folder, scorer, data, test, references[0], seed, report_step)
    checks = findings(
        results,
        Leak.of(train, test),
        trained_on_it=_trained_on(router, dataset),
        truncation=truncation,
        probed=probed,
    )
    return {
        "name": name,
        "architecture": folder.spec.formatter.architecture,
        "digest": folder.digest,
        "base": folder.spec.trained_on.get("base"),
        "choice": folder.spec.trained_on.get("choice"),
        "few_labels": few_labels(int(train.labelled.sum())),
        "priors": folder.spec.priors.to_json(),
        "threshold": {
            "value": folder.spec.threshold,
            "origin": folder.spec.threshold_origin,
            "population": folder.spec.threshold_population,
        },
        "rows": {"train": len(train), "validation": len(validation), "test": len(test)},
        "findings": [asdict(finding) for finding in checks],
        "results": [asdict(result) for result in results],
        "main_metric_names": MAIN_METRICS,
        "truncation": asdict(truncation),
        "context": asdict(views) if views else None,
        "probes": asdict(probed) if probed else None,
        "latency_ms": latency_ms(scorer, test.inputs),
        "examples": example_rows(references[0], scored[0].scores, sent, test, examples),
    }


def scored_methods(
    scorer: OnnxScorer, splits: Splits, test: Samples, on_progress: OnProgress
) -> list[Scored]:
    """The test rows scored by the router, by the router without context, and by the baselines.

    Args:
        scorer: The router's, for balanced rows.
        splits: The rows that the baselines are trained on.
        test: At least one row.
        on_progress: Called for every step.
    """
    scored = [Scored("this router", "router", _scores(scorer, test.inputs, on_progress))]
    with_context = any(row.context for row in test.inputs)
    if with_context:
        blind = [ModelInput(row.message) for row in test.inputs]
        scores = _scores(scorer, blind, on_progress)
        scored.append(Scored("this router, last message only", "ablation", scores))
    compared = baselines(splits, test, with_context=with_context, on_progress=on_progress)
    return [*scored, *(Scored(name, "baseline", scores) for name, scores in compared.items())]


def with_oracle(scored: Sequence[Scored], reference: Reference) -> list[Scored]:
    """The methods, and where the gap was measured the best possible order."""
    if reference.gap is None:
        return list(scored)
    return [*scored, Scored("oracle (knows the gap)", "oracle", reference.gap)]


def _context_results(
    folder: RouterFolder,
    scorer: OnnxScorer,
    data: DatasetFolder,
    test: Samples,
    reference: Reference,
    seed: int,
    on_progress: OnProgress,
) -> tuple[ContextAblation | None, ProbeResult | None]:
    """The checks of conversation routers alone; None where the data set has no previous turns."""
    formatter = folder.spec.formatter
    previous = data.previous("test") if formatter.architecture == "conversation" else None
    if previous is None:
        return None, None
    views = context_ablation(scorer, formatter, test, previous, reference, seed, on_progress)
    probes = _probes(test, previous, formatter.previous_turns, seed)
    return views, probe(scorer, formatter, probes, seed) if probes else None


def _probes(
    test: Samples, previous: Sequence[Sequence[Turn]], max_turns: int, seed: int
) -> list[Probe]:
    first: dict[str, str] = {}
    conversations: dict[str, tuple[Turn, ...]] = {}
    rows = zip(test.conversation_ids, test.turn_indices, test.inputs, previous, strict=True)
    for conversation_id, index, model_input, before in rows:
        if index == 1:
            first[conversation_id] = model_input.message
        elif len(before) == index - 1:
            first.setdefault(conversation_id, before[-1].user_message)
        if len(before) > len(conversations.get(conversation_id, ())):
            conversations[conversation_id] = tuple(reversed(before[:max_turns]))
    return probes_of(list(first.items()), list(conversations.items()), seed)


def _scores(
    scorer: OnnxScorer, inputs: Sequence[ModelInput], on_progress: OnProgress
) -> NDArray[np.float64]:
    return scorer.score(inputs, on_progress).astype(np.float64)


def sent_to_reasoning(
    folder: RouterFolder,
    balanced: NDArray[np.float64],
    inputs: Sequence[ModelInput],
    on_progress: OnProgress,
) -> NDArray[np.bool_]:
    """Rows sent to reasoning, compared in the threshold's own population, as when serving."""
    population = folder.spec.threshold_population
    if population == "balanced":
        return balanced >= folder.spec.threshold
    scores = _scores(folder.scorer(population=population), inputs, on_progress)
    return scores >= folder.spec.threshold


def references_of(
    data: DatasetFolder,
    test: Samples,
    truths: dict[tuple[str, int], int] | None,
    where: Path,
) -> list[Reference]:
    """What the scores are compared with: simulated truth first, if any, then the labels."""
    gap = 2.0 * test.targets.astype(np.float64) - 1.0 if data.measures_gaps else None
    by_label = Reference(
        LABEL_NAMES.get(str(data.description.get("source")), "labels"),
        test.labels == LABEL_REASONING,
        test.labelled,
        gap,
    )
    if truths is None:
        return [by_label]
    keys = zip(test.conversation_ids, test.turn_indices.tolist(), strict=True)
    stored = np.asarray([truths.get(key, -1) for key in keys])
    known, positive = stored >= 0, stored == LABEL_REASONING
    if not positive[known].any() or positive[known].all():
        raise RecordError(
            f"{where}: the truth has {known.sum():,} of {len(test):,} test rows and not both "
            "labels among them; expected the truth of the log that this data set was built from. "
            "Check --truth."
        )
    return [Reference(TRUTH_NAME, positive, known), by_label]


def _require_labels(dataset: Path, test: Samples) -> None:
    labels = {int(label) for label in np.unique(test.labels[test.labelled])}
    if len(labels) < 2:
        raise RecordError(
            f"{dataset / 'test.parquet'}: {len(test):,} rows with labels {sorted(labels)}; "
            "expected both labels. Build a data set with more rows."
        )


def _trained_on(router: Path, dataset: Path) -> bool | None:
    manifest = read_manifest(router)
    # The manifest of a pulled router does not name its data set.
    if manifest is None or manifest.get("stage") != "train":
        return None
    return tree_sha256(dataset) in input_digests(router, "dataset")


def latency_ms(scorer: OnnxScorer, inputs: Sequence[ModelInput]) -> dict[str, float]:
    """Milliseconds a message, with tokenising, one at a time on one core of this machine."""
    took = []
    for model_input in inputs[:_TIMED_ROWS]:
        started = time.perf_counter()
        scorer.score_one(model_input)
        took.append(1000 * (time.perf_counter() - started))
    return {
        "median": float(np.median(took)),
        "p95": float(np.quantile(took, 0.95)),
        "rows": len(took),
    }


def example_rows(
    reference: Reference,
    scores: NDArray[np.float64],
    sent: NDArray[np.bool_],
    test: Samples,
    n_examples: int,
) -> dict[str, list[dict[str, Any]]]:
    """The most confident mistakes at the router's threshold, worst first."""
    order = np.argsort(scores)
    wrong = reference.known & (sent != reference.positive)
    missed = [row for row in order if wrong[row] and not sent[row]][:n_examples]
    wasted = [row for row in order[::-1] if wrong[row] and sent[row]][:n_examples]
    return {
        "missed": [_example(test, scores, row) for row in missed],
        "wasted": [_example(test, scores, row) for row in wasted],
    }


def _example(test: Samples, scores: NDArray[np.float64], row: int) -> dict[str, Any]:
    def short(text: str) -> str:
        text = " ".join(text.split())
        return text if len(text) <= _EXAMPLE_CHARS else text[:_EXAMPLE_CHARS] + "…"

    model_input = test.inputs[row]
    return {
        "p_reasoning": float(scores[row]),
        "turn_index": int(test.turn_indices[row]),
        "message": short(model_input.message),
        "context": short(model_input.context),
    }


def earlier_report(out: Path) -> EvaluateReport:
    """The report of an earlier run."""
    content = json.loads((out / REPORT_NAME).read_text(encoding="utf-8"))
    return EvaluateReport(content, fresh=False)
