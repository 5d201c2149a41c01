"""A chosen threshold keeps what it promises."""

import datetime as dt
import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_evaluate import write_data
from tests.tables import turn, write_turns
from tests.tiny_router import write_router
from turnout.catalog import Price, load_catalog
from turnout.cli import turnout
from turnout.errors import ArtifactError, RecordError, SettingsError, TurnoutError
from turnout.manifest import Manifest
from turnout.replay.threshold import (
    Goal,
    nearest_shares,
    threshold_for_budget,
    threshold_for_share,
)
from turnout.replay.threshold import choose_threshold as choose
from turnout.replay.traffic import traffic_of_turns
from turnout.routing import Formatter, Priors, Router, RouterFolder
from turnout.routing.policies import policy_of
from turnout.stage import StageRun

CATALOG = load_catalog()
PRICES = {"reasoning": Price(5.0, 25.0), "fast": Price(1.0, 5.0)}


def choose_threshold(router, source, prices=None, policy=None, **goal):
    given = {"catalog": CATALOG, "prices": prices, "policy": policy}
    return choose(router, source, Goal(**goal), write=True, **given)


def log(path, n=40, **tokens):
    """Conversations of two turns: a hard request answered at length, then thanks."""
    rows = []
    for number in range(n):
        counts = {name: value * (1 + number) for name, value in tokens.items()}
        rows.append(turn(f"c{number}", 1, f"prove {'it ' * number}", "claude-opus-4-5", **counts))
        rows.append(turn(f"c{number}", 2, "thanks", "claude-haiku-4-5", **tokens))
    return write_turns(path, rows)


@pytest.mark.parametrize("wanted", [0.01, 0.3, 0.5, 0.99])
def test_the_wanted_share_goes_to_reasoning(wanted):
    scores = np.random.default_rng(2).random(500)
    share = (scores >= threshold_for_share(scores, wanted)).mean()
    assert wanted <= share <= wanted + 1 / 500


def test_the_choice_is_written_and_decides(tmp_path):
    router, data = write_router(tmp_path / "router"), write_data(tmp_path / "data")
    report = choose_threshold(router, data, share=0.99)
    folder = RouterFolder.read(router)
    assert folder.spec.threshold == report.value < report.before == 0.5
    assert (
        folder.spec.threshold_origin == "sends at least 99% to reasoning on the test rows of data"
    )
    assert report.share.value >= 0.99
    assert Router(folder).decide("hello").model_class == "reasoning"


def test_nothing_changes_where_nothing_is_to_be_written(tmp_path):
    router, data = write_router(tmp_path / "router"), write_data(tmp_path / "data")
    report = choose(router, data, Goal(share=0.99), catalog=CATALOG)
    assert RouterFolder.read(router).spec.threshold == 0.5 != report.value
    assert not report.written


def test_the_curve_says_what_other_thresholds_would_do(tmp_path):
    router = write_router(tmp_path / "router", "conversation")
    turns = log(tmp_path / "t.parquet", prompt_tokens=100, completion_tokens=100)
    curve = choose_threshold(router, turns, PRICES, share=0.5).curve
    assert (curve[0].share, curve[0].missed) == (1.0, 0.0)
    assert [point.share for point in curve] == sorted((p.share for p in curve), reverse=True)
    assert all(a.usd >= b.usd and a.missed <= b.missed for a, b in pairwise(curve))


def test_the_next_goal_on_the_same_messages_scores_nothing_again(tmp_path):
    router, turns = write_router(tmp_path / "router"), log(tmp_path / "t.parquet")
    choose_threshold(router, turns, share=0.5)
    scored = tmp_path / "router.threshold-scores.parquet"
    before = scored.stat().st_mtime_ns
    choose_threshold(router, turns, share=0.2)
    assert scored.stat().st_mtime_ns == before


