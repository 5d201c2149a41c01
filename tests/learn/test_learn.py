"""From a log to routers, a page and settings in one call."""

import json
import shutil
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turnout.catalog import load_catalog
from turnout.learn import LearnOptions, learn, plan
from turnout.learn.models import model_named, model_of_class, model_uses, targets_of
from turnout.learn.page import models_sentence
from turnout.learn.serving import settings_text
from turnout.learn.summary import advice_of, doubt_of
from turnout.settings import load_settings
from turnout.training import Recipe


@pytest.fixture(scope="module")
def log(learnt_folder):
    return learnt_folder / "log" / "turns.parquet"


def options(**changes):
    return LearnOptions(load_catalog(), size=120, recipe=Recipe(model="words"), **changes)


@pytest.fixture(scope="module")
def learnt(log, learnt_folder, tmp_path_factory):
    """The report of a run on what an earlier one left, and its folder."""
    out = shutil.copytree(learnt_folder / "mine", tmp_path_factory.mktemp("learnt") / "mine")
    return learn([log], out, options()), out


@pytest.mark.slow
def test_a_log_gives_both_routers_a_page_and_settings_that_load(learnt):
    report, out = learnt
    assert set(report.routers) == {"session", "conversation"}
    page = (out / "index.html").read_text()
    assert report.advice.sentence in page
    assert "Neither number is the true share of misses" in " ".join(page.split())
    for policy in (
        "today",
        "all reasoning",
        "all fast",
        "session",
        "conversation",
        "boundary",
    ):
        assert f"<td>{policy}</td>" in page
    assert "USD, a month" in page
    numbers = json.loads((out / "learn.json").read_text())
    assert numbers["advice"]["sentence"] == report.advice.sentence
    decided = pq.read_table(out / "decisions.parquet")
    assert set(decided["policy"].to_pylist()) == {"session", "boundary", "conversation", "priced"}
    settings = load_settings(out / "turnout.toml")
    if report.advice.policy is not None:
        assert settings.router.policy == report.advice.policy
        assert settings.router.threshold == pytest.approx(report.advice.threshold, abs=1e-6)
    assert settings.gateway_options(out / "turnout.toml").targets.keys() == {"reasoning", "fast"}


@pytest.mark.slow
def test_a_second_run_does_nothing_again_and_leaves_the_users_settings(learnt, log):
    _, out = learnt
    (out / "turnout.toml").write_text("# mine\n")
    stages = {}
    again = learn([log], out, options(), on_stage=stages.__setitem__)
    assert not any(stages.values())
    assert {"ingest", "label", "train session", "train conversation", "replay"} <= set(stages)
    assert not again.settings_written
    assert (out / "turnout.toml").read_text() == "# mine\n"


@pytest.mark.slow
def test_settings_that_nobody_changed_follow_what_is_recommended(learnt, log, tmp_path):
    _, out = learnt
    shutil.copytree(out, tmp_path / "mine")
    settings = tmp_path / "mine" / "turnout.toml"
    settings.unlink()
    for reasoning in ("o3", "claude-opus-4-5"):
        named = {"reasoning": reasoning, "fast": "gpt-4o-mini"}
        assert learn([log], tmp_path / "mine", options(targets=named)).settings_written
        assert f'model = "{reasoning}"' in settings.read_text()


@pytest.mark.slow
def test_a_pair_without_prices_costs_the_replay_and_not_the_routers(learnt, log, tmp_path):
    _, out = learnt
    shutil.copytree(out, tmp_path / "mine")
    report = learn([log], tmp_path / "mine", options(targets={"reasoning": "acme-deep"}))
    assert report.replay is None
    assert report.advice.verdict == "cannot tell"
    assert "acme-deep" in (tmp_path / "mine" / "index.html").read_text()


@pytest.mark.slow
def test_measured_turns_without_models_give_routers_and_a_page_that_says_what_is_not_known(
    log, tmp_path
):
    turns = pq.read_table(log)
    for name in ("model", "requested_model"):
        column = turns.schema.get_field_index(name)
        turns = turns.set_column(column, name, pa.nulls(len(turns), pa.string()))
    pq.write_table(turns, tmp_path / "turns.parquet")
    hard = [len(text) % 3 == 0 for text in turns["user_message"].to_pylist()]
    measured = {
        "conversation_id": turns["conversation_id"],
        "turn_index": turns["turn_index"],
        "reasoning_score": [1.0] * len(hard),
        "fast_score": [0.0 if need else 1.0 for need in hard],
    }
    pq.write_table(pa.table(measured), tmp_path / "measured.parquet")
    report = learn(
        [tmp_path / "turns.parquet"],
        tmp_path / "mine",
        options(
            outcomes=tmp_path / "measured.parquet",
            targets={"reasoning": "claude-opus-4-5", "fast": "claude-haiku-4-5"},
        ),
    )
    assert report.switches is None
    assert set(report.routers) == {"session", "conversation"}
    page = (tmp_path / "mine" / "index.html").read_text()
    assert "nothing is known of what you pay today" in page
    assert "<td>today</td>" not in page
    # Neither is the pair the log's own, nor is need inferred from what people did.
    assert "your own models" not in page
    assert "inferred from what people did" not in page


