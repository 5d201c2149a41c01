"""turnout.toml: what it may say, and how every mistake in it is told."""

from pathlib import Path

import pytest

from turnout.errors import SettingsError
from turnout.routing.policies import PricedPolicy, policy_of
from turnout.settings import Settings, catalog_of, load_settings, setting_values

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
    path = written(tmp_path, WHOLE)
    settings = load_settings(path)
    assert settings.policy() == policy_of("boundary", cache_lifetime_s=60)
    assert settings.router.threshold == 0.4
    gateway = settings.gateway_options(path)
    assert gateway.upstreams["local"].api_key_env == "KEY"
    assert gateway.targets["reasoning"].parameters == {"reasoning_effort": "high"}
    assert (gateway.host, gateway.port, gateway.model_name) == ("127.0.0.1", 0, "turnout")
    assert gateway.journal == tmp_path / "journal"


def test_an_empty_file_leaves_everything_at_its_default(tmp_path):
    path = written(tmp_path, "")
    settings = load_settings(path)
    assert (settings.policy(), settings.router.threshold) == (None, None)
    with pytest.raises(SettingsError, match=r"no \[targets.reasoning\] and \[targets.fast\]"):
        settings.gateway_options(path)


def test_the_example_in_the_repository_is_valid():
    example = Path(__file__).resolve().parents[1] / "examples" / "turnout.toml"
    assert load_settings(example).gateway_options(example).targets["fast"].model == "gpt-5-mini"


MODEL = '[[catalog.model]]\npattern = "x"\nprovider = "acme"\nfamily = "own"\nclass = "fast"\n'
PRICE = '[[catalog.price]]\npattern = "x"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[routr]", "the file has no key 'routr'; did you mean 'router'?"),
        (WHOLE.replace("port", "prot"), "[gateway] has no key 'prot'; did you mean 'port'?"),
        ("[gateway]\nq = 1", "has no key 'q'; expected host, port, model_name, "),
        (WHOLE.replace("timeout_s", "time_s"), "[upstreams.local] has no key 'time_s'; did you"),
        (MODEL + "hybird = 1", "[[catalog.model]] 1: has no key 'hybird'; did you mean 'hybrid'?"),
        (MODEL.replace('"fast"', '"slow"'), "1: class: found 'slow'; expected 'reasoning' or"),
        (PRICE.replace("2", "-2"), "[[catalog.price]] 1: output_usd_per_mtok: found -2; expected"),
        (PRICE.replace("2", "inf"), "1: output_usd_per_mtok: found inf; expected a finite number"),
        (PRICE.replace("2", "true"), "1: output_usd_per_mtok: found True; expected a valid number"),
        (PRICE + 'as_of = "May"', "1: as_of: found 'May'; expected a valid date."),
        (MODEL.replace('"x"', '"("'), "1: pattern: found '('; expected a regular expression"),
        ('[router]\npolicy = "clever"', "found 'clever'; expected 'session', 'conversation',"),
        ("[router]\nthreshold = 2", "[router] threshold: found 2; expected a number less than"),
        ("[router]\nthreshold = true", "[router] threshold: found True; expected a valid number"),
        ('[gateway]\nport = "80"', "[gateway] port: found '80'; expected a valid integer."),
        ("router = 3", "router: found 3; expected a"),
        (WHOLE.replace('url = "http:', 'url = "ftp:'), "found 'ftp://127.0.0.1:9/v1'; expected"),
        (
            WHOLE.replace('upstream = "local"', 'upstream = "lcal"', 1),
            "[targets.reasoning] upstream: found 'lcal'; expected one of [upstreams]: local.",
        ),
        (WHOLE.replace("[targets.fast]", "[targets.slow]"), "[targets] fast: missing"),
        (WHOLE.replace('model = "deep"\n', ""), "[targets.reasoning] model: missing"),
        ("[[", "not readable as TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}:")
    assert said in str(caught.value)


def test_all_mistakes_are_told_together(tmp_path):
    text = WHOLE.replace('"boundary"', '"x"').replace('"local"', '"lcal"', 1).replace("0.4", "9")
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 4  # the file, then each mistake


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="not found; expected a settings file"):
        load_settings(tmp_path / "none.toml")


