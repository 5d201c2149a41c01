"""Which models conversations use, and where they switch; knows no reason why.

A switch is a pair of consecutive turns of one conversation on different models. Turns that name
no model are passed over. Models are told apart by their canonical names, so two spellings of one
model are no switch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from turnout.catalog import Catalog
from turnout.engine import connect, read_turns, with_model_facts, write_parquet
from turnout.errors import RecordError
from turnout.manifest import Manifest, staged_output, up_to_date
from turnout.mining.fallbacks import with_fallbacks

KINDS = ("upgrade", "downgrade", "lateral", "unknown")
MODEL_BUCKETS = ("1", "2", "3+")
# First turn after the switch.
TURN_BUCKETS = ((2, 2), (3, 5), (6, 10), (11, 20), (21, None))
_EXAMPLES = 3
_EXAMPLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Example:
    """One switch, for a person to read; the message is cut."""

    conversation_id: str
    turn_index: int
    from_model: str
    to_model: str
    user_message: str


@dataclass(frozen=True, slots=True)
class SwitchKind:
    """Switches of one kind.

    Attributes:
        kind: upgrade (fast → reasoning), downgrade, lateral (same class) or unknown (a class is).
        count: How many.
        provider_switches: Of them, how many also change the provider.
        fallbacks: Of them, how many a product made after a failure, rather than a person.
        examples: The first few, in order of conversation and turn.
    """

    kind: str
    count: int
    provider_switches: int
    fallbacks: int
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class ModelPair:
    """From one model to another.

    Attributes:
        from_model: Canonical name.
        to_model: Canonical name.
        kind: As in `SwitchKind`.
        count: How often.
        rate: Share in [0, 1] of the turns on `from_model` that were followed by it.
    """

    from_model: str
    to_model: str
    kind: str
    count: int
    rate: float


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """How people use models.

    Attributes:
        turns: Rows of the log.
        turns_without_model: Of them, those that name no model (`auto`, `default`, nothing).
        unknown_models: Names that the catalogue does not know → turns; never guessed.
        conversations: Those with at least one named model.
        by_models: Distinct models ("1", "2", "3+") → conversations.
        turns_by_class: reasoning, fast or unknown → turns.
        switches: In order of `KINDS`.
        by_turn: Bucket of the first turn after the switch → kind → count.
        pairs: Most frequent first.
        fresh: False where `out` held this report already and was left as it was.
    """

    turns: int
    turns_without_model: int
    unknown_models: dict[str, int]
    conversations: int
    by_models: dict[str, int]
    turns_by_class: dict[str, int]
    switches: list[SwitchKind]
    by_turn: dict[str, dict[str, int]]
    pairs: list[ModelPair]
    fresh: bool = True

    def to_json(self) -> dict[str, Any]:
        """Everything but whether it is fresh."""
        stored = asdict(self)
        del stored["fresh"]
        return stored

    @property
    def switch_count(self) -> int:
        """All switches."""
        return sum(kind.count for kind in self.switches)


def report_switches(turns: Path, catalog: Catalog, *, out: Path | None = None) -> SwitchReport:
    """Count models and switches.

    Args:
        turns: A turns table, as `turnout ingest` writes it.
        catalog: Names to classes.
        out: Where `report.json` and `switches.parquet` (one row a switch) go, if anywhere.

    Raises:
        RecordError: If the file is not a turns table or names no model at all.
        StorageError: If `out` cannot be written.
    """
    backend = connect()
    facts = with_model_facts(read_turns(backend, turns), backend, catalog)
    named = facts.filter(facts.named).mutate(name=ibis.coalesce(facts.model_name, facts.model))
    switches = backend.to_pyarrow(_switches(named))
    report = _report(backend, facts, named, switches)
    if report.conversations == 0:
        raise RecordError(
            f"{turns}: none of {report.turns:,} turns names a model; expected a column `model`. "
            "Say which column it is with `turnout ingest --map model=COLUMN`."
        )
    if out is not None:
        manifest = Manifest.of("switches", [turns], {"catalog": catalog.digest})
        if up_to_date(out, manifest):
            return replace(report, fresh=False)
        with staged_output(out, manifest) as partial:
            partial.mkdir()
            text = json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
            (partial / "report.json").write_text(text, encoding="utf-8")
            write_parquet(switches, partial / "switches.parquet")
    return report


def _switches(named: ibis.Table) -> ibis.Table:
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    named = with_fallbacks(named, "name")
    pairs = named.mutate(
        from_model=named.name.lag().over(in_order),
        from_class=named.model_class.lag().over(in_order),
        from_provider=named.provider.lag().over(in_order),
    )
    switched = pairs.filter(pairs.from_model.notnull() & (pairs.from_model != pairs.name))
    same_class = switched.from_class == switched.model_class
    return (
        switched.mutate(
            to_model=switched.name,
            kind=ibis.cases(
                (switched.from_class.isnull() | switched.model_class.isnull(), "unknown"),
                (same_class, "lateral"),
                (switched.model_class == "reasoning", "upgrade"),
                else_="downgrade",
            ),
            provider_switch=(switched.from_provider != switched.provider).fill_null(False),
        )
        .select(
            "conversation_id", "turn_index", "from_model", "to_model", "kind", "provider_switch",
            "fallback", "timestamp", "user_message",
        )
        .order_by("conversation_id", "turn_index")
    )  # fmt: skip


def _report(
    backend: ibis.BaseBackend, facts: ibis.Table, named: ibis.Table, switches: pa.Table
) -> SwitchReport:
    per_conversation = named.group_by("conversation_id").agg(models=named.name.nunique())
    bucket = ibis.ifelse(
        per_conversation.models >= len(MODEL_BUCKETS),
        MODEL_BUCKETS[-1],
        per_conversation.models.cast("string"),
    )
    by_models = _counts(backend, per_conversation.mutate(bucket=bucket), "bucket")
    by_class = _counts(
        backend, named.mutate(bucket=named.model_class.fill_null("unknown")), "bucket"
    )
    unknown = _counts(backend, named.filter(named.model_name.isnull()), "model")
    on_model = _counts(backend, named, "name")
    rows = switches.to_pylist()
    turns = int(backend.to_pyarrow(facts.count()).as_py())
    return SwitchReport(
        turns=turns,
        turns_without_model=turns - sum(by_class.values()),
        unknown_models=unknown,
        conversations=sum(by_models.values()),
        by_models={name: by_models.get(name, 0) for name in MODEL_BUCKETS},
        turns_by_class={c: by_class.get(c, 0) for c in ("reasoning", "fast", "unknown")},
        switches=[_kind(kind, rows) for kind in KINDS],
        by_turn=_by_turn(rows),
        pairs=_pairs(rows, on_model),
    )


def _counts(backend: ibis.BaseBackend, table: ibis.Table, column: str) -> dict[str, int]:
    """Value → rows, most frequent first, then by value."""
    counted = table.group_by(column).agg(n=table.count())
    rows = backend.to_pyarrow(counted).to_pylist()
    return {r[column]: r["n"] for r in sorted(rows, key=lambda r: (-r["n"], r[column]))}


def _kind(kind: str, rows: list[dict[str, Any]]) -> SwitchKind:
    of_kind = [row for row in rows if row["kind"] == kind]
    return SwitchKind(
        kind=kind,
        count=len(of_kind),
        provider_switches=sum(row["provider_switch"] for row in of_kind),
        fallbacks=sum(row["fallback"] for row in of_kind),
        examples=[
            Example(
                row["conversation_id"],
                row["turn_index"],
                row["from_model"],
                row["to_model"],
                " ".join(row["user_message"].split())[:_EXAMPLE_CHARS],
            )
            for row in of_kind[:_EXAMPLES]
        ],
    )


def _by_turn(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for low, high in TURN_BUCKETS:
        name = f"{low}+" if high is None else str(low) if low == high else f"{low}–{high}"
        inside = [r for r in rows if low <= r["turn_index"] <= (high or r["turn_index"])]
        counted[name] = {kind: sum(r["kind"] == kind for r in inside) for kind in KINDS}
    return counted


def _pairs(rows: list[dict[str, Any]], on_model: dict[str, int]) -> list[ModelPair]:
    counted: dict[tuple[str, str, str], int] = {}
    for row in rows:
        pair = (row["from_model"], row["to_model"], row["kind"])
        counted[pair] = counted.get(pair, 0) + 1
    pairs = [
        ModelPair(*pair, count=count, rate=count / on_model[pair[0]])
        for pair, count in counted.items()
    ]
    return sorted(pairs, key=lambda p: (-p.count, p.from_model, p.to_model, p.kind))