@pytest.mark.slow
def test_a_plan_trains_nothing(log, tmp_path):
    planned = plan([log], tmp_path / "mine", options())
    assert planned.conversations == 150
    assert planned.training_minutes["conversation"] > planned.training_minutes["session"] * 0.5
    assert not list((tmp_path / "mine").glob("*-router"))
    assert planned.costs.startswith("Costs will be those of")
    one_class = tmp_path / "one-class.parquet"
    table = pq.read_table(log)
    column = table.schema.get_field_index("model")
    pq.write_table(table.set_column(column, "model", pa.array(["gpt-4o"] * len(table))), one_class)
    without = plan([one_class], tmp_path / "one", options()).costs
    assert (
        "the log names no reasoning model. Run the same command with --reasoning-model" in without
    )
    named = plan([one_class], tmp_path / "one", options(targets={"reasoning": "o3"})).costs
    assert "those of o3 and gpt-4o" in named


@pytest.mark.slow
def test_longer_messages_of_the_same_log_are_planned_to_train_longer(log, tmp_path):
    planned = plan([log], tmp_path / "mine", options())
    table = pq.read_table(log)
    longer = pa.array([f"{text} and so on" * 3 for text in table["user_message"].to_pylist()])
    column = table.schema.get_field_index("user_message")
    pq.write_table(table.set_column(column, "user_message", longer), tmp_path / "long.parquet")
    slower = plan([tmp_path / "long.parquet"], tmp_path / "long", options())
    assert all(
        slower.training_minutes[name] > planned.training_minutes[name]
        for name in ("session", "conversation")
    )


def test_models_are_counted_with_what_they_cost(tmp_path):
    rows = [
        {
            "model": "gpt-5",
            "reasoning_tokens": None,
            "prompt_tokens": 1_000_000,
            "completion_tokens": 0,
            "cached_tokens": 0,
        },
        {
            "model": "gpt-5",
            "reasoning_tokens": None,
            "prompt_tokens": None,
            "completion_tokens": None,
            "cached_tokens": None,
        },
        {
            "model": "acme",
            "reasoning_tokens": None,
            "prompt_tokens": 5,
            "completion_tokens": 5,
            "cached_tokens": None,
        },
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "turns.parquet")
    catalog = load_catalog()
    gpt, acme = model_uses(tmp_path / "turns.parquet", catalog)
    assert (gpt.turns, gpt.counted_turns) == (2, 1)
    assert gpt.usd == pytest.approx(catalog.price("gpt-5").input_usd_per_mtok)
    assert (acme.model_class, acme.usd) == (None, None)


def test_a_hybrid_model_stands_for_the_class_that_it_served_as(tmp_path):
    served = [("claude-4.5-sonnet-thinking", None)] * 3 + [("claude-sonnet-4-5", None)]
    served += [("claude-sonnet-4-5", 900)] * 2
    rows = [
        {"model": name, "reasoning_tokens": thought, "prompt_tokens": 9, "completion_tokens": 9}
        for name, thought in served
    ]
    table = pa.Table.from_pylist(rows).append_column("cached_tokens", pa.nulls(6, pa.int64()))
    pq.write_table(table, tmp_path / "turns.parquet")
    uses = model_uses(tmp_path / "turns.parquet", load_catalog())
    assert [(use.model, use.model_class, use.turns, use.logged) for use in uses] == [
        ("claude-sonnet-4-5", "reasoning", 5, "claude-4.5-sonnet-thinking"),
        ("claude-sonnet-4-5", "fast", 1, "claude-sonnet-4-5"),
    ]
    assert models_sentence([asdict(use) for use in uses], 6).startswith(
        "You use claude-sonnet-4-5 (100% of the turns)."
    )
    by_class = {use.model_class: use for use in uses}
    settings = settings_text(by_class, "", load_catalog())
    assert "Both classes are one model" in settings


