"""A router behind the decision APIs: `POST /v1/systemone` and OpenAI's `POST /v1/decisions`.

A router knows only whether a message needs reasoning. It answers every question with that, whatever
the instructions are.

Source:
    The System One specification 0.1, which `jevcompat` tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from turnout.errors import RecordError
from turnout.integrations.depth import depths_of
from turnout.integrations.quoted import turns_of_state
from turnout.protocols import JsonBody
from turnout.records import Decision
from turnout.routing import Router

# A router reads far less of a message.
MAX_BODY_BYTES = 4 << 20
MAX_QUESTIONS = 128
_CHARS_PER_TOKEN = 4

Structured: TypeAlias = str | dict[str, Any] | list[Any] | None
Level: TypeAlias = str | dict[str, Any] | list[Any]


class _Noul(BaseModel):
    type: Literal["noul"]
    instructions: Structured = None
    criteria: dict[str, Structured] | None = None


class _Choice(BaseModel):
    type: Literal["choice"]
    instructions: Structured = None
    criteria: Annotated[dict[str, Structured], Field(min_length=2, max_length=255)]


class _Score(BaseModel):
    type: Literal["score"]
    instructions: Structured = None
    criteria: Annotated[list[Level], Field(min_length=2, max_length=10)]


_Question = Annotated[_Noul | _Choice | _Score, Field(discriminator="type")]
_Name = Annotated[str, Field(min_length=1)]


class _Body(BaseModel):
    model: str = "turnout"
    state: str | dict[str, Any] | list[Any]
    questions: Annotated[dict[_Name, _Question], Field(min_length=1, max_length=MAX_QUESTIONS)]


class _Option(BaseModel):
    value: str
    description: Structured = None


class _Label(BaseModel):
    label: str


class _OpenAIQuestion(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["predicate", "choice", "score"]
    name: str | None = None
    choices: Annotated[list[_Option], Field(max_length=255)] = []
    levels: Annotated[list[_Label], Field(max_length=10)] = []


class _OpenAIBody(BaseModel):
    model: str = "turnout"
    input: str | list[Any]
    questions: Annotated[list[_OpenAIQuestion], Field(min_length=1, max_length=MAX_QUESTIONS)]


def system_one_routes(router: Callable[[], Router]) -> list[Route]:
    """The routes of both decision APIs, to be served beside others.

    Args:
        router: Returns the router that answers; questions are not stored in its sessions.
    """

    async def system_one(request: Request) -> Response:
        try:
            body = _Body.model_validate(await _body(request))
            decision = await run_in_threadpool(_decide, router(), body.state)
        except (RecordError, ValidationError) as error:
            return _refusal(error)
        answers = {name: _answer(decision, each) for name, each in body.questions.items()}
        usage = {"input_tokens": _n_tokens(body.state), "output_tokens": 0}
        return JSONResponse({"model": body.model, "answers": answers, "usage": usage})

    async def decisions(request: Request) -> Response:
        try:
            body = _OpenAIBody.model_validate(await _body(request))
            decision = await run_in_threadpool(_decide, router(), body.input)
        except (RecordError, ValidationError) as error:
            return _openai_refusal(error)
        usage = {"input_tokens": _n_tokens(body.input), "output_tokens": 0}
        usage["total_tokens"] = usage["input_tokens"]
        answers = [_openai_answer(decision, question) for question in body.questions]
        return JSONResponse(
            {"object": "decision", "model": body.model, "answers": answers, "usage": usage}
        )

    return [
        Route("/v1/systemone", system_one, methods=["POST"]),
        Route("/v1/decisions", decisions, methods=["POST"]),
    ]


async def _body(request: Request) -> Mapping[str, object]:
    pieces, n_bytes = [], 0
    async for piece in request.stream():
        n_bytes += len(piece)
        if n_bytes > MAX_BODY_BYTES:
            raise RecordError(f"body: more than {MAX_BODY_BYTES >> 20} MB; expected less.")
        pieces.append(piece)
    return JsonBody.from_bytes(b"".join(pieces)).values


def _decide(router: Router, state: object) -> Decision | None:
    """The decision; None if the state has no message of a person."""
    turns = turns_of_state(state)
    return router.decide(turns, remember=False) if turns else None


def _p_reasoning(decision: Decision | None) -> float:
    if decision is None:
        return 0.5
    if decision.p_reasoning is None:
        return float(decision.model_class == "reasoning")
    return decision.p_reasoning


def _option_probability(decision: Decision | None) -> float:
    """The score, moved so that the router's threshold becomes one half.

    So the most probable option is the one that the router chooses.
    """
    if decision is None:
        return 0.5
    p, threshold = _p_reasoning(decision), decision.threshold
    if p in (0.0, 1.0) or threshold in (0.0, 1.0):
        return float(decision.model_class == "reasoning")
    moved = 1 / (1 + (1 - p) / p * threshold / (1 - threshold))
    return max(moved, 0.5) if decision.model_class == "reasoning" else min(moved, 0.5)


def _answer(decision: Decision | None, question: _Noul | _Choice | _Score) -> dict[str, Any]:
    if isinstance(question, _Noul):
        return {"type": "noul", "noul": _p_reasoning(decision)}
    if isinstance(question, _Choice):
        return {"type": "choice", **_choice_answer(decision, list(question.criteria))}
    return {"type": "score", **_score_answer(decision, question.criteria)}


def _choice_answer(decision: Decision | None, options: Sequence[str]) -> dict[str, Any]:
    """The options' probabilities: the deepest gets the score, the shallowest the rest.

    Options whose names suggest no depth get 0; with fewer than two depths, all get the same.
    """
    depths = depths_of(options)
    if len(set(depths.values())) < 2 or decision is None:
        probabilities = dict.fromkeys(options, 1 / len(options))
        return {"choice": min(options), "probabilities": probabilities, "confidence": 0.0}
    shallow = min(depths, key=lambda name: (depths[name], name))
    deep = min(depths, key=lambda name: (-depths[name], name))
    p = _option_probability(decision)
    probabilities = dict.fromkeys(options, 0.0) | {shallow: 1 - p, deep: p}
    n = len(options)
    return {
        "choice": deep if decision.model_class == "reasoning" else shallow,
        "probabilities": probabilities,
        "confidence": (max(p, 1 - p) - 1 / n) / (1 - 1 / n),
    }


def _score_answer(decision: Decision | None, levels: Sequence[Level]) -> dict[str, Any]:
    """The levels' probabilities: binomial, so that their mean is the score's place among them."""
    n, p = len(levels), _p_reasoning(decision)
    each = [math.comb(n - 1, i) * p**i * (1 - p) ** (n - 1 - i) for i in range(n)]
    mode = max(range(n), key=lambda i: each[i])
    spread = sum(q * abs(i - mode) for i, q in enumerate(each))
    uniform = sum(abs(i - (n - 1) / 2) for i in range(n)) / n
    texts = [level if isinstance(level, str) else json.dumps(level) for level in levels]
    return {
        "score": (n - 1) * p,
        "legend": {str(i): text for i, text in enumerate(texts)},
        "probabilities": {str(i): q for i, q in enumerate(each)},
        "confidence": max(0.0, 1 - spread / uniform),
    }


def _openai_answer(decision: Decision | None, question: _OpenAIQuestion) -> dict[str, Any]:
    named = {"type": question.type, "name": question.name}
    if question.type == "predicate":
        return named | {"probability": _p_reasoning(decision)}
    if question.type == "choice" and len(question.choices) >= 2:
        answer = _choice_answer(decision, [option.value for option in question.choices])
        listed = [{"value": v, "probability": p} for v, p in answer["probabilities"].items()]
        return named | answer | {"probabilities": listed}
    if question.type == "score" and len(question.levels) >= 2:
        answer = _score_answer(decision, [level.label for level in question.levels])
        texts = answer.pop("legend")
        listed = [
            {"level": int(i), "label": texts[i], "probability": p}
            for i, p in answer["probabilities"].items()
        ]
        return named | answer | {"probabilities": listed}
    return {"type": "refusal", "name": question.name, "refusal": "Expected at least two options."}


def _n_tokens(state: object) -> int:
    """The rough number of tokens of a state."""
    text = state if isinstance(state, str) else json.dumps(state)
    return -(-len(text) // _CHARS_PER_TOKEN)


def _refusal(error: RecordError | ValidationError) -> Response:
    if isinstance(error, ValidationError):
        detail = [
            {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    else:
        detail = [{"loc": ["body"], "msg": str(error), "type": "value_error"}]
    return JSONResponse({"detail": detail}, 422)


def _openai_refusal(error: RecordError | ValidationError) -> Response:
    first = json.loads(bytes(_refusal(error).body))["detail"][0]
    place = ".".join(map(str, first["loc"]))
    text = {"message": f"{place}: {first['msg']}", "type": "invalid_request_error"}
    return JSONResponse({"error": {**text, "param": place, "code": None}}, 400)
