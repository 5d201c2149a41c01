"""What the settings of the gateway change: shadow mode, exploration, named models, check."""

import random
import time

import httpx
import openai
import pytest

from tests.gateway.conftest import (
    Served,
    assistant,
    conversation,
    gateway_of,
    options_for,
    user,
)
from tests.gateway.test_conversations import answered
from tests.gateway.upstream import Chat, UpstreamApp
from tests.servers import running
from tests.tiny_router import write_router
from turnout.catalog import Price
from turnout.gateway.app import Gateway, app_of
from turnout.gateway.check import missing_keys, surprises
from turnout.gateway.conversations import Conversations
from turnout.gateway.decide import Decider
from turnout.gateway.options import GatewayOptions, NamedModel, Target, Upstream
from turnout.routing import Router, RouterFolder, policies
from turnout.routing.policies import policy_of
from turnout.routing.sessions import MemorySessions
from turnout.settings import load_settings


def test_in_shadow_everything_is_decided_and_goes_to_one_target(tmp_path):
    def options(url, journal):
        return options_for(url, journal, {"shadow": True})

    with gateway_of(tmp_path, options) as served:
        served.post([user("hello")])
        served.post([user("prove it")])
        served.post([user("hello")], model="quick-1")
        lines = served.lines(3)
    assert served.upstream.models() == ["deep-1", "deep-1", "quick-1"]
    assert [line["decided_class"] for line in lines] == ["fast", "reasoning", "fast"]
    assert [line["chosen_by"] for line in lines] == ["product", "product", "person"]
    assert None not in [line["p_reasoning"] for line in lines]
    assert [line["propensity"] for line in lines] == [None] * 3


@pytest.mark.parametrize("draw", [0.0, 0.99])
def test_a_share_of_scored_messages_goes_to_the_other_class_with_its_propensity(tmp_path, draw):
    options = options_for("http://127.0.0.1:1", None, {"exploration_share": 0.1})
    router = Router.from_folder(write_router(tmp_path / "router", "conversation"))
    decider = Decider(router, options, Conversations(MemorySessions()), uniform=lambda: draw)
    decided = decider.decide(asked_of({"messages": [user("hello")]}))
    explored = draw < 0.1
    assert decided.model_class == ("reasoning" if explored else "fast")
    assert decided.decided_class == "fast"
    assert decided.propensity == pytest.approx(0.1 if explored else 0.9)
    assert decided.reason.startswith("exploration") is explored


def test_nothing_is_explored_where_a_lock_holds(tmp_path):
    options = options_for("http://127.0.0.1:1", None, {"exploration_share": 0.5})
    router = Router.from_folder(write_router(tmp_path / "router", "conversation"))
    decider = Decider(router, options, Conversations(MemorySessions()), uniform=lambda: 0.0)
    headers = {"x-turnout-conversation-id": "c"}
    by_name = {"model": "deep-1", "messages": [user("hello")]}
    decider.decide(asked_of(by_name, headers))
    history = [user("hello"), assistant("hi"), user("thanks")]
    decided = decider.decide(asked_of({"messages": history}, headers))
    assert (decided.model_class, decided.chosen_by) == ("reasoning", "person")


def test_shares_of_many_draws_are_those_that_were_asked_for(tmp_path):
    options = options_for("http://127.0.0.1:1", None, {"exploration_share": 0.2})
    router = Router.from_folder(write_router(tmp_path / "router", "conversation"))
    conversations = Conversations(MemorySessions())
    draws = random.Random(1)
    decider = Decider(router, options, conversations, uniform=draws.random)
    classes = [
        decider.decide(asked_of({"messages": [user(f"hello {n}")]})).model_class for n in range(400)
    ]
    assert 50 < classes.count("reasoning") < 110


