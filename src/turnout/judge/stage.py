"""Turns → what a judge model says of their need, within a sum of money; knows no label.

Apart from `turnout label` because it costs money and needs a network: labels stay free and
repeatable, and take what this writes as one source.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from turnout.catalog import Price
from turnout.engine import connect, reading
from turnout.errors import RecordError, SettingsError, UpstreamError
from turnout.judge.answers import Answer, Answers
from turnout.judge.endpoint import MAX_ANSWER_TOKENS, Endpoint, Reply
from turnout.judge.verdicts import (
    PREVIOUS_TURNS,
    Question,
    Rubric,
    load_rubric,
    question_key,
    question_text,
)
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import Turn
from turnout.schema import JUDGED, TURN_KEYS
from turnout.stage import StageRun
from turnout.turns import read_turns, refuse_repeats, require_places

# A token is at least a byte; roles and marks around the two messages take some more.
_FRAME_TOKENS = 64
# What an answer takes where the judge does not think aloud, for the estimate alone.
_USUAL_CHARS_A_TOKEN = 4
_USUAL_ANSWER_TOKENS = 60
# The endpoint is taken to be down after so many questions in a row without an answer.
_MAX_FAILURES = 20
_PAID = ("prompt_tokens", "completion_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Whom to ask, how much, and for how much.

    Attributes:
        base_url: The endpoint, up to and with its version.
        model: As the endpoint knows it.
        api_key: None where it wants none; never written anywhere.
        sample: Turns to judge, drawn evenly; None for all.
        seed: Decides which turns, and the order.
        max_usd: What the questions of this output may cost in all, killed and resumed runs
            included; None for no limit.
        concurrency: Questions in flight at once, at least 1.
        price: What the model costs; None where it is not known.
        redact: Applied to every text that is sent.
    """

    base_url: str
    model: str
    api_key: str | None = None
    sample: int | None = None
    seed: int = 0
    max_usd: float | None = None
    concurrency: int = 8
    price: Price | None = None
    redact: Callable[[str], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is about to cost.

    Attributes:
        turns: Turns to judge.
        questions: Different questions among them.
        answered: Of those, answered by earlier runs: free.
        prompt_tokens: About how many are sent.
        usual_usd: About what it costs; None where no price is known.
        most_usd: What it cannot pass if every answer is as long as it may be; None the same.
        spent_usd: What these questions have cost before.
    """

    turns: int
    questions: int
    answered: int
    prompt_tokens: int
    usual_usd: float | None
    most_usd: float | None
    spent_usd: float


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What was asked and answered.

    Attributes:
        turns: Turns chosen.
        statuses: judged, or why not → turns; "not asked" where the money ended.
        needs: 1 to 5 → turns.
        questions: Different questions.
        asked: Of them, those asked in this run.
        spent_usd: What all of them have cost, earlier runs included; None without a price.
        max_usd: The limit.
        rubric: Its version.
        fresh: False where an earlier run on the same input was found.
    """

    turns: int
    statuses: dict[str, int]
    needs: dict[str, int]
    questions: int
    asked: int
    spent_usd: float | None
    max_usd: float | None
    rubric: str
    fresh: bool = True

    @property
    def whole(self) -> bool:
        """Whether another run would find nothing to ask."""
        return not self.statuses.get("failed") and not self.statuses.get("not asked")

    def to_json(self) -> dict[str, Any]:
        """Everything but whether it is fresh."""
        stored = asdict(self)
        del stored["fresh"]
        return stored


def judge_turns(
    turns: Path,
    out: Path,
    options: JudgeOptions,
    *,
    answers: Path | None = None,
    agree: Callable[[Estimate], None] = lambda _: None,
    on_progress: OnProgress = silent,
) -> JudgeReport:
    """Ask a judge model about turns and write what it said.

    Questions are asked in an order that the seed decides; each is asked once, however many turns
    read so. No question is sent whose bound would pass the limit, so the questions asked are the
    same however often the run was killed and resumed.

    Args:
        turns: A turns table.
        out: The Parquet file (`schema.JUDGED`), one row a turn asked about.
        options: Whom to ask.
        answers: Where answers are kept; by default beside `out`.
        agree: Told the estimate before anything is sent; raises to stop.
        on_progress: Told after every answer.

    Raises:
        RecordError: If the log cannot be read or has no message.
        SettingsError: If an option is out of range, or a limit has no price to count by.
        UpstreamError: If the endpoint answers nothing.
        StorageError: If an output cannot be written.
    """
    _check(options)
    rubric = load_rubric()
    output = StageRun(out, Manifest.of("judge", {"turns": turns}, _deciding(options, rubric)))
    if output.is_done():
        earlier = output.stored(JudgeReport)
        if earlier.whole:
            return earlier
    with reading(turns):
        questions = list(_questions(turns, options, rubric))
    with Answers(answers or out.with_name(out.name + ".answers.sqlite")) as kept:
        run = _Run(questions, rubric, options, kept, on_progress)
        agree(run.estimate())
        asyncio.run(run.ask_all())
        report = run.report()
        output.record(report)
        with output.output() as partial:
            write_parquet(run.table(), partial)
    return report


def _check(options: JudgeOptions) -> None:
    if options.concurrency < 1 or (options.sample is not None and options.sample < 1):
        raise SettingsError(
            f"judge: found --concurrency {options.concurrency} and --sample {options.sample}; "
            "expected at least 1."
        )
    if options.max_usd is not None and options.price is None:
        raise SettingsError(
            f"--max-usd: no price of {options.model!r} is known, so no sum can be counted; "
            "expected --price-in and --price-out (USD for a million tokens), or a "
            "[[catalog.price]] in turnout.toml."
        )


def _questions(turns: Path, options: JudgeOptions, rubric: Rubric) -> Iterator[Question]:
    """Every different question once, in the order in which they are asked."""
    backend = connect()
    log = read_turns(backend, turns)
    require_places(turns)
    places = log.select(*TURN_KEYS)
    n_rows, n_places = (backend.to_pyarrow(t.count()).as_py() for t in (places, places.distinct()))
    refuse_repeats(turns, n_rows - n_places)
    log = log.filter(log.user_message.strip().length() > 0)
    keys = backend.to_pyarrow(log.select(*TURN_KEYS))
    drawn = sorted(
        zip(*(keys[name].to_pylist() for name in TURN_KEYS), strict=True),
        key=lambda place: _draw(options.seed, *place),
    )[: options.sample]
    if not drawn:
        raise RecordError(f"{turns}: no turn has a message; expected something to judge.")
    texts = _texts(backend, log, drawn, options)
    alike: dict[str, list[tuple[str, int]]] = {}
    for key in drawn:
        alike.setdefault(texts[key], []).append(key)
    for text, same in alike.items():
        yield Question(question_key(options.model, rubric, text), text, tuple(same))


def _draw(seed: int, conversation_id: str, turn_index: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{conversation_id}\0{turn_index}".encode()).digest()


def _texts(
    backend: ibis.BaseBackend,
    log: ibis.Table,
    drawn: Sequence[tuple[str, int]],
    options: JudgeOptions,
) -> dict[tuple[str, int], str]:
    """What is sent of each turn drawn."""
    in_order = ibis.window(group_by="conversation_id", order_by="turn_index")
    sides = ("user_message", "assistant_message")
    before = {
        f"{side}_{back}": log[side].lag(back).over(in_order)
        for side in sides
        for back in range(1, PREVIOUS_TURNS + 1)
    }
    wanted = pa.table(
        {
            "conversation_id": pa.array([key[0] for key in drawn], pa.string()),
            "turn_index": pa.array([key[1] for key in drawn], pa.int32()),
        }
    )
    near = log.mutate(**before).semi_join(ibis.memtable(wanted), list(TURN_KEYS))
    rows = backend.to_pyarrow(near.select(*TURN_KEYS, sides[0], *before))
    found = {}
    for batch in rows.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            text = question_text(_turns(row), row["turn_index"], redact=options.redact)
            found[row["conversation_id"], row["turn_index"]] = text
    return found


def _turns(row: dict[str, Any]) -> list[Turn]:
    """The turn of a row and those before it, oldest first."""
    back = range(PREVIOUS_TURNS, 0, -1)
    previous = [
        Turn(row[f"user_message_{n}"], row[f"assistant_message_{n}"])
        for n in back
        if row[f"user_message_{n}"] is not None
    ]
    return [*previous, Turn(row["user_message"])]


def _deciding(options: JudgeOptions, rubric: Rubric) -> dict[str, Any]:
    """What decides the output; the key to the endpoint and how fast it is asked do not."""
    return {
        "base_url": options.base_url,
        "model": options.model,
        "sample": options.sample,
        "seed": options.seed,
        "max_usd": options.max_usd,
        "price": asdict(options.price) if options.price else None,
        "redact": options.redact is not None,
        "rubric": rubric.version,
    }


class _Run:
    """One run's questions, answers and money."""

    def __init__(
        self,
        questions: Sequence[Question],
        rubric: Rubric,
        options: JudgeOptions,
        kept: Answers,
        on_progress: OnProgress,
    ) -> None:
        self._questions = questions
        self._rubric = rubric
        self._options = options
        self._kept = kept
        self._on_progress = on_progress
        keys = [question.key for question in questions]
        self._answers = kept.found(keys)
        self._waiting = iter([q for q in questions if q.key not in self._answers])
        self._asked = 0
        self._in_flight = 0
        self._failures = 0
        self._failed: set[str] = set()
        self._reserved_usd = 0.0
        self._spent_usd = kept.spent_usd(keys)
        self._settled = asyncio.Condition()
        self._turn_to_take = asyncio.Lock()

    def estimate(self) -> Estimate:
        """What asking the rest is about to cost."""
        rest = [q for q in self._questions if q.key not in self._answers]
        price = self._options.price
        chars = sum(len(self._rubric.text) + len(q.text) for q in rest)
        tokens = chars // _USUAL_CHARS_A_TOKEN
        usual = most = None
        if price is not None:
            usual = price.cost_usd(
                prompt_tokens=tokens, completion_tokens=_USUAL_ANSWER_TOKENS * len(rest)
            )
            most = sum(self._bound_usd(q) for q in rest)
        return Estimate(
            turns=sum(len(q.turns) for q in self._questions),
            questions=len(self._questions),
            answered=len(self._answers),
            prompt_tokens=tokens,
            usual_usd=usual,
            most_usd=most,
            spent_usd=self._spent_usd,
        )

    async def ask_all(self) -> None:
        """Ask until all is answered or the money ends."""
        if len(self._answers) == len(self._questions):
            return
        options = self._options
        async with Endpoint(options.base_url, options.model, options.api_key) as endpoint:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(options.concurrency):
                        group.create_task(self._work(endpoint))
            except ExceptionGroup as errors:
                # One worker's failure stops the others; it alone is told.
                raise errors.exceptions[0] from None
        if self._asked and not self._answers:
            self._give_up("no question was answered")

    async def _work(self, endpoint: Endpoint) -> None:
        while (question := await self._next()) is not None:
            reply = await endpoint.ask(self._rubric.text, question.text)
            await self._settle(question, reply)

    async def _next(self) -> Question | None:
        """The next question, once its bound fits the limit; None at the end of either."""
        async with self._turn_to_take:
            question = next(self._waiting, None)
            if question is None:
                return None
            bound_usd = self._bound_usd(question)
            async with self._settled:
                while not self._fits(bound_usd):
                    if self._in_flight == 0:
                        self._waiting = iter(())
                        return None
                    await self._settled.wait()
                self._in_flight += 1
                self._reserved_usd += bound_usd
            self._kept.asking(question.key, bound_usd)
            self._asked += 1
            return question

    def _fits(self, bound_usd: float) -> bool:
        limit = self._options.max_usd
        return limit is None or self._spent_usd + self._reserved_usd + bound_usd <= limit

    async def _settle(self, question: Question, reply: Reply) -> None:
        verdict, bound_usd = reply.verdict, self._bound_usd(question)
        cost_usd = 0.0
        if verdict.status == "failed":
            self._kept.unanswered(question.key)
            self._failed.add(question.key)
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                self._give_up(f"{self._failures} questions in a row were not answered")
        else:
            self._failures = 0
            cost_usd = self._cost_usd(reply, bound_usd)
            answer = Answer(
                verdict.status,
                verdict.need,
                verdict.reason,
                reply.prompt_tokens,
                reply.completion_tokens,
                cost_usd if self._options.price else None,
            )
            self._kept.keep(question.key, answer)
            self._answers[question.key] = answer
        async with self._settled:
            self._in_flight -= 1
            self._reserved_usd -= bound_usd
            self._spent_usd += cost_usd
            self._settled.notify_all()
        self._on_progress("judge", len(self._answers), len(self._questions))

    def _give_up(self, why: str) -> None:
        options = self._options
        raise UpstreamError(
            f"{options.base_url}: {why} by {options.model}; expected an endpoint of chat "
            "completions. Check it and run it again: answers kept so far are not asked again."
        )

    def _bound_usd(self, question: Question) -> float:
        """What a question cannot pass."""
        price = self._options.price
        if price is None:
            return 0.0
        sent = len(self._rubric.text.encode()) + len(question.text.encode()) + _FRAME_TOKENS
        return price.cost_usd(prompt_tokens=sent, completion_tokens=MAX_ANSWER_TOKENS)

    def _cost_usd(self, reply: Reply, bound_usd: float) -> float:
        price = self._options.price
        if price is None:
            return 0.0
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return bound_usd  # it may have cost as much
        return price.cost_usd(
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
        )

    def report(self) -> JudgeReport:
        """What all of it came to."""
        statuses: Counter[str] = Counter()
        needs: Counter[str] = Counter()
        for question in self._questions:
            answer = self._answers.get(question.key)
            statuses[self._status(question)] += len(question.turns)
            if answer is not None and answer.need is not None:
                needs[str(answer.need)] += len(question.turns)
        return JudgeReport(
            turns=sum(len(q.turns) for q in self._questions),
            statuses=dict(sorted(statuses.items())),
            needs=dict(sorted(needs.items())),
            questions=len(self._questions),
            asked=self._asked,
            spent_usd=self._spent_usd if self._options.price else None,
            max_usd=self._options.max_usd,
            rubric=self._rubric.version,
        )

    def _status(self, question: Question) -> str:
        answer = self._answers.get(question.key)
        if answer is not None:
            return answer.status
        return "failed" if question.key in self._failed else "not asked"

    def table(self) -> pa.Table:
        """A row for each turn asked about, in order of conversation and turn."""
        rows = []
        for question in self._questions:
            answer = self._answers.get(question.key)
            if answer is None:
                continue
            shared = asdict(answer) | {"model": self._options.model, "rubric": self._rubric.version}
            for place, (conversation_id, turn_index) in enumerate(question.turns):
                # Turns that read alike were asked about once: the first carries what it took.
                row = shared if place == 0 else shared | dict.fromkeys(_PAID)
                rows.append(row | {"conversation_id": conversation_id, "turn_index": turn_index})
        rows.sort(key=lambda row: (row["conversation_id"], row["turn_index"]))
        return pa.Table.from_pylist(rows, JUDGED)
