"""What a person gets of the switch report: terminal, JSON, page and the turns around switches."""

import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from tests.browser import opened
from tests.switches.switch_log import GOLDENS, as_json, printed, write_log
from tests.tables import turn, write_turns
from turnout.catalog import load_catalog
from turnout.chosen_by.fallbacks import FALLBACKS
from turnout.switches import report_switches
from turnout.switches.page import render

CATALOG = load_catalog()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("switches")
    log = write_log(folder)
    report = report_switches(log, CATALOG, out=folder / "out", n_examples=1, around=2)
    return report, folder / "out", log


def test_terminal_and_json_are_the_reviewed_ones(made):
    assert printed(made[0]) == (GOLDENS / "switches.txt").read_text()
    assert as_json(made[0]) == (GOLDENS / "switches.json").read_text()


def test_every_kind_of_fallback_is_counted(made):
    counts = {each.kind: each.count for each in made[0].fallbacks}
    assert set(counts) == {kind.code for kind in FALLBACKS}
    assert all(counts.values())


def test_a_rerun_reads_the_report_that_is_there(made):
    report, out, log = made
    again = report_switches(log, CATALOG, out=out, n_examples=1, around=2)
    assert not again.fresh
    assert replace(again, fresh=True) == report


def test_the_page_is_the_same_bytes_for_the_same_report(made):
    assert render(made[0]) == (made[1] / "report.html").read_text()


def test_the_page_shows_flow_and_rates_and_needs_nothing_from_outside(made):
    page = (made[1] / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert "<script" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two charts share an id"
    # Every ribbon says what it is, to who cannot tell colours apart.
    assert len(re.findall(r"<title>\d+ from .* \((?:up|down|lateral|unk)", page)) == 9


def test_text_of_the_log_is_no_markup(made):
    page = (made[1] / "report.html").read_text()
    assert "&lt;b&gt;ask&lt;/b&gt; &amp; more" in page
    assert "<b>ask</b>" not in page


def test_no_text_of_the_log_leaves_it_unless_asked(tmp_path):
    rows = [turn("a", 1, "a secret word", "gpt-4o"), turn("a", 2, "another secret", "o3")]
    report = report_switches(
        write_turns(tmp_path / "t.parquet", rows), CATALOG, out=tmp_path / "out"
    )
    assert report.examples == []
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.html", "switches.parquet", "manifest.json"}
    for name in names:
        assert b"secret" not in (tmp_path / "out" / name).read_bytes()
    assert "user_message" not in pq.read_schema(tmp_path / "out" / "switches.parquet").names


def test_a_log_in_which_nobody_switches_has_a_page_without_charts(tmp_path):
    rows = [turn("a", 1, "x", "gpt-4o"), turn("a", 2, "y", "gpt-4o")]
    report_switches(write_turns(tmp_path / "t.parquet", rows), CATALOG, out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Nobody chose another model" in page
    assert "<svg" not in page


def test_turns_around_a_switch_lie_in_order_and_none_is_made_up(made):
    rows = pq.read_table(made[1] / "switch_turns.parquet").to_pylist()
    switches = pq.read_table(made[1] / "switches.parquet").to_pylist()
    near = {}
    for row in rows:
        near.setdefault((row["conversation_id"], row["switch_turn_index"]), []).append(row)
    assert set(near) == {(s["conversation_id"], s["turn_index"]) for s in switches}
    agent = near["agent", 2]
    assert [(row["offset"], row["turn_index"], row["user_message"]) for row in agent] == [
        (-1, 1, "ask"),
        (0, 2, "look for it"),
        (1, 3, "thanks"),
    ]
    assert {row["fallback_kind"] for row in agent} == {"sub_agent"}
    assert all(-2 <= row["offset"] <= 2 for row in rows)


@pytest.mark.slow
def test_the_page_opens_in_chromium_without_a_complaint_or_a_request(made, tmp_path):
    complaints, asked, drawn = opened(made[1] / "report.html", tmp_path)
    assert complaints == []
    assert asked == []
    assert "How models are used and switched" in drawn


@pytest.mark.slow
def test_a_page_that_would_call_home_is_seen_to_and_our_policy_stops_it(made, tmp_path):
    page = (made[1] / "report.html").read_text()
    beacon = '<img src="http://beacon.example/x.png">'
    (tmp_path / "open.html").write_text(f"<!doctype html><title>x</title>{beacon}")
    assert opened(tmp_path / "open.html", tmp_path)[1] == ["http://beacon.example/x.png"]
    (tmp_path / "ours.html").write_text(page.replace("</main>", f"{beacon}</main>"))
    complaints, asked, _ = opened(tmp_path / "ours.html", tmp_path)
    assert asked == []
    assert any("Content Security Policy" in line for line in complaints)
