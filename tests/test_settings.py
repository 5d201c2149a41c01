"""turnout.toml: what it may say, and how every mistake in it is told."""

from pathlib import Path

import pytest

from turnout.errors import SettingsError
from turnout.settings import catalog_of, load_settings

WHOLE = """
[router]
policy = "boundary"
threshold = 0.4
cache_lifetime_s = 60

[upstreams.local]
url = "http://127.0.0.1:9/v1"
api_key_env = "KEY"
timeout_s = 5

[targets.reasoning]
upstream = "local"
model = "deep"
parameters = { reasoning_effort = "high" }

[targets.fast]
upstream = "local"
model = "quick"

[gateway]
port = 0
journal = "journal"
"""


def written(tmp_path, text) -> Path:
    path = tmp_path / "turnout.toml"
    path.write_text(text)
    return path


def test_everything_the_file_says_is_taken(tmp_path):
    settings = load_settings(written(tmp_path, WHOLE))
    assert (settings.policy.name, settings.policy.cache_lifetime_s) == ("boundary", 60)
    assert settings.threshold == 0.4
    gateway = settings.gateway
    assert gateway.upstreams["local"].api_key_env == "KEY"
    assert gateway.targets["reasoning"].parameters == {"reasoning_effort": "high"}
    assert (gateway.host, gateway.port, gateway.model_name) == ("127.0.0.1", 0, "turnout")
    assert gateway.journal == tmp_path / "journal"


def test_an_empty_file_leaves_everything_at_its_default(tmp_path):
    settings = load_settings(written(tmp_path, ""))
    assert (settings.policy, settings.threshold, settings.gateway) == (None, None, None)


def test_the_example_in_the_repository_is_valid():
    example = Path(__file__).resolve().parents[1] / "examples" / "turnout.toml"
    assert load_settings(example).gateway.targets["fast"].model == "gpt-5-mini"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[routr]", "routr: unknown; did you mean router?"),
        ("[gateway]\nprot = 1\n" + WHOLE[: WHOLE.index("[gateway]")], "did you mean port?"),
        ('[router]\npolicy = "clever"', "found 'clever'; expected one of session"),
        ("[router]\nthreshold = 2", "router.threshold: found 2; expected a number from 0 to 1"),
        ("[router]\nthreshold = true", "router.threshold: found True"),
        ("router = 3", "router: found 3; expected a table"),
        (WHOLE.replace('url = "http:', 'url = "ftp:'), "expected http:// or https://"),
        (
            WHOLE.replace('upstream = "local"', 'upstream = "lcal"', 1),
            "under .upstreams.: local",
        ),
        (WHOLE.replace("[targets.fast]", "[targets.slow]"), "targets.fast: missing"),
        (WHOLE.replace('model = "deep"\n', ""), "targets.reasoning.model: found nothing"),
        ("[[", "not readable as TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path, text, said):
    with pytest.raises(SettingsError, match=said):
        load_settings(written(tmp_path, text))


def test_all_mistakes_are_told_together(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, '[router]\npolicy = "x"\nthreshold = 9\nthrehsold = 1'))
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="not found; expected a settings file"):
        load_settings(tmp_path / "none.toml")


def test_own_models_come_before_the_shipped_ones(tmp_path):
    text = """
    [[catalog.model]]
    pattern = "o3"
    provider = "acme"
    family = "own"
    class = "fast"
    """
    own = catalog_of(written(tmp_path, text))
    assert own.lookup("o3").model_class == "fast"
    assert own.lookup("gpt-4o") == catalog_of(None).lookup("gpt-4o")
    assert own.digest != catalog_of(None).digest
