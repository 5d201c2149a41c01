"""Asks a judge model the questions of one run, within its budget."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from turnout.errors import UpstreamError
from turnout.judge.answers import Answer, AnswerFile
from turnout.judge.budget import Budget
from turnout.judge.endpoint import MAX_ANSWER_TOKENS, AttemptError, Endpoint, Reply
from turnout.judge.report import CostEstimate, JudgeOptions, JudgeReport
from turnout.judge.verdicts import Question, Rubric
from turnout.progress import OnProgress
from turnout.schema import JUDGED

# A token is at least a byte; roles and marks around the two messages take some more.
_FRAME_TOKENS = 64
# The usual length of an answer without thinking, for the estimate alone.
_USUAL_CHARS_A_TOKEN = 4
_USUAL_ANSWER_TOKENS = 60
_ATTEMPTS = 7
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
# After so many questions in a row without an answer, the endpoint counts as down.
_MAX_FAILURES = 20
_PAID = ("prompt_tokens", "completion_tokens", "cost_usd")


class JudgeRun:
    """One run's questions, answers and budget.

    Args:
        questions: In the order in which they are asked.
        rubric: The instructions to the judge.
        options: Which model to ask, and at what cost.
        stored: The file of answers of earlier runs and of this one.
        on_progress: Called after every answer.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        rubric: Rubric,
        options: JudgeOptions,
        stored: AnswerFile,
        on_progress: OnProgress,
    ) -> None:
        self._questions = questions
        self._rubric = rubric
        self._options = options
        self._stored = stored
        self._on_progress = on_progress
        keys = [question.key for question in questions]
        self._answers = stored.stored(keys)
        self._waiting = iter([q for q in questions if q.key not in self._answers])
        self._asked = 0
        self._failures = 0
        self._failed: set[str] = set()
        self._budget = Budget(options.max_usd, stored.spent_usd(keys))
        self._next_question = asyncio.Lock()

    def estimate(self) -> CostEstimate:
        """What the questions without an answer will cost."""
        open_questions = [q for q in self._questions if q.key not in self._answers]
        price = self._options.price
        chars = sum(len(self._rubric.text) + len(q.text) for q in open_questions)
        tokens = chars // _USUAL_CHARS_A_TOKEN
        usual = most = None
        if price is not None:
            usual = price.cost_usd(
                prompt_tokens=tokens, completion_tokens=_USUAL_ANSWER_TOKENS * len(open_questions)
            )
            most = sum(self._bound_usd(q) for q in open_questions)
        return CostEstimate(
            turns=sum(len(q.turns) for q in self._questions),
            questions=len(self._questions),
            answered=len(self._answers),
            prompt_tokens=tokens,
            usual_usd=usual,
            most_usd=most,
            spent_usd=self._budget.spent_usd,
        )

    async def ask_all(self) -> None:
        """Ask until all questions are answered or the budget ends.

        Raises:
            UpstreamError: If the endpoint answers nothing.
        """
        if len(self._answers) == len(self._questions):
            return
        options = self._options
        async with Endpoint(
            options.base_url, options.model, options.api_key, options.timeout_s
        ) as endpoint:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(options.concurrency):
                        group.create_task(self._work(endpoint))
            except ExceptionGroup as errors:
                # One worker's failure stops the others; it alone is shown.
                raise errors.exceptions[0] from None
        if self._asked and not self._answers:
            self._give_up("no question was answered")

    async def _work(self, endpoint: Endpoint) -> None:
        while (question := await self._next()) is not None:
            await self._ask(endpoint, question)

    async def _next(self) -> Question | None:
        """The next question, with its first attempt reserved; None if none is left or fits."""
        async with self._next_question:
            question = next(self._waiting, None)
            if question is None or not await self._reserve(question):
                self._waiting = iter(())
                return None
            self._asked += 1
            return question

    async def _reserve(self, question: Question, after_s: float = 0.0) -> bool:
        await asyncio.sleep(after_s)
        bound_usd = self._bound_usd(question)
        if not await self._budget.reserve(bound_usd):
            return False
        self._stored.attempt(question.key, bound_usd)
        return True

    async def _ask(self, endpoint: Endpoint, question: Question) -> None:
        """Attempt a question whose first attempt is reserved, until it is answered or given up."""
        pause_s = 0.0
        for attempt in range(_ATTEMPTS):
            if attempt and not await self._reserve(question, after_s=pause_s):
                return
            try:
                reply = await endpoint.ask_once(self._rubric.text, question.text)
            except AttemptError as error:
                await self._settle_failed(question, may_be_billed=error.may_be_billed)
                if not error.retried:
                    break
                pause_s = _pause_s(error, attempt)
            except UpstreamError:
                await self._settle_failed(question, may_be_billed=False)
                raise
            else:
                await self._settle(question, reply)
                return
        self._failed.add(question.key)
        self._failures += 1
        if self._failures >= _MAX_FAILURES:
            self._give_up(f"{self._failures} questions in a row were not answered")

    async def _settle_failed(self, question: Question, *, may_be_billed: bool) -> None:
        bound_usd = self._bound_usd(question)
        cost_usd = bound_usd if may_be_billed else 0.0
        self._stored.failed(question.key, cost_usd)
        await self._budget.settle(bound_usd, cost_usd)

    async def _settle(self, question: Question, reply: Reply) -> None:
        bound_usd = self._bound_usd(question)
        cost_usd = self._cost_usd(reply, bound_usd)
        answer = Answer(
            reply.verdict.status,
            reply.verdict.need,
            reply.verdict.reason,
            reply.prompt_tokens,
            reply.completion_tokens,
            cost_usd if self._options.price else None,
        )
        self._stored.store(question.key, answer)
        self._answers[question.key] = answer
        self._failures = 0
        await self._budget.settle(bound_usd, cost_usd)
        self._on_progress("judge", len(self._answers), len(self._questions))

    def _give_up(self, why: str) -> None:
        options = self._options
        raise UpstreamError(
            f"{options.base_url}: {why} by {options.model}; expected an endpoint of chat "
            "completions. Check it and run it again: stored answers are not asked again."
        )

    def _bound_usd(self, question: Question) -> float:
        """What one attempt at a question costs at most."""
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
            return bound_usd
        return price.cost_usd(
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
        )

    def report(self) -> JudgeReport:
        """The answers and their total cost."""
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
            spent_usd=self._budget.spent_usd if self._options.price else None,
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
                # Turns with the same text were asked about once: the first one carries the cost.
                row = shared if place == 0 else shared | dict.fromkeys(_PAID)
                rows.append(row | {"conversation_id": conversation_id, "turn_index": turn_index})
        rows.sort(key=lambda row: (row["conversation_id"], row["turn_index"]))
        return pa.Table.from_pylist(rows, JUDGED)


def _pause_s(error: AttemptError, attempt: int) -> float:
    """How long to wait before the next attempt."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt)