def test_every_value_is_listed_with_its_origin_and_without_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "sk-very-secret")
    text = WHOLE.replace("effort", "token")
    values = setting_values(written(tmp_path, text))
    shown = {each.key: (each.value, each.origin) for each in values}
    assert shown["router.threshold"] == (0.4, "file")
    assert shown["router.fixed_class"] == ("reasoning", "default")
    assert shown["upstreams.local.api_key_env"] == ("KEY (set in the environment)", "file")
    assert shown["targets.reasoning.parameters.reasoning_token"] == ("…", "file")
    assert "secret" not in str(values)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:secret@127.0.0.1:9/v1", "without a user name or password"),
        ("http://127.0.0.1:9/v1?api-key=secret", "without a key in it"),
        ("http://127.0.0.1:9/v1#secret", "without '#'"),
        ("http://127.0.0.1:9/v1/chat/completions", "ends before the endpoint"),
        ("http://127.0.0.1:9/v1/messages/", "ends before the endpoint"),
        ("http:///v1", "with a host"),
        ("http://127.0.0.1:99999/v1", "with a port"),
        ("http://127.0.0.1:80a/v1", "with a port"),
    ],
)
def test_a_url_that_would_leak_a_key_or_miss_the_endpoint_is_refused(tmp_path, url, said):
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(written(tmp_path, WHOLE.replace("http://127.0.0.1:9/v1", url)))
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)


def test_a_url_may_have_a_query(tmp_path):
    url = "https://acme.openai.azure.com/openai/v1?api-version=preview"
    text = WHOLE.replace("http://127.0.0.1:9/v1", url)
    assert load_settings(written(tmp_path, text)).upstreams["local"].url == url


def test_an_upstream_that_a_stand_in_or_a_named_model_lacks_is_told_with_its_place(tmp_path):
    text = WHOLE + (
        '[[targets.fast.stand_ins]]\nupstream = "lokal"\nmodel = "x"\n'
        '[models.other]\nupstream = "remote"\n'
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, text))
    assert "[targets.fast.stand_ins] upstream: found 'lokal'" in str(caught.value)
    assert "[models.other] upstream: found 'remote'" in str(caught.value)


def test_the_schema_knows_every_setting_of_the_docs():
    docs = (Path(__file__).resolve().parents[1] / "docs" / "gateway.md").read_text()
    tables = Settings.model_json_schema()["$defs"]
    for name in (
        "RouterTable",
        "Upstream",
        "Target",
        "NamedModel",
        "Caller",
        "FrontDoor",
        "CatalogTable",
    ):
        for key, described in tables[name]["properties"].items():
            assert f".{key}`" in docs, f"{name}: {key} is not documented"
            assert described.get("description") or name == "CatalogTable"


def test_own_models_come_before_the_shipped_ones(tmp_path):
    own = catalog_of(written(tmp_path, MODEL.replace('"x"', '"o3"')))
    assert own.lookup("o3").model_class == "fast"
    assert own.lookup("gpt-4o") == catalog_of(None).lookup("gpt-4o")
    assert own.digest != catalog_of(None).digest


PRICED = """
[[catalog.price]]
pattern = 'quick'
input_usd_per_mtok = 1.0
cached_input_usd_per_mtok = 0.1
output_usd_per_mtok = 5.0
"""


def test_targets_have_prices_where_both_are_known(tmp_path):
    assert load_settings(written(tmp_path, WHOLE + PRICED)).priced_targets() == {}
    both = WHOLE + PRICED + PRICED.replace("quick", "deep")
    targets = load_settings(written(tmp_path, both)).priced_targets()
    assert targets["fast"].prices.read_usd_per_mtok == 0.1


def test_the_priced_policy_without_a_price_is_refused(tmp_path):
    text = WHOLE.replace("boundary", "priced")
    with pytest.raises(SettingsError, match=r"\[targets.reasoning\] model: no price is known"):
        load_settings(written(tmp_path, text + PRICED)).priced_targets()


def test_the_priced_policy_takes_its_price_of_a_miss_from_the_file(tmp_path):
    text = WHOLE.replace('"boundary"', '"priced"\nmiss_usd = 0.2')
    assert load_settings(written(tmp_path, text)).policy() == PricedPolicy(miss_usd=0.2)
