"""The page of a data set: what became of every turn, and whether it is what was asked for."""

import csv
import json

import pytest

from tests.dataset.sets import build_folder, dataset, dataset_from_outcomes
from tests.tables import turn
from turnout.dataset.card import PLOTS
from turnout.dataset.csv_tables import csv_tables
from turnout.dataset.page import checks, render, steps

NOTHING_DRAWN = dict.fromkeys(PLOTS, "<svg></svg>")


def conversations(n, *, turns=1):
    return [
        turn(f"c{number}", index, f"{'prove' if number % 2 else 'spell'} number {number} {index}",
             "o3" if number % 2 else "gpt-4o", user_id=f"u{number}")
        for number in range(n)
        for index in range(1, turns + 1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    rows = [*conversations(100, turns=2), turn("x", 1, "what is it", "mystery-9")]
    return dataset(tmp_path_factory.mktemp("d"), rows, architecture="session", size=40).description


def named(description):
    return {check.name: check for check in checks(description)}


def test_bars_begin_at_the_whole_log_lose_every_reason_and_end_at_what_is_used(long_log):
    drawn = steps(long_log["usage"])
    assert (drawn[0].kind, drawn[0].turns) == ("all", 201)
    lost = [step for step in drawn if step.reason]
    assert {"not the first turn of a conversation", "beyond the size asked for"} <= {
        step.reason for step in lost
    }
    assert drawn[0].turns - sum(step.turns for step in lost) == drawn[-1].turns == 40
    # Each reason's bar ends where the one before begins.
    ends = [step.before + step.turns for step in lost]
    assert ends == [201, *(step.before for step in lost[:-1])]


def test_a_page_says_size_balance_leaks_and_the_next_command(long_log):
    page = render(long_log, NOTHING_DRAWN)
    assert "40 of 100 labelled turns are used (40 %, as many as were asked for)." in page
    assert "not used: beyond the size asked for" in page
    assert "turnout train . -o ../session-router" in page
    assert named(long_log)["size"].sentence == "40 rows, as asked for."
    assert {named(long_log)[name].outcome for name in ("balance", "leaks", "users")} == {"pass"}


def test_a_leak_is_an_issue_with_its_number(long_log):
    leaking = {**long_log, "leaks": {"conversations": 0, "texts": 3, "users": 0}}
    assert named(leaking)["leaks"].outcome == "issue"
    assert "3 texts" in render(leaking, NOTHING_DRAWN)


def test_rows_of_another_ratio_than_asked_for_are_an_issue(long_log):
    other = named({**long_log, "ratio": [1, 3]})["balance"]
    assert other.outcome == "issue"
    assert "25.0 % was asked for" in other.sentence


def test_weights_that_replace_drawing_are_judged_by_the_share_they_reach(tmp_path):
    rows = conversations(60, turns=3)
    description = dataset(tmp_path, rows, architecture="conversation").description
    assert description["weighting"] is not None
    assert named(description)["balance"].outcome == "pass"
    assert "turn counts and positions" in named(description)["strata"].sentence
    assert "By turn count and position" in render(description, NOTHING_DRAWN)


def test_turn_counts_without_the_ratio_inside_are_an_issue(tmp_path):
    rows = conversations(80, turns=3)
    description = dataset(tmp_path, rows, architecture="conversation", size=80).description
    assert named(description)["strata"].outcome == "pass"
    skewed = [
        cell | ({"reasoning": 0} if cell["split"] == "train" else {})
        for cell in description["composition"]
    ]
    assert named({**description, "composition": skewed})["strata"].outcome == "issue"


def test_measured_outcomes_have_a_page_too(tmp_path):
    lines = [
        {"prompt": f"{'prove' if number % 2 else 'spell'} it {number}", "reasoning_score": 1.0,
         "fast_score": float(number % 2 == 0), "group": f"set {number % 40}"}
        for number in range(200)
    ]  # fmt: skip
    source = tmp_path / "measured.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    description = dataset_from_outcomes(source).description
    page = render(description, NOTHING_DRAWN)
    assert "All 200 measured rows are used." in page
    assert named(description)["balance"].outcome == "note"
    assert "groups by split</summary>" in page  # of which there are too many for a first look


@pytest.mark.slow
def test_the_tables_are_csv_files_beside_the_page(tmp_path):
    report = build_folder(tmp_path, conversations(100, turns=2))
    folder = tmp_path / "data"
    assert "<svg" in (folder / "dataset.html").read_text()
    for name, rows in csv_tables(report.description).items():
        with (folder / name).open(newline="") as stream:
            assert list(csv.reader(stream)) == [[str(cell) for cell in row] for row in rows]
    counts = [row[2] for row in csv_tables(report.description)["usage.csv"][1:]]
    assert sum(counts) == report.description["usage"]["turns"] == 200