def test_settings_serve_with_the_prices_that_were_replayed(tmp_path):
    own_price = {
        "input_usd_per_mtok": 0.5, "output_usd_per_mtok": 2.0, "cached_input_usd_per_mtok": 0.05,
    }  # fmt: skip
    own_model = {
        "pattern": "our-quick", "provider": "anthropic", "family": "own", "class": "fast",
    }  # fmt: skip
    prices = [{"pattern": name, **own_price} for name in ("o3", "our-quick")]
    catalog = load_catalog({"model": [own_model], "price": prices})
    named = {"reasoning": "o3-high", "fast": "Our Quick"}
    models = {name: model_named(model, catalog) for name, model in named.items()}
    path = tmp_path / "turnout.toml"
    path.write_text(settings_text(models, "", catalog))
    served = load_settings(path).priced_targets()
    replayed = targets_of([], named, catalog)
    assert {name: replace(target, output_tokens=0) for name, target in served.items()} == {
        name: replace(target, output_tokens=0) for name, target in replayed.items()
    }


def test_the_model_in_the_middle_by_price_stands_for_its_class(tmp_path):
    # Half of the reasoning turns cost no more than gpt-5's; the dear model is the most used.
    names = ["claude-opus-4-1"] * 3 + ["gpt-5"] * 2 + ["o4-mini"] * 2 + ["gpt-5-mini"]
    rows = [
        {
            "model": name,
            "reasoning_tokens": None,
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "cached_tokens": 0,
        }
        for name in names
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "turns.parquet")
    catalog = load_catalog()
    targets = targets_of(model_uses(tmp_path / "turns.parquet", catalog), {}, catalog)
    assert (targets["reasoning"].name, targets["fast"].name) == ("gpt-5", "gpt-5-mini")


def test_settings_serve_the_models_that_the_replay_prices(tmp_path):
    names = ["model-of-mine"] * 3 + ["o3"] * 2 + ["gpt-5"] + ["gpt-5-mini"]
    rows = [
        {
            "model": name,
            "reasoning_tokens": None,
            "prompt_tokens": None,
            "completion_tokens": None,
            "cached_tokens": None,
        }
        for name in names
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "turns.parquet")
    own = {"pattern": "model-of-mine", "provider": "me", "family": "mine", "class": "reasoning"}
    catalog = load_catalog({"model": [own]})
    uses = model_uses(tmp_path / "turns.parquet", catalog)
    targets = targets_of(uses, {}, catalog)
    served = {name: model_of_class(name, uses, {}, catalog) for name in ("reasoning", "fast")}
    assert {name: use.model for name, use in served.items()} == {
        name: target.name for name, target in targets.items()
    }
    assert targets["reasoning"].name == "o3"


def replayed_with(row, comparison, *, verdict="route", reasons=(), **more):
    """A replay's report of one policy, which it recommends."""
    recommended = {
        "verdict": verdict, "policy": "session", "router": "session", "threshold": 0.5,
        "missed": 0.1, "reasons": list(reasons),
    }  # fmt: skip
    rows = {"recommendation": recommended, "at_missed": [{"missed": 0.1, "rows": [row]}]}
    report = {"conversations": 100, "max_miss": 0.1, "evident_turns": 7}
    return report | more | {"comparison": {"ranking": None} | rows | comparison}


def test_a_verdict_that_costs_more_than_today_says_from_which_price_of_a_miss_it_pays():
    dearer = {"value": -6.0, "low": -7.0, "high": -5.0}
    row = {
        "name": "session", "against_reasoning": {"value": 2.0, "low": 1.0, "high": 3.0},
        "against_today": dearer, "measured": {"missed": {"value": 0.1}},
    }  # fmt: skip
    today = {"needed": {"value": 0.2}, "missed": {"value": 0.3}}
    advice = advice_of(replayed_with(row, {"today": today}), "")
    # 6 USD for 1,000 turns, of which 200 need reasoning and 40 fewer are missed.
    assert "costs you well over 0.15 USD" in advice.sentence
    assert "misses 10% in place of at most 30%" in advice.sentence


@pytest.mark.parametrize(
    ("against_today", "said"),
    [
        (None, "Route your messages: it saves 20% beside all reasoning."),
        ((3.0, 2.0, 4.0), "it saves 25% beside today and 20% beside all reasoning."),
        ((3.0, -1.0, 7.0), "cannot tell whether routing saves beside what you pay today; it saves"),
    ],
)
def test_a_verdict_to_route_says_how_much_it_saves(against_today, said):
    ends = ("value", "low", "high")
    row = {
        "name": "session", "against_reasoning": {"value": 2.0, "low": 1.0, "high": 3.0},
        "against_today": against_today and dict(zip(ends, against_today, strict=True)),
        "measured": {"usd": {"value": 8.0}},
    }  # fmt: skip
    comparison = {"today": {"usd": {"value": 12.0}}, "sampled_turns": 20}
    advice = advice_of(replayed_with(row, comparison, conversations=9, turns=20), "")
    assert said in advice.sentence
    settled = against_today is None or against_today[1] > 0
    assert (advice.verdict == "route") == settled
    # Beside the reach of 4 a saving of 3: (1.43 · 4 / 3)² = 3.6 times as many.
    assert advice.more_conversations == (None if settled else 24)


