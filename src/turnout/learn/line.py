"""Run every stage from a log to two routers, each into its place in one folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from turnout.catalog import Catalog
from turnout.dataset import build_from_turns
from turnout.dataset.assembly import DEFAULT_SIZE
from turnout.errors import RecordError, SettingsError
from turnout.evaluation.stage import evaluate
from turnout.judge import JudgeOptions, judge_turns
from turnout.labels import ExternalFiles, LabelReport, label_turns
from turnout.learn.beside import tfidf
from turnout.learn.models import ModelUse, model_of_class, model_uses, targets_of
from turnout.learn.page import render
from turnout.learn.serving import settings_text
from turnout.learn.summary import (
    Advice,
    advice_of,
    routers_of,
    segments_of,
    table_of,
    weakest_assumption,
)
from turnout.logs import IngestReport, ingest
from turnout.manifest import Manifest
from turnout.progress import OnProgress, silent
from turnout.records import Architecture, ModelClass
from turnout.replay.evidence import Evidence
from turnout.replay.stage import ROUTER_TABLE_NAME, ReplayReport, replay
from turnout.stage import StageRun, report_json
from turnout.switches import SwitchReport, report_switches
from turnout.training import Recipe, TrainReport, train

ARCHITECTURES: tuple[Architecture, ...] = ("session", "conversation")

# A label closer to undecided counts neither way.
_LEAST_CONFIDENCE = 0.2

OnStage = Callable[[str, bool], None]
"""Called with a stage's name when it ends, and whether an earlier run had done it already."""


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """What the stages are given beside the log.

    Attributes:
        catalog: Model names to classes and prices.
        columns: Canonical → the log's own column name, where it is not found by itself.
        redact: Replace e-mail and IP addresses, keys, and user names in paths.
        judge: Whom to ask which turns need reasoning; None for nobody.
        human: People's labels.
        outcomes: Measured scores of turns or prompts.
        truth: Truth of a simulated log; routers are then compared with it too.
        size: Most rows of a data set, over all splits.
        split: Parts of training, validation and test.
        recipe: How to fine-tune.
        max_tokens: Token budget of the conversation router; None for the default.
        targets: Class → the model that it would go to; by default one of the log's own, in
            the middle by price.
        max_miss: Share in (0, 1) of the messages that need reasoning that may be missed by what
            is recommended.
        by: A column of the log that costs are split by.
    """

    catalog: Catalog
    columns: Mapping[str, str] = field(default_factory=dict)
    redact: bool = False
    judge: JudgeOptions | None = None
    human: Path | None = None
    outcomes: Path | None = None
    truth: Path | None = None
    size: int = DEFAULT_SIZE
    split: tuple[float, float, float] = (70, 10, 20)
    recipe: Recipe = field(default_factory=Recipe)
    max_tokens: int | None = None
    targets: Mapping[ModelClass, str] = field(default_factory=dict)
    max_miss: float = 0.10
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the stages gave.

    Attributes:
        ingest: What became of the log's rows.
        switches: Which models people use and how they switch; None where no turn names a model.
        labels: What the evidence adds up to.
        datasets: Architecture → what `dataset.json` says.
        routers: Architecture → how training went.
        evaluation: What `report.json` says.
        without: Architecture → why the log gives no router of it.
        models: The models of the log, those with most turns first.
        replay: What each policy would have cost; None where no model of a class has a price.
        advice: What to do.
        settings_written: Whether turnout.toml is what is recommended; one that the user changed
            stays as it is.
    """

    ingest: IngestReport
    switches: SwitchReport | None
    labels: LabelReport
    datasets: dict[Architecture, dict[str, Any]]
    routers: dict[Architecture, TrainReport]
    evaluation: dict[str, Any]
    without: dict[Architecture, str]
    models: list[ModelUse]
    replay: ReplayReport | None
    advice: Advice
    settings_written: bool


def learn(
    logs: Sequence[str | Path],
    out: Path,
    options: LearnOptions,
    *,
    on_stage: OnStage = lambda name, fresh: None,
    on_progress: OnProgress = silent,
) -> Learnt:
    """Take a log through every stage; a stage that an earlier run did is not run again.

    Args:
        logs: As for `logs.ingest`.
        out: The folder; each stage has its own place in it.
        options: What the stages are given.
        on_stage: Called when a stage ends.
        on_progress: Called at every step of every stage.

    Raises:
        RecordError: If the log cannot be read, or gives no router of either architecture.
        SettingsError: If an option makes no sense.
        StorageError: If the folder cannot be written.
    """
    place = Places(out)
    ingested = read_logs(logs, place, options, on_progress)
    on_stage("ingest", ingested.fresh)
    models = model_uses(place.turns, options.catalog)
    switches = None
    if models:
        switches = report_switches(
            place.turns, options.catalog, out=place.switches, on_progress=on_progress
        )
        on_stage("switches", switches.fresh)
    labels = _labels(place, options, on_stage, on_progress)
    datasets: dict[Architecture, dict[str, Any]] = {}
    routers: dict[Architecture, TrainReport] = {}
    without: dict[Architecture, str] = {}
    for architecture in ARCHITECTURES:
        try:
            built = build_from_turns(
                place.turns,
                place.dataset(architecture),
                architecture=architecture,
                catalog=options.catalog,
                labels=place.labels,
                size=options.size,
                split=options.split,
                on_progress=on_progress,
            )
            on_stage(f"build {architecture}", built.fresh)
            trained = train(
                place.dataset(architecture),
                place.router(architecture),
                recipe=options.recipe,
                max_tokens=options.max_tokens if architecture == "conversation" else None,
                on_progress=on_progress,
            )
            on_stage(f"train {architecture}", trained.fresh)
        except RecordError as error:  # too thin for this architecture, perhaps not for the other
            without[architecture] = str(error)
        else:
            datasets[architecture], routers[architecture] = built.description, trained
    if not routers:
        raise RecordError("\n".join(dict.fromkeys(without.values())))
    evaluated = evaluate(
        [(place.router(name), place.dataset(name)) for name in routers],
        place.report,
        truth=options.truth,
        on_progress=on_progress,
    )
    on_stage("evaluate", evaluated.fresh)
    replayed, without_replay = _replay(place, list(routers), models, options, on_progress)
    if replayed is not None:
        on_stage("replay", replayed.fresh)
    stored = report_json(replayed) if replayed is not None else None
    advice = advice_of(stored, without_replay)
    learnt = Learnt(
        ingested, switches, labels, datasets, routers, evaluated.content, without, models, replayed,
        advice, settings_written=_write_settings(place, advice, models, options),
    )  # fmt: skip
    _write_page(place, learnt, table_of(stored), stored, options)
    return learnt


def read_logs(
    logs: Sequence[str | Path], place: Places, options: LearnOptions, on_progress: OnProgress
) -> IngestReport:
    """Read the logs into the folder's turns table."""
    return ingest(
        logs,
        place.turns,
        columns=options.columns,
        redact=options.redact,
        keep=[options.by] if options.by is not None else [],
        on_progress=on_progress,
    )