def test_what_cannot_be_answered_is_refused_before_anything_is_scored(tmp_path):
    router, turns = write_router(tmp_path / "router"), log(tmp_path / "t.parquet")
    for goal in ({"max_miss": 0.1}, {"budget_usd": 5.0}):
        with pytest.raises(TurnoutError):
            choose_threshold(router, turns, **goal)
    assert not (tmp_path / "router.threshold-scores.parquet").exists()


def test_a_router_with_a_chosen_threshold_is_still_up_to_date(tmp_path):
    manifest = Manifest("train", {}, {})
    with StageRun(tmp_path / "router", manifest).output() as partial:
        write_router(partial)
    choose_threshold(tmp_path / "router", write_data(tmp_path / "data"), share=0.3)
    assert StageRun(tmp_path / "router", manifest).is_done()


def test_a_log_with_several_rows_a_turn_is_refused(tmp_path):
    rows = [turn("a", 1, "prove it", "o3"), turn("a", 1, "prove it again", "o3")]
    source = write_turns(tmp_path / "turns.parquet", [*rows, turn("b", 1, "hi", "o3")])
    with pytest.raises(RecordError, match="1 rows repeat the conversation and index of another"):
        choose_threshold(write_router(tmp_path / "router"), source, share=0.5)


def test_a_share_that_equal_scores_make_impossible_is_told_with_the_nearest_two():
    scores = np.r_[np.full(454, 0.9), np.full(430, 0.6), np.full(116, 0.2)]
    assert threshold_for_share(scores, 0.5) == 0.6
    below, above = nearest_shares(scores, 0.5)
    assert (below.share, below.threshold) == (0.454, 0.9)
    assert (above.share, above.threshold) == (0.884, 0.6)
    assert nearest_shares(scores, 0.454) == nearest_shares(scores, 0.88) == []
    lowest, _ = nearest_shares(scores, 0.1)
    assert lowest.share == 0.0
    assert not (scores >= lowest.threshold).any()


@pytest.mark.slow
@settings(max_examples=10)
@given(
    words=st.lists(
        st.sampled_from(["prove", "prove it derive", "hello", "thanks hello", "what"]),
        min_size=1,
        max_size=30,
    ),
    wanted=st.floats(0.01, 0.99),
    log_prior=st.sampled_from([None, 0.22]),
)
def test_the_share_told_is_the_share_served(tmp_path_factory, words, wanted, log_prior):
    folder = tmp_path_factory.mktemp("served")
    router = write_router(folder / "router", priors=Priors(0.5, log_prior))
    rows = [turn(f"c{number}", 1, word, None) for number, word in enumerate(words)]
    report = choose_threshold(router, write_turns(folder / "t.parquet", rows), share=wanted)
    served = Router.from_folder(router)
    classes = [served.decide(word).model_class for word in words]
    assert report.share.value == pytest.approx(np.mean([name == "reasoning" for name in classes]))
    assert report.share.value >= wanted
    assert report.population == ("balanced" if log_prior is None else "log")


def test_the_share_of_messages_that_need_reasoning_is_estimated_without_labels(tmp_path):
    router = write_router(tmp_path / "router", priors=Priors(0.5, 0.2))
    # By the tiny router's scores a hard word needs reasoning at 0.88 among balanced rows.
    rows = [turn(f"c{n}", 1, "prove" if n < 30 else "hello", None) for n in range(100)]
    need = choose_threshold(router, write_turns(tmp_path / "t.parquet", rows), share=0.3).need
    sensitivity, false_alarms = 0.88, 0.12
    assert need.value == pytest.approx(
        (0.3 - false_alarms) / (sensitivity - false_alarms), abs=0.02
    )
    assert need.low < need.value < need.high