def test_a_saving_by_scores_that_may_be_chance_settles_nothing():
    row = {
        "name": "session", "against_reasoning": {"value": 2.0, "low": 1.0, "high": 3.0},
        "against_today": None, "measured": {"usd": {"value": 8.0}},
    }  # fmt: skip
    ranking = {
        "turns": 85,
        "rows": [ranked("session, pinned", (0.6, 0.45, 0.75)), ranked("length", (0.6, 0.5, 0.7))],
    }
    comparison = {"today": {}, "ranking": ranking, "sampled_turns": 200}
    advice = advice_of(replayed_with(row, comparison, turns=200, evident_turns=85), "")
    assert (advice.verdict, advice.policy) == ("cannot tell", "session")
    assert advice.sentence == "This log cannot tell whether routing pays."
    # An interval of 0.15 either way beside a lead of 0.1: (1.43 · 1.5)² = 4.6 times the log.
    assert advice.more_conversations == 370


def test_a_log_of_many_turns_without_a_model_says_how_many():
    use = {"model": "gpt-5", "turns": 30, "usd": 1.5}
    assert models_sentence([use], 100) == (
        "You use gpt-5 (30% of the turns); 70% of the turns name none. The turns whose tokens the "
        "log counts cost 1.50 USD at list prices."
    )
    assert "name none" not in models_sentence([use], 30)


def advice_on(saving, low, high, *, conversations=100, sampled_turns=200):
    """The advice of a log of two turns a conversation that cannot tell."""
    estimate = {"value": saving, "low": low, "high": high}
    row = {"name": "session", "against_reasoning": estimate, "against_today": None}
    replayed = replayed_with(
        row, {"sampled_turns": sampled_turns}, verdict="cannot tell",
        reasons=("the simpler one is taken",), conversations=conversations,
        turns=2 * conversations,
    )  # fmt: skip
    return advice_of(replayed, "")


def test_conversations_that_would_settle_it_grow_with_the_square_of_the_interval():
    advice = advice_on(2.0, -2.0, 6.0)
    # Twice the saving, so (1.43 * 2)² = 8.2 times the log shows it in four of five logs.
    assert advice.more_conversations == 720
    assert "About 720 more conversations" in advice.settled_by
    assert advice.why == ["The simpler one is taken."]
    assert advice_on(2.0, -6.0, 10.0).more_conversations == 3_200
    # A loss is settled alike.
    assert advice_on(-2.0, -6.0, 2.0).more_conversations == 720


def test_an_interval_that_barely_holds_zero_still_wants_as_many_again():
    assert advice_on(2.0, -0.01, 4.01).more_conversations == 110


@pytest.mark.parametrize(("saving", "low", "high"), [(0.2, -2.0, 2.4), (0.0, -1.0, 1.0)])
def test_a_difference_too_small_for_the_traffic_is_said_in_words(saving, low, high):
    advice = advice_on(saving, low, high)
    assert advice.more_conversations is None
    assert "More than 100 times as many" in advice.settled_by


def test_an_interval_of_a_sample_counts_the_sample_not_the_log():
    advice = advice_on(2.0, -2.0, 6.0, conversations=400)
    # The sampled 100 conversations are a quarter of the log, and 818 are wanted.
    assert advice.more_conversations == 420


def ranked(name, auroc, ahead=(0.0, 0.0, 0.0)):
    ends = ("value", "low", "high")
    return {
        "name": name,
        "auroc": dict(zip(ends, auroc, strict=True)),
        "ahead": dict(zip(ends, ahead, strict=True)),
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "7 turns of conversations that no router saw in training have evidence: too few"),
        (
            [ranked("session, pinned", (0.6, 0.48, 0.72)), ranked("length", (0.6, 0.5, 0.7))],
            "not shown to be better than chance (AUROC 0.600, 0.480 to 0.720; 0.5 is chance)",
        ),
        (
            [
                ranked("session, pinned", (0.74, 0.6, 0.9)),
                ranked("length", (0.73, 0.6, 0.8), (0.01, -0.1, 0.12)),
            ],
            "not shown to be ahead of the message's length (by 0.010, -0.100 to 0.120)",
        ),
        (
            [
                ranked("session, pinned", (0.84, 0.8, 0.9)),
                ranked("length", (0.6, 0.5, 0.7), (0.24, 0.1, 0.3)),
            ],
            None,
        ),
    ],
)
def test_advice_says_whether_its_scores_are_shown_to_tell_anything(rows, said):
    ranking = rows and {"turns": 99, "rows": rows}
    doubt = doubt_of(ranking, "session", 7)
    assert doubt is None if said is None else said in doubt