def _replay(
    place: Places,
    architectures: Sequence[Architecture],
    models: Sequence[ModelUse],
    options: LearnOptions,
    on_progress: OnProgress,
) -> tuple[ReplayReport | None, str]:
    """The replay, or why there is none."""
    try:
        targets = targets_of(models, options.targets, options.catalog)
        replayed = replay(
            [place.router(name) for name in architectures],
            place.turns,
            place.replay,
            catalog=options.catalog,
            targets=targets,
            evidence=Evidence(
                place.labels,
                _LEAST_CONFIDENCE,
                options.truth,
                [place.dataset(name) for name in architectures],
            ),
            others=[tfidf(place.dataset(architectures[-1]))],
            by=options.by,
            decisions=place.decisions,
            max_miss=options.max_miss,
            on_progress=on_progress,
        )
    except (RecordError, SettingsError) as error:  # the routers stand without it
        return None, str(error)
    return replayed, ""


def _write_settings(
    place: Places, advice: Advice, models: Sequence[ModelUse], options: LearnOptions
) -> bool:
    """Write turnout.toml, unless the user changed it; whether what is there is Turnout's."""
    by_class = {
        name: use
        for name in get_args(ModelClass)
        if (use := model_of_class(name, models, options.targets, options.catalog)) is not None
    }
    if len(by_class) < len(get_args(ModelClass)):
        return False
    recommended = place.replay / ROUTER_TABLE_NAME
    is_there = advice.policy is not None and recommended.exists()
    table = recommended.read_text(encoding="utf-8") if is_there else ""
    text = settings_text(by_class, table, options.catalog)
    run = _run_of_text(place.settings, {}, text)
    if run.is_changed():
        return False
    if not run.is_done():
        with run.output() as partial:
            partial.write_text(text, encoding="utf-8")
    return True