@pytest.mark.parametrize(
    ("policy", "decisions"),
    [("conversation", [1, 2, 3]), ("session", [1]), ("boundary", [1, 3])],
)
def test_the_policy_of_the_settings_file_says_what_is_decided(tmp_path, policy, decisions):
    rows = [turn("c", index, "prove", None) for index in (1, 2, 3)]
    rows[2]["timestamp"] += dt.timedelta(minutes=9)
    turns = write_turns(tmp_path / "turns.parquet", rows)
    file = tmp_path / "turnout.toml"
    file.write_text(f'[router]\npolicy = "{policy}"\nthreshold = 0.1\n')
    router = write_router(tmp_path / "router", "conversation")
    shown = run(router, turns, "--share", 0.5, "-c", file, "--json")
    assert shown.exit_code == 0, shown.exception
    report = json.loads(shown.stdout)
    assert report["policy"] == policy
    assert report["rows"] == len(decisions)
    assert [bucket["decisions"] for bucket in report["by_turn"]] == [1] * len(decisions)
    assert "[router] threshold = 0.1 is served in place" in shown.stderr
    traffic = traffic_of_turns(turns, Formatter("conversation"), CATALOG, policy_of(policy))
    assert traffic.turn_indices.tolist() == decisions
    assert traffic.messages.sum() == 3


def test_a_policy_that_uses_no_threshold_or_a_time_that_is_not_there_is_refused(tmp_path):
    router = write_router(tmp_path / "router", "conversation")
    data = write_data(tmp_path / "data", "conversation")
    turns = write_turns(tmp_path / "t.parquet", [turn("a", 1, "prove", None, timestamp=None)])
    for source, policy, error in (
        (turns, "fixed", "found fixed, which scores nothing"),
        (data, "boundary", "decides by the time between turns"),
        (turns, "boundary", "1 turns have no timestamp"),
    ):
        with pytest.raises(TurnoutError, match=error):
            choose_threshold(router, source, policy=policy_of(policy), share=0.5)


def test_a_session_policy_decides_on_the_first_turns_of_a_data_set(tmp_path):
    router = write_router(tmp_path / "router", "conversation")
    data = write_data(tmp_path / "data", "conversation")
    report = choose_threshold(router, data, policy=policy_of("session"), share=0.5)
    assert [bucket.turns for bucket in report.by_turn] == ["1"]
    assert report.rows == 80
    assert report.calibration.rows == 80
    assert report.left_out == 0
    test = pq.read_table(data / "test.parquet")
    orphan = test.slice(0, 1).set_column(
        test.schema.get_field_index("conversation_id"), "conversation_id", pa.array(["orphan"])
    )
    pq.write_table(pa.concat_tables([test, orphan.cast(test.schema)]), data / "test.parquet")
    assert choose_threshold(router, data, policy=policy_of("session"), share=0.5).left_out == 1


@pytest.mark.parametrize(
    "goal",
    [
        {},
        {"share": 0.3, "max_miss": 0.1},
        {"share": 0.3, "budget_usd": 1.0},
        {"share": 1.2},
        {"max_miss": 0.0},
        {"budget_usd": 0.0},
        {"budget_usd": float("nan")},
        {"max_miss": 0.1, "confidence": 1.0},
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(goal):
    with pytest.raises(SettingsError, match="expected"):
        Goal(**goal)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.4, 0.7]), st.floats(0.1, 3), st.floats(0, 9)), min_size=1
    ),
    st.floats(0.5, 100),
)
def test_a_budget_is_kept_and_used_as_far_as_scores_tell_messages_apart(rows, budget_usd):
    scores, fast, extra = np.asarray(rows).T

    def cost(threshold):
        return fast.sum() + extra[scores >= threshold].sum()

    if fast.sum() > budget_usd * (1 + 1e-9):
        with pytest.raises(SettingsError, match="fast class alone"):
            threshold_for_budget(scores, fast, fast + extra, budget_usd)
        return
    chosen = threshold_for_budget(scores, fast, fast + extra, budget_usd)
    assert cost(chosen) <= budget_usd * (1 + 1e-9)
    lower = scores[scores < chosen]
    assert not len(lower) or cost(lower.max()) > budget_usd * (1 - 1e-9)