def asked_of(body, headers=None):
    """A request as the gateway reads it."""
    from turnout.gateway.parsed_request import ParsedRequest, identity_of
    from turnout.protocols import WIRE_FORMATS, JsonBody, read_call

    json_body = JsonBody.from_bytes(httpx.Request("POST", "http://x", json=body).content)
    call = read_call(WIRE_FORMATS["chat"], headers or {}, json_body)
    identity = identity_of(call, json_body.values, "")
    return ParsedRequest(
        WIRE_FORMATS["chat"], "/chat/completions", "", [], headers or {}, json_body, call, identity,
        None,
    )  # fmt: skip


@conversation
def test_threshold_and_policy_of_a_request_are_refused_where_the_settings_do_not_allow_them(
    served,
):
    for header, value in (("x-turnout-threshold", "0.9"), ("x-turnout-policy", "fixed")):
        response = served.post([user("hello")], headers={header: value})
        assert response.status_code == 400
        assert "request_overrides" in response.json()["error"]["message"]


def test_threshold_and_policy_of_a_request_are_followed_where_the_settings_allow_them(tmp_path):
    def options(url, journal):
        return options_for(url, journal, {"request_overrides": True})

    with gateway_of(tmp_path, options) as served:
        low = served.post([user("hello")], headers={"x-turnout-threshold": "0.01"})
        fixed = served.post([user("hello")], headers={"x-turnout-policy": "fixed"})
        for header, bad in (("x-turnout-threshold", "2"), ("x-turnout-policy", "best")):
            assert served.post([user("x")], headers={header: bad}).status_code == 400
    assert (low.headers["x-turnout-class"], low.headers["x-turnout-threshold"]) == (
        "reasoning", "0.0100",
    )  # fmt: skip
    assert fixed.headers["x-turnout-policy"] == "fixed"


def one_model_twice(url, journal, **door):
    return GatewayOptions(
        **door,
        upstreams={
            "local": Upstream(url=f"{url}/v1"),
            "other": Upstream(url=f"{url}/v1", protocols=("messages",)),
        },
        targets={
            "reasoning": Target(upstream="local", model="m", effort="high"),
            "fast": Target(upstream="local", model="m", parameters={"reasoning_effort": "low"}),
        },
        models={"embedder": NamedModel(upstream="local"), "alias": NamedModel(
            upstream="local", model="real-name"
        )},
        journal=journal,
    )  # fmt: skip


@pytest.mark.parametrize(("effort", "expected"), [("low", "fast"), ("high", "reasoning")])
def test_two_targets_of_one_model_are_told_apart_by_the_callers_effort(tmp_path, effort, expected):
    with gateway_of(tmp_path, one_model_twice) as served:
        response = served.post([user("hello")], model="m", reasoning_effort=effort)
        other = served.post([user("hello")], model="m", reasoning_effort="minimal")
    assert response.headers["x-turnout-class"] == expected
    assert other.headers["x-turnout-effort"] == "minimal"
    efforts = [body["reasoning_effort"] for body in served.upstream.bodies]
    assert efforts == [effort, "minimal"], "the caller's own effort stands"


def test_models_of_the_settings_may_be_asked_for_and_others_only_with_passthrough(tmp_path):
    def open_door(url, journal):
        return one_model_twice(url, journal, passthrough=True)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with gateway_of(tmp_path / "a", one_model_twice) as served:
        response = served.post([user("hello")], model="alias")
        assert served.post([user("hello")], model="elsewhere").status_code == 404
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x") as client:
            assert client.embeddings.create(model="embedder", input="x").model == "embedder"
        (line,) = served.lines()
    assert served.upstream.models() == ["real-name", "embedder"]
    assert response.headers["x-turnout-class"] == "none"
    assert (line["model_class"], line["chosen_by"], line["policy"]) == (None, "person", "asked")
    with gateway_of(tmp_path / "b", open_door) as served:
        assert served.post([user("hello")], model="elsewhere").status_code == 200
    assert served.upstream.models() == ["elsewhere"]


