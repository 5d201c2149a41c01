"""A replay of a journal with propensities says what other policies would have been worth."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.replay.test_replay import CATALOG, FLAGS, TARGETS
from tests.tables import turn, write_turns
from turnout.cli import turnout
from turnout.errors import RecordError
from turnout.replay.stage import replay

pytestmark = pytest.mark.slow  # scores some hundred turns

SHARE = 0.2  # of turns that explore the other class
MODELS = {True: "claude-opus-4-5", False: "claude-haiku-4-5"}


def journal(path, conversations=150, **changes):
    """Turns that a gateway served; a fast model's answer to a hard one gets bad feedback."""
    draw = np.random.default_rng(1)
    rows = []
    for number in range(conversations):
        for index, text in enumerate(("hello", "prove and derive it", "thanks"), 1):
            hard, explored = text.startswith("prove"), draw.random() < SHARE
            reasoning = hard ^ explored
            facts = {
                "prompt_tokens": 1000 * index,
                "completion_tokens": 900 if reasoning else 300,
                "feedback": "good" if reasoning or not hard else "bad",
                "response_type": "success",
                # The last turn of a conversation was certain.
                "propensity": 1.0 if index == 3 else SHARE if explored else 1 - SHARE,
            }
            rows.append(turn(f"c{number:03}", index, text, MODELS[reasoning], **(facts | changes)))
    return write_turns(path, rows)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, routers):
    folder = tmp_path_factory.mktemp("replayed")
    turns = journal(folder / "turns.parquet")
    arguments = ["replay", *routers, turns, "-o", folder / "report", *FLAGS]
    shown = CliRunner().invoke(turnout, [str(each) for each in arguments])
    assert shown.exit_code == 0, shown.output
    return json.loads((folder / "report" / "replay.json").read_text())["outcomes"], folder, shown


def test_turns_whose_class_was_certain_say_nothing_of_another_policy(replayed):
    outcomes, _, _ = replayed
    assert (outcomes["turns"], outcomes["certain"]) == (300, 150)


def test_weighted_feedback_stands_for_that_of_another_policy(replayed):
    rows = {(row["policy"], row["outcome"]): row for row in replayed[0]["rows"]}
    fast = rows["always fast", "good feedback"]
    assert fast["logged"]["value"] > 0.8
    for estimator in ("snips", "doubly_robust", "ips"):
        estimate = fast["estimate"][estimator]
        assert estimate["low"] <= 0.5 <= estimate["high"]
        assert abs(estimate["value"] - 0.5) < 0.2
    assert rows["always reasoning", "good feedback"]["estimate"]["snips"]["value"] == 1.0
    assert fast["estimate"]["effective_turns"] < fast["turns"] == 300


def test_what_a_policy_costs_comes_from_the_answers_of_the_class_that_it_chooses(replayed):
    rows = {(row["policy"], row["outcome"]): row for row in replayed[0]["rows"]}
    dear, cheap = (
        rows[f"always {name}", "USD for 1,000 turns"]["estimate"]["snips"]
        for name in ("reasoning", "fast")
    )
    assert dear["low"] > cheap["high"]


def test_outcomes_stand_on_the_page_in_a_table_and_in_the_terminal(replayed):
    outcomes, folder, shown = replayed
    assert "What the outcomes say" in (folder / "report" / "replay.html").read_text()
    with (folder / "report" / "outcomes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(outcomes["rows"])
    assert float(rows[0]["snips"]) == outcomes["rows"][0]["estimate"]["snips"]["value"]
    assert "always fast" in shown.output.split("By the outcomes")[1]


def test_too_few_turns_are_said_to_be_too_few_and_cost_nothing_else(tmp_path, routers):
    turns = journal(tmp_path / "turns.parquet", conversations=12)
    report = replay(routers, turns, tmp_path / "report", catalog=CATALOG, targets=TARGETS)
    refused = [row.refused for row in report.outcomes.rows if row.refused]
    assert any("expected at least 50" in sentence for sentence in refused)
    assert str(turns) in refused[0]
    assert report.comparison.served


def test_a_log_without_propensities_has_no_such_table(tmp_path, routers):
    turns = journal(tmp_path / "turns.parquet", conversations=12, propensity=None)
    report = replay(routers, turns, tmp_path / "report", catalog=CATALOG, targets=TARGETS)
    assert report.outcomes is None
    assert not (tmp_path / "report" / "outcomes.csv").exists()


@pytest.mark.parametrize("propensity", [0.0, 1.5])
def test_a_propensity_that_is_none_is_named_with_the_log(tmp_path, routers, propensity):
    turns = journal(tmp_path / "turns.parquet", conversations=12, propensity=propensity)
    with pytest.raises(RecordError, match=rf"turns\.parquet: propensity: found {propensity:g} in"):
        replay(routers, turns, tmp_path / "report", catalog=CATALOG, targets=TARGETS)