def test_a_budget_holds_on_the_users_own_turns_for_a_thousand_messages(tmp_path):
    router = write_router(tmp_path / "router", "conversation")
    turns = log(tmp_path / "turns.parquet", prompt_tokens=1000, completion_tokens=100)
    all_fast, all_reasoning = (
        choose_threshold(router, turns, PRICES, share=share).cost for share in (0.01, 0.99)
    )
    assert all_fast.fast_usd < all_fast.usd < all_reasoning.usd <= all_fast.reasoning_usd
    budget_usd = (all_fast.fast_usd + all_fast.reasoning_usd) / 2
    report = choose_threshold(router, turns, PRICES, budget_usd=budget_usd)
    assert report.cost.usd <= budget_usd
    assert report.cost.counted == 1.0
    assert RouterFolder.read(router).spec.threshold == report.value
    assert report.origin.endswith("USD for 1,000 messages on turns.parquet")


def test_tokens_are_those_of_the_log_and_answers_of_the_other_class_its_mean(tmp_path):
    turns = log(tmp_path / "turns.parquet", prompt_tokens=10, completion_tokens=1, cached_tokens=99)
    traffic = traffic_of_turns(turns, Formatter("conversation"), CATALOG, policy_of("conversation"))
    first, second = traffic.turn_indices == 1, traffic.turn_indices == 2
    assert sorted(traffic.prompt_tokens[first]) == [10 * (1 + number) for number in range(40)]
    assert sorted(traffic.completion_tokens["reasoning"][first]) == list(range(1, 41))
    assert set(traffic.completion_tokens["fast"][first]) == {1.0}
    assert set(traffic.completion_tokens["reasoning"][second]) == {20.5}
    assert (traffic.cached_tokens <= traffic.prompt_tokens).all()
    assert traffic.messages.tolist() == [1] * 80


def test_a_session_router_decides_once_and_pays_for_the_conversation(tmp_path):
    rows = [turn("a", 1, "prove", None), turn("a", 2, "thanks", None), turn("b", 2, "hello", None)]
    turns = write_turns(tmp_path / "turns.parquet", rows)
    traffic = traffic_of_turns(turns, Formatter("session"), CATALOG, policy_of("session"))
    assert traffic.conversation_ids == ["a"]
    assert traffic.messages.tolist() == [2]
    assert traffic.left_out == 1
    assert traffic.counted == 0.0
    assert traffic.prompt_tokens.tolist() == [2000.0]


def test_a_log_without_a_first_turn_gives_a_session_router_nothing_to_decide(tmp_path):
    turns = write_turns(tmp_path / "turns.parquet", [turn("b", 2, "hello", None)])
    with pytest.raises(RecordError, match="none of which the router decides on"):
        choose_threshold(write_router(tmp_path / "router"), turns, share=0.5)


def test_a_conversation_router_reads_the_log_as_it_would_be_served(tmp_path):
    turns = log(tmp_path / "turns.parquet", n=2)
    traffic = traffic_of_turns(turns, Formatter("conversation"), CATALOG, policy_of("conversation"))
    assert [row.context for row in traffic.inputs] == [
        "",
        "turn two, history 0, answer missing, message 0 | prove",
        "",
        "turn two, history 0, answer missing, message 0 | prove it",
    ]


def test_what_fires_is_told_by_turn_index(tmp_path):
    router = write_router(tmp_path / "router", "conversation")
    rows = [turn(f"c{number}", 1, "prove", None) for number in range(4)]
    rows += [turn(f"c{number}", 2, "hello", None) for number in range(4)]
    report = choose_threshold(router, write_turns(tmp_path / "t.parquet", rows), share=0.5)
    assert [(t.turns, t.decisions, t.share) for t in report.by_turn] == [
        ("1", 4, 1.0),
        ("2", 4, 0.0),
    ]
    assert report.warning is None
    assert report.recall is None


