"""The adapters inside a real LiteLLM proxy, on all three protocols, in front of our upstream.

The proxy has an environment of its own: `make test-litellm` makes it.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from starlette.applications import Starlette

from tests.servers import free_port, running
from tests.tiny_router import write_router
from tests.upstream import Upstream
from turnout.integrations.system_one import system_one_routes
from turnout.routing import Router

ROOT = Path(__file__).resolve().parents[2]
PROXY = ROOT / ".venv" / "litellm" / "bin" / "litellm"
KEY = "sk-master"
HARD, EASY = "prove it", "hello"
MODELS = {HARD: "gpt-5.1", EASY: "gpt-5-mini"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROXY.exists(), reason="make test-litellm installs the LiteLLM proxy"),
]


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as running_upstream:
        yield running_upstream


@pytest.fixture(scope="module")
def router_folder(tmp_path_factory):
    return write_router(tmp_path_factory.mktemp("router") / "r")


@pytest.fixture(scope="module")
def urls(tmp_path_factory, upstream, router_folder):
    """The three example configurations, each in a proxy of its own."""
    folder = tmp_path_factory.mktemp("litellm")
    shutil.copytree(ROOT / "examples" / "litellm", folder, dirs_exist_ok=True)
    with contextlib.ExitStack() as stack:
        router = Router.from_folder(router_folder)
        routes = system_one_routes(lambda: router)
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT / "src"),
            "LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENAI_API_KEY": "k", "OPENAI_API_BASE": f"{upstream.url}/v1",
            "TURNOUT_ROUTER": str(router_folder),
            "TURNOUT_URL": stack.enter_context(running(Starlette(routes=routes))),
        }  # fmt: skip
        started = {
            name: stack.enter_context(proxy(folder, name, environment))
            for name in ("classifier", "hook", "decisions")
        }
        for name, (process, url) in started.items():
            wait_for(process, url, folder / f"{name}.log")
        yield {name: url for name, (_, url) in started.items()}


@contextlib.contextmanager
def proxy(folder, name, environment):
    """A proxy that begins to start."""
    port = free_port()
    command = [PROXY, "--config", f"{name}.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(process, url, log):
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health/liveliness", timeout=5).is_success:
                return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    pytest.fail(f"the proxy did not start:\n{log.read_text()[-3000:]}")


NAMES = pytest.mark.parametrize("name", ["classifier", "hook", "decisions"])


def chat(url, words, headers=None):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        asked = [{"role": "user", "content": words}] if isinstance(words, str) else words
        return client.chat.completions.with_raw_response.create(
            model="turnout", messages=asked, extra_headers=headers
        )


def said(upstream):
    """The model and effort of the last request that reached the upstream."""
    body = upstream.requests[-1].json
    return body["model"], body.get("reasoning_effort", (body.get("reasoning") or {}).get("effort"))


@NAMES
@pytest.mark.parametrize("words", [HARD, EASY])
def test_chat_completions_go_where_the_router_sends_them(urls, upstream, name, words):
    answer = chat(urls[name], words).parse()
    assert answer.choices[0].message.content == f"from {MODELS[words]} ✓"
    model, effort = said(upstream)
    assert model == MODELS[words]
    assert effort == ("high" if words == HARD and name != "decisions" else None)


@NAMES
@pytest.mark.parametrize("words", [HARD, EASY])
def test_a_stream_goes_where_the_router_sends_it(urls, upstream, name, words):
    asked = {"model": "turnout", "messages": [{"role": "user", "content": words}]}
    with openai.OpenAI(base_url=f"{urls[name]}/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(**asked, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert text == f"from {MODELS[words]} ✓"


@NAMES
@pytest.mark.parametrize("words", [HARD, EASY])
def test_responses_go_where_the_router_sends_them(urls, upstream, name, words):
    with openai.OpenAI(base_url=f"{urls[name]}/v1", api_key=KEY, max_retries=0) as client:
        answer = client.responses.create(model="turnout", input=words)
    assert answer.output_text == f"from {MODELS[words]} ✓"
    assert said(upstream)[0] == MODELS[words]


@NAMES
@pytest.mark.parametrize("words", [HARD, EASY])
def test_messages_go_where_the_router_sends_them(urls, upstream, name, words):
    with anthropic.Anthropic(base_url=urls[name], api_key=KEY, max_retries=0) as client:
        answer = client.messages.create(
            model="turnout", max_tokens=50, messages=[{"role": "user", "content": words}]
        )
    assert answer.content[-1].text == f"from {MODELS[words]} ✓"
    assert said(upstream)[0] == MODELS[words]


@pytest.mark.parametrize("name", ["classifier", "hook"])
def test_a_conversation_stays_where_its_first_message_put_it(urls, upstream, name):
    headers = {"x-session-id": f"session-{name}"}
    chat(urls[name], HARD, headers)
    chat(urls[name], EASY, headers)  # a client that sends the newest message alone
    assert said(upstream)[0] == MODELS[HARD]


@pytest.mark.parametrize("name", ["classifier", "hook"])
def test_harness_text_is_not_scored(urls, upstream, name):
    reminder = "<system-reminder>prove and derive</system-reminder>"
    chat(urls[name], [{"role": "user", "content": [
        {"type": "text", "text": reminder}, {"type": "text", "text": EASY}]}])  # fmt: skip
    assert said(upstream)[0] == MODELS[EASY]


def test_the_hook_says_what_it_decided(urls):
    headers = chat(urls["hook"], HARD).headers
    assert headers["x-turnout-class"] == "reasoning"
    assert float(headers["x-turnout-p-reasoning"]) > 0.5


@pytest.mark.parametrize("name", ["classifier", "hook"])
def test_a_request_that_cannot_be_decided_is_served_all_the_same(urls, upstream, name):
    too_long = {"x-turnout-conversation-id": "x" * 500}
    assert chat(urls[name], EASY, too_long).status_code == 200
    only_system = [{"role": "system", "content": "Be brief."}]
    assert chat(urls[name], only_system).status_code == 200


def test_a_model_that_is_asked_for_by_name_is_left_alone(urls, upstream):
    with openai.OpenAI(base_url=f"{urls['hook']}/v1", api_key=KEY, max_retries=0) as client:
        client.chat.completions.create(model="quick", messages=[{"role": "user", "content": HARD}])
    assert said(upstream) == (MODELS[EASY], None)