def test_a_protocol_that_no_target_speaks_is_told(tmp_path):
    def options(url, journal):
        return options_for(url, journal, protocols=("responses", "messages"))

    with gateway_of(tmp_path, options) as served:
        response = served.post([user("hello")])
        assert httpx.get(f"{served.url}/readyz").status_code == 200
    assert response.status_code == 404
    assert "speaks chat" in response.json()["error"]["message"]


def test_it_is_not_ready_while_an_upstream_does_not_accept_connections(tmp_path):
    def options(url, journal):
        return options_for("http://127.0.0.1:1")

    with gateway_of(tmp_path, options) as served:
        response = httpx.get(f"{served.url}/readyz")
        assert httpx.get(f"{served.url}/healthz").status_code == 200
    assert (response.status_code, response.json()["upstreams"]) == (503, {"local": False})


def test_it_is_ready_on_a_connection_that_was_used_before(served):
    served.post([user("hello")])
    assert httpx.get(f"{served.url}/readyz").json()["status"] == "ready"


@pytest.mark.parametrize("text", ["off", "hashed"])
def test_the_journal_holds_no_text_where_none_is_wanted(tmp_path, text):
    def options(url, journal):
        return options_for(url, journal, {"journal_text": text})

    with gateway_of(tmp_path, options) as served:
        served.post([user("hello rosebud")])
        (line,) = served.lines()
    assert "rosebud" not in str(line)
    assert (line["user_message_hash"] is not None) is (text == "hashed")


def test_a_body_that_is_too_large_is_refused_in_the_protocols_form(tmp_path):
    def options(url, journal):
        return options_for(url, journal, {"max_body_mb": 0.001})

    with gateway_of(tmp_path, options) as served:
        whole = served.post([user("x" * 2000)])
        chunked = httpx.post(
            f"{served.url}/v1/messages",
            content=(b"x" * 100 for _ in range(20)),
            headers={"content-type": "application/json"},
        )
        assert served.post([user("hello")]).status_code == 200
    assert (whole.status_code, chunked.status_code) == (413, 413)
    assert whole.json()["error"]["code"] == "request_too_large"
    assert chunked.json()["error"]["type"] == "request_too_large"