@pytest.mark.parametrize(
    ("goal", "said"), [({"share": 0.9}, "Every"), ({"budget_usd": 3.01}, "No")]
)
def test_a_threshold_that_never_or_always_fires_is_warned_of(tmp_path, goal, said):
    rows = [turn(f"c{number}", 1, "hello", None) for number in range(9)]
    turns = write_turns(tmp_path / "turns.parquet", rows)
    # All alike: all go to reasoning, or, where the money is for one alone, none.
    report = choose_threshold(write_router(tmp_path / "router"), turns, PRICES, **goal)
    assert report.warning.startswith(said)


def test_a_damaged_log_and_one_with_rows_of_no_message_are_refused(tmp_path):
    router = write_router(tmp_path / "router")
    turns = log(tmp_path / "t.parquet", 400)
    whole = bytearray(turns.read_bytes())
    whole[50 : len(whole) // 2] = bytes(len(whole) // 2 - 50)
    (tmp_path / "damaged.parquet").write_bytes(whole)
    with pytest.raises(RecordError, match="copy it again"):
        choose_threshold(router, tmp_path / "damaged.parquet", share=0.3)
    table = pq.read_table(turns)
    column = table.schema.get_field_index("user_message")
    texts = pa.array([None, *table["user_message"].to_pylist()[1:]], pa.string())
    pq.write_table(table.set_column(column, "user_message", texts), turns)
    with pytest.raises(RecordError, match="1 rows have no user_message"):
        choose_threshold(router, turns, share=0.3)


def test_a_data_set_of_the_other_architecture_is_refused(tmp_path):
    router = write_router(tmp_path / "router", "session")
    before = (router / "router.json").read_bytes()
    with pytest.raises(ArtifactError, match="Build a data set with --architecture session"):
        choose_threshold(router, write_data(tmp_path / "data", "conversation"), share=0.3)
    assert (router / "router.json").read_bytes() == before


def test_a_promise_on_misses_needs_labels(tmp_path):
    with pytest.raises(RecordError, match="needs reasoning; expected a data set folder"):
        choose_threshold(
            write_router(tmp_path / "router"), log(tmp_path / "turns.parquet"), max_miss=0.1
        )


def run(*arguments):
    return CliRunner().invoke(turnout, ["threshold", *map(str, arguments)])


def test_what_cannot_be_measured_is_null_in_json(tmp_path):
    data = write_data(tmp_path / "data")
    test = pq.read_table(data / "test.parquet")
    pq.write_table(test.filter(pc.equal(test["label"], 1)), data / "test.parquet")
    shown = run(write_router(tmp_path / "router"), data, "--share", 0.5, "--json")
    recall = json.loads(shown.stdout, parse_constant=pytest.fail)["recall"]
    assert recall == {"value": None, "low": None, "high": None}


def test_models_are_named_by_option_or_by_the_gateways_targets(tmp_path):
    router, turns = write_router(tmp_path / "router"), log(tmp_path / "turns.parquet")
    file = tmp_path / "turnout.toml"
    file.write_text(
        '[upstreams.u]\nurl = "http://127.0.0.1:9/v1"\n'
        '[targets.reasoning]\nupstream = "u"\nmodel = "acme-deep"\n'
        '[targets.fast]\nupstream = "u"\nmodel = "claude-haiku-4-5"\n'
        "[[catalog.price]]\npattern = 'acme-.*'\ninput_usd_per_mtok = 9\n"
        "output_usd_per_mtok = 90\n"
    )
    by_target = run(router, turns, "--budget", 40, "-c", file)
    assert by_target.exit_code == 0, by_target.output
    assert "Cost of 1,000 messages" in by_target.stdout
    unknown = run(router, turns, "--share", 0.3, "--fast-model", "claude-haiku-4-5")
    assert isinstance(unknown.exception, SettingsError)
    assert "--reasoning-model" in str(unknown.exception)
    without = run(router, turns, "--budget", 40)
    assert "no models were named" in str(without.exception)
