"""The decision APIs, on a real socket: what their own conformance test and their clients say."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway.app import create_app
from turnout.gateway.options import GatewayOptions, Target, Upstream
from turnout.integrations.system_one import MAX_BODY_BYTES, system_one_routes
from turnout.routing import Router

TIERS = {"SIMPLE": "quick answers", "MEDIUM": None, "COMPLEX": None, "REASONING": None}
TIER = {"type": "choice", "instructions": "Which tier?", "criteria": TIERS}
DEEP = {"type": "noul", "instructions": "Does it need deep reasoning?"}
DEPTH = {"type": "score", "criteria": ["none", "some", "much"]}


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    return Router.from_folder(write_router(tmp_path_factory.mktemp("router") / "r", threshold=0.3))


@pytest.fixture(scope="module")
def url(router):
    """The gateway with the decision APIs beside its own."""
    upstreams = {"local": Upstream(url="http://127.0.0.1:9/v1", needs_key=False)}
    targets = {c: Target(upstream="local", model=c) for c in ("reasoning", "fast")}
    options = GatewayOptions(upstreams=upstreams, targets=targets)
    with running(create_app(router, options, system_one_routes)) as url:
        yield url


def asked(url, state, questions, **more):
    body = {"model": "turnout", "state": state, "questions": questions, **more}
    response = httpx.post(f"{url}/v1/systemone", json=body)
    assert response.status_code == 200, response.text
    return response.json()["answers"]


@pytest.mark.slow
def test_every_requirement_of_the_conformance_test_holds(url):
    command = Path(sys.executable).with_name("jevcompat")
    shown = subprocess.run([command, "test", url], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stdout


def test_the_option_that_the_router_chooses_is_the_most_probable(url, router):
    for message in ("prove it", "hello there", "what is this", "derive hello", "prove and derive"):
        answers = asked(url, message, {"tier": TIER, "deep": DEEP})
        decision = router.decide(message, remember=False)
        tier = answers["tier"]
        assert tier["choice"] == {"reasoning": "REASONING", "fast": "SIMPLE"}[decision.model_class]
        assert tier["probabilities"][tier["choice"]] == max(tier["probabilities"].values()) >= 0.5
        assert answers["deep"]["noul"] == pytest.approx(decision.p_reasoning)


def test_the_order_of_options_moves_no_answer(url):
    turned = TIER | {"criteria": dict(reversed(TIERS.items()))}
    answers = asked(url, "prove it", {"a": TIER, "b": turned})
    assert answers["a"] == answers["b"]


def test_options_that_say_nothing_of_depth_are_equally_probable(url):
    teams = {"type": "choice", "criteria": {"Billing": None, "Sales": None}}
    answer = asked(url, "prove it", {"team": teams})["team"]
    assert answer["probabilities"] == {"Billing": 0.5, "Sales": 0.5}
    assert answer["confidence"] == 0


def test_a_score_lies_among_its_levels_as_the_routers_score_does(url, router):
    answer = asked(url, "prove it", {"depth": DEPTH})["depth"]
    p = router.decide("prove it", remember=False).p_reasoning
    assert answer["score"] == pytest.approx(2 * p)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


QUOTED = """Caller system prompt, quoted as task context:
Always prove everything.

Recent conversation (context only, do not classify these):
[1] {earlier}

Conversation so far: ~27 tokens across the request

Classify this message:
{current}"""


@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param("Classify this message:\nhello", "hello", id="message-alone"),
        pytest.param("\nClassify this message:\nhello\nprove", "hello\nprove", id="of-two-lines"),
        pytest.param([{"role": "system", "content": "prove"}, {"role": "user", "content": "hello"}],
                     "hello", id="messages"),
        pytest.param({"messages": [{"role": "user", "content": "hello"}]}, "hello", id="body"),
        pytest.param("I prove: Classify this message:\nhello",
                     "I prove: Classify this message:\nhello", id="words-of-a-person"),
    ],
)  # fmt: skip
def test_the_message_is_found_in_what_a_gateway_quotes(url, router, state, message):
    p = router.decide(message, remember=False).p_reasoning
    assert asked(url, state, {"deep": DEEP})["deep"]["noul"] == pytest.approx(p)


def test_a_session_router_scores_the_first_message_that_is_quoted(url):
    def tier(earlier, current):
        state = QUOTED.format(earlier=earlier, current=current)
        return asked(url, state, {"tier": TIER})["tier"]["choice"]

    assert tier("prove it", "hello") == "REASONING"
    assert tier("hello", "prove it") == "SIMPLE"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        pytest.param(b"{", ["body"], id="broken"),
        pytest.param(b"[]", ["body"], id="no-object"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, ["body"], id="deep"),
        pytest.param(b'{"state": "x"}', ["body", "questions"], id="no-questions"),
        pytest.param(b'{"state": "x", "questions": {"q": {"type": "choice", "criteria": {}}}}',
                     ["body", "questions", "q", "choice", "criteria"], id="no-options"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), ["body"], id="too-long"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_used_is_refused_with_its_place(url, body, place):
    response = httpx.post(f"{url}/v1/systemone", content=body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == place


def test_openais_decision_api_gives_the_same_answers(url):
    questions = [
        {"type": "predicate", "name": "deep", "instructions": "Deep?"},
        {"type": "choice", "name": "tier", "choices": [{"value": name} for name in TIERS]},
        {"type": "score", "name": "depth", "levels": [{"label": x} for x in ("none", "much")]},
        {"type": "choice", "name": "alone", "choices": [{"value": "a"}]},
    ]
    body = {"model": "m", "input": "prove it", "questions": questions}
    deep, tier, depth, alone = httpx.post(f"{url}/v1/decisions", json=body).json()["answers"]
    same = asked(url, "prove it", {"deep": DEEP, "tier": TIER})
    assert deep == {"type": "predicate", "name": "deep", "probability": same["deep"]["noul"]}
    assert tier["choice"] == "REASONING"
    assert {p["value"]: p["probability"] for p in tier["probabilities"]} == same["tier"][
        "probabilities"
    ]
    assert depth["score"] == pytest.approx(same["deep"]["noul"])
    assert alone["type"] == "refusal"


def test_openais_decision_api_refuses_in_openais_form(url):
    refused = httpx.post(f"{url}/v1/decisions", json={"input": "x", "questions": []})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "body.questions"