def _run_of_text(out: Path, read: Mapping[str, Path], text: str) -> StageRun:
    digest = sha256(text.encode()).hexdigest()
    return StageRun(out, Manifest.of("learn", read, {"sha256": digest}))


def _write_page(
    place: Places,
    learnt: Learnt,
    rows: list[dict[str, Any]],
    replayed: dict[str, Any] | None,
    options: LearnOptions,
) -> None:
    judge = next((use for use in learnt.models if use.usd is not None), None)
    price = options.catalog.price(judge.model) if judge is not None else None
    architectures: list[Architecture] = list(learnt.routers)
    router = place.router(learnt.advice.router or architectures[0])
    content = {
        "advice": asdict(learnt.advice),
        "command": f"turnout serve {router} -c {place.settings}",
        "assumption": asdict(weakest_assumption(learnt.labels, learnt.models, judge, price)),
        "rows": rows,
        "named_targets": sorted(options.targets),
        "segments": segments_of(replayed),
        "replayed": replayed,
        "routers": routers_of(learnt.evaluation),
        "models": [asdict(use) for use in learnt.models],
        "turns": learnt.ingest.rows_kept,
        "ingest": asdict(learnt.ingest),
        "labels": {
            "turns": learnt.labels.turns,
            "labelled": learnt.labels.labelled,
            "reasoning": learnt.labels.reasoning,
        },
        "datasets": {name: {"rows": built["rows"]} for name, built in learnt.datasets.items()},
        "without": learnt.without,
    }
    read = {"report": place.report, "turns": place.turns, "labels": place.labels}
    numbers = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    for path, text in ((place.page, render(content)), (place.numbers, numbers)):
        run = _run_of_text(path, read, text)
        if not run.is_done():
            with run.output() as partial:
                partial.write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Places:
    """Where each stage writes.

    Attributes:
        folder: Holds them all.
    """

    folder: Path

    @property
    def turns(self) -> Path:
        """The turns table."""
        return self.folder / "turns.parquet"

    @property
    def switches(self) -> Path:
        """The switch report."""
        return self.folder / "switches"

    @property
    def judged(self) -> Path:
        """A judge model's answers."""
        return self.folder / "judged.parquet"

    @property
    def labels(self) -> Path:
        """The labels with their evidence."""
        return self.folder / "labels.parquet"

    def dataset(self, architecture: Architecture) -> Path:
        """The data set of an architecture."""
        return self.folder / f"{architecture}-data"

    def router(self, architecture: Architecture) -> Path:
        """The router folder of an architecture."""
        return self.folder / f"{architecture}-router"

    @property
    def report(self) -> Path:
        """The evaluation."""
        return self.folder / "report"

    @property
    def replay(self) -> Path:
        """What every policy would have cost."""
        return self.folder / "replay"

    @property
    def decisions(self) -> Path:
        """Every turn's decision under every policy."""
        return self.folder / "decisions.parquet"

    @property
    def settings(self) -> Path:
        """Settings of the gateway."""
        return self.folder / "turnout.toml"

    @property
    def numbers(self) -> Path:
        """What the page shows, as JSON."""
        return self.folder / "learn.json"

    @property
    def page(self) -> Path:
        """The page that sums up all of it."""
        return self.folder / "index.html"


def _labels(
    place: Places, options: LearnOptions, on_stage: OnStage, on_progress: OnProgress
) -> LabelReport:
    judged = None
    if options.judge is not None:
        answers = judge_turns(place.turns, place.judged, options.judge, on_progress=on_progress)
        on_stage("judge", answers.fresh)
        judged = place.judged
    labels = label_turns(
        place.turns,
        place.labels,
        options.catalog,
        external=ExternalFiles(options.human, options.outcomes, judged),
        on_progress=on_progress,
    )
    on_stage("label", labels.fresh)
    return labels