def test_the_check_names_what_would_surprise(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    same = Target(upstream="a", model="m")
    options = GatewayOptions(
        upstreams={
            "a": Upstream(url="http://models.example:8000", api_key_env="NO_SUCH_KEY"),
            "unused": Upstream(url="https://x.example/v1"),
        },
        targets={"reasoning": same, "fast": same},
        shadow=True,
        exploration_share=0.1,
        allowed_origins=("*",),
    )
    folder = write_router(tmp_path / "router", "session")
    plain = Router.from_folder(folder)
    router = Router(plain.folder, policy_of("conversation"), threshold=0.9)
    notes = "\n".join(surprises(router, options, plain.threshold))
    for said in (
        "has no version", "unencrypted", "no target and no model uses it", "changes nothing",
        "trained to decide for session", "0.9 is served, not the router folder's 0.5",
        "none is written", "nothing is routed", "10.0% of scored messages", "any web page",
    ):  # fmt: skip
        assert said in notes
    assert missing_keys(options) == ["NO_SUCH_KEY"]
    good = options_for("http://127.0.0.1:1", tmp_path)
    assert surprises(plain, good, plain.threshold) == []
    # A conversation router was trained on first messages too.
    for_all_turns = Router.from_folder(write_router(tmp_path / "conversation", "conversation"))
    pinned = Router(for_all_turns.folder, policy_of("session"))
    assert surprises(pinned, good, pinned.threshold) == []


def test_a_request_of_a_protocol_goes_to_the_stand_in_that_speaks_it(tmp_path):
    def options(url, journal):
        fast = Target(
            upstream="openai", model="gpt", stand_ins=(Target(upstream="claude", model="haiku"),)
        )
        return GatewayOptions(
            upstreams={
                "openai": Upstream(url=f"{url}/v1", protocols=("chat", "responses")),
                "claude": Upstream(url=f"{url}/v1", protocols=("messages",)),
            },
            targets={"reasoning": Target(upstream="openai", model="deep"), "fast": fast},
        )

    with gateway_of(tmp_path, options) as served:
        served.post([user("hello")])
        body = {"model": "turnout", "messages": [user("hello")]}
        httpx.post(f"{served.url}/v1/messages", json=body)
    assert served.upstream.models() == ["gpt", "haiku"]
    assert Chat.path in served.upstream.urls[0]


def test_what_answers_and_switches_cost_counts_in_their_conversation(tmp_path):
    prices = {"reasoning": Price(5.0, 25.0, 0.5, 6.25), "fast": Price(1.0, 5.0, 0.1, 1.25)}
    folder = RouterFolder.read(write_router(tmp_path / "router", "conversation"))
    targets = {name: policies.Target(name, price) for name, price in prices.items()}
    upstream = UpstreamApp()
    with running(upstream.app) as url:
        gateway = Gateway(Router(folder, targets=targets), options_for(url))
        with running(app_of(gateway)) as door:
            served = Served(door, upstream, tmp_path)
            first = served.post([user("hello")])
            hello = [user("hello"), answered(first)]
            second = served.post([*hello, user("prove it")])
    assert second.headers["x-turnout-class"] == "reasoning"
    history = [*hello, user("prove it"), answered(second), user("thanks")]
    session = gateway.runtime.decider.decide(
        asked_of({"messages": history}), remember=False
    ).place.session
    # Of 7 prompt tokens 2 were cached, and 5 were answered.
    fast_usd, reasoning_usd = (5 * 1 + 2 * 0.1 + 5 * 5) / 1e6, (5 * 5 + 2 * 0.5 + 5 * 25) / 1e6
    assert session.spent_usd == pytest.approx(fast_usd + reasoning_usd)
    assert 0 < session.switching_usd < session.spent_usd


def test_a_cache_holds_the_prompt_for_as_long_as_its_target_keeps_it(tmp_path):
    folder = RouterFolder.read(write_router(tmp_path / "router", "conversation"))
    targets = {
        name: policies.Target(name, Price(5.0, 25.0), cache_lifetime_s=1800.0)
        for name in ("reasoning", "fast")
    }
    upstream = UpstreamApp()
    with running(upstream.app) as url:
        gateway = Gateway(Router(folder, targets=targets), options_for(url))
        began_s = time.time()
        with running(app_of(gateway)) as door:
            first = Served(door, upstream, tmp_path).post([user("hello")])
    history = [user("hello"), answered(first), user("thanks")]
    place = gateway.runtime.decider.decide(asked_of({"messages": history}), remember=False).place
    cache = place.session.caches["fast"]
    # Of 12 tokens 7 were the prompt's: an answer is not written to a cache.
    assert (cache.tokens, cache.lifetime_s) == (7, 1800.0)
    assert 0 <= cache.used_at_s - began_s < 60


def test_a_policy_that_a_request_asks_for_has_the_numbers_of_the_settings(tmp_path):
    text = """
        [router]
        policy = "conversation"
        miss_usd = 0.000001

        [targets]
        reasoning = { upstream = "local", model = "claude-opus-4-5" }
        fast = { upstream = "local", model = "claude-haiku-4-5" }
    """
    (tmp_path / "turnout.toml").write_text(text.replace("        ", "") + _LOCAL)
    settings = load_settings(tmp_path / "turnout.toml")
    router = settings.open_router(write_router(tmp_path / "router", "conversation"))
    options = options_for("http://127.0.0.1:1", None, {"request_overrides": True})
    decider = Decider(router, options, Conversations(MemorySessions()))
    body = {"messages": [user("prove it")]}
    assert decider.decide(asked_of(body), remember=False).model_class == "reasoning"
    decided = decider.decide(asked_of(body, {"x-turnout-policy": "priced"}))
    # A miss costs next to nothing here.
    assert (decided.policy, decided.model_class) == ("priced", "fast")


_LOCAL = """
[upstreams.local]
url = "http://127.0.0.1:1/v1"
"""
