"""`route` and `serve` say which population their scores are for."""

import json
import subprocess

import httpx

from tests.cli.command import TURNOUT, run
from tests.tiny_router import write_router
from turnout.routing import Priors

SETTINGS = """
[router]
population = "balanced"
[upstreams.u]
url = "http://127.0.0.1:9/v1"
[targets.reasoning]
upstream = "u"
model = "deep"
[targets.fast]
upstream = "u"
model = "quick"
"""


def test_route_shows_the_population_asked_for(tmp_path):
    router = write_router(tmp_path / "router", priors=Priors(0.5, 0.2))
    by_default = run("route", router, "prove it").stdout
    assert "is 0.649 ≥ threshold 0.200 (population: log)" in by_default
    balanced = json.loads(
        run("route", router, "prove it", "--population", "balanced", "--json").stdout
    )
    assert (balanced["population"], balanced["threshold"]) == ("balanced", 0.5)


def test_a_population_that_the_router_does_not_know_is_refused(tmp_path):
    refused = run("route", write_router(tmp_path / "router"), "hi", "--population", "log", ok=False)
    assert refused.returncode == 2
    assert "does not know the share of reasoning in a log" in refused.stderr


def test_serve_shows_the_population_of_its_settings(tmp_path):
    router = write_router(tmp_path / "router", priors=Priors(0.5, 0.2))
    (tmp_path / "turnout.toml").write_text(SETTINGS)
    command = ["serve", router, "-c", tmp_path / "turnout.toml", "--port", 0]
    with subprocess.Popen(
        [*TURNOUT, *map(str, command)], stderr=subprocess.PIPE, text=True
    ) as gateway:
        address = gateway.stderr.readline().rpartition(" ")[2].strip()
        shown = gateway.stderr.readline()
        body = {"messages": [{"role": "user", "content": "prove it"}]}
        decided = httpx.post(f"{address}/route", json=body, timeout=20).json()
        gateway.terminate()
        gateway.stderr.read()
    assert "for the population balanced" in shown
    assert decided["population"] == "balanced"
