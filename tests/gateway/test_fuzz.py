"""Whatever a caller or an upstream sends, the gateway answers, and never with its own failure."""

import httpx
import pytest

from tests.gateway.fuzzing import fuzzed


@pytest.mark.slow
def test_no_input_makes_an_error_of_the_gateways_own_or_a_line_that_cannot_be_read(tmp_path):
    with fuzzed(tmp_path, seed=1) as gateway:
        for _ in range(1_000):
            gateway.request()
            gateway.read()
        assert gateway.close() > 100


def test_the_document_names_every_path_that_is_served(served):
    document = httpx.get(f"{served.url}/openapi.json").json()
    missing = httpx.get(f"{served.url}/nowhere").json()["error"]["message"]
    assert document["openapi"] == "3.1.0"
    for path, item in document["paths"].items():
        assert path in missing
        (method,) = item
        asked = httpx.request(method, f"{served.url}{path.replace('{name}', 'turnout')}")
        assert asked.status_code in (200, 400), path
