"""The drawings of a data set's card."""

import re
import xml.etree.ElementTree as ET

import pyarrow as pa
import pytest

from turnout.dataset.card import PLOTS
from turnout.dataset.plots import plots
from turnout.schema import SAMPLES


def sample(number, label, **more):
    return {
        "sample_id": str(number), "conversation_id": str(number), "turn_index": 1, "turn_count": 1,
        "stratum": "1–2", "message": "x" * 20, "context": "", "label": label, "target": 0.5,
        "weight": 1.0, "evidence": ["model_first"], "model": "o3",
    } | more  # fmt: skip


def tables(*rows, split="train"):
    return {split: pa.Table.from_pylist(list(rows), SAMPLES)}


def shown(svg):
    return [re.sub(r"\s+", " ", text.strip()) for text in ET.fromstring(svg).itertext()]


@pytest.fixture(scope="module")
def drawn():
    rows = [
        *(sample(n, 0) for n in range(3)),
        sample(4, 1, turn_index=30, stratum="21+", evidence=["-effort", "upgrade"], model=None),
        sample(5, 1, message="y" * 10_000),
    ]
    drawings = plots(tables(*rows) | tables(*rows[:1], split="test"))
    return {name: file for name, (file, _) in drawings.items()}


def test_every_drawing_is_a_whole_svg_that_needs_nothing_from_outside(drawn):
    assert set(drawn) == set(PLOTS)
    for svg in drawn.values():
        assert ET.fromstring(svg).tag.endswith("svg")
        assert not re.findall(r'(?:href|src)="(?!#)', svg)
        assert "prefers-color-scheme:dark" in svg


def test_bars_carry_their_numbers_label_by_label(drawn):
    strata = shown(drawn["strata.svg"])
    assert {"train 1–2", "train 21+", "test 1–2", "3 + 1", "0 + 1", "1 + 0"} <= set(strata)
    assert {"0 = reasoning", "1 = fast"} <= set(strata)
    assert {"turn 1", "turn 11+", "4 + 1"} <= set(shown(drawn["turns.svg"]))
    assert {"-effort", "upgrade", "model_first"} <= set(shown(drawn["evidence.svg"]))
    assert {"o3", "none named"} <= set(shown(drawn["models.svg"]))
    assert {"16–31 characters", "8,192 or more"} <= set(shown(drawn["lengths.svg"]))


def test_the_same_rows_give_the_same_bytes(drawn):
    rows = tables(sample(1, 0), sample(2, 1))
    assert plots(rows) == plots(rows)


def test_many_models_share_a_bar_and_none_is_lost():
    rows = [sample(n, n % 2, model=f"model-{n:02d}") for n in range(40)]
    texts = shown(plots(tables(*rows))["models.svg"][0])
    assert "24 others" in texts
    assert "12 + 12" in texts


def test_rows_without_a_label_or_evidence_are_drawn_too():
    drawn = plots(tables(sample(1, None, evidence=[])))
    assert "no label" in shown(drawn["models.svg"][0])
    assert "no evidence" in shown(drawn["evidence.svg"][0])


def test_names_are_shown_as_they_are_in_any_script():
    rows = [sample(1, 0, model="$x_1$ <b>"), sample(2, 1, model="模型")]
    assert {"$x_1$ <b>", "模型"} <= set(shown(plots(tables(*rows))["models.svg"][0]))
