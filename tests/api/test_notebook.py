"""What a notebook does: fit, score, compare, choose a threshold, save, load."""

import copy
import doctest
import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib import pyplot
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.utils.validation import check_is_fitted

import turnout as tn
from tests.training.conftest import EASY, FILLER, HARD
from turnout.errors import RecordError, SettingsError, StorageError
from turnout.evaluation.stage import evaluate
from turnout.routing import RouterFolder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frame():
    draw = np.random.default_rng(0)
    rows = []
    for number in range(400):
        hard = number % 2 == 0
        words = [*draw.choice(HARD if hard else EASY, 2), *draw.choice(FILLER, 4)]
        helped = hard != (draw.random() < 0.1)
        rows.append(
            {"prompt": f"{' '.join(words)} {number}", "big": 0.9, "small": 0.3 if helped else 0.9}
        )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def data(frame):
    return tn.from_outcomes(frame, strong="big", weak="small", split=(60, 20, 20))


@pytest.fixture(scope="module")
def router(data):
    return tn.RouterClassifier(model="words", seed=0).fit(data.train, data.validation)


def test_every_form_of_rows_gets_the_same_probabilities(router, frame):
    texts = frame["prompt"][:5].tolist()
    messages = [[{"role": "user", "content": text}] for text in texts]
    expected = router.predict_proba(texts)
    assert expected.shape == (5, 2)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
    of_polars = [pl.Series(texts), pl.Series(messages), pl.DataFrame({"m": messages})["m"]]
    of_polars.append(pl.Series([json.dumps(asked) for asked in messages]))
    forms = [frame["prompt"][:5], np.asarray(texts), pa.array(texts), tuple(texts), messages]
    forms.append([[{"from": "human", "value": text}] for text in texts])
    for form in [*forms, pd.Series(messages), pa.array(messages), *of_polars]:
        np.testing.assert_array_equal(router.predict_proba(form), expected)
    np.testing.assert_array_equal(router.predict_proba(messages[0]), expected[:1])
    np.testing.assert_array_equal(router.predict_proba(texts[0]), expected[:1])


def test_a_split_is_scored_as_its_texts_are(router, data, frame):
    texts = frame["prompt"].iloc[data.test.rows]
    np.testing.assert_array_equal(router.predict_proba(data.test), router.predict_proba(texts))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(["a", None], "row 1: found None", id="null"),
        pytest.param([b"a"], "row 0: found b'a'; expected texts", id="bytes"),
        pytest.param([float("nan")], "row 0: found nan", id="nan"),
        pytest.param(pd.DataFrame({"prompt": ["a"]}), "Give one of its columns", id="frame"),
        pytest.param(7, "found int; expected texts", id="number"),
        pytest.param(np.float32(7), "found float; expected texts", id="scalar"),
        pytest.param([["a", "b"]], "row 0: messages\\[0\\]: found str", id="texts-as-messages"),
        pytest.param(
            [[{"role": "narrator", "content": "x"}]],
            "row 0: messages\\[0\\].role: found 'narrator'; expected one of system, developer",
            id="role",
        ),
        pytest.param([[{"role": "system", "content": "x"}]], "row 0: .*no user", id="nobody"),
    ],
)
def test_rows_that_cannot_be_read_are_named(router, rows, said):
    with pytest.raises(RecordError, match=said):
        router.predict_proba(rows)


def test_an_evaluation_has_a_table_with_intervals_and_curves(router, data, frame):
    mine = np.arange(400.0)[data.test.rows]
    report = tn.evaluate(
        {"turnout": router, "mine": mine, "p": router.predict_proba(data.test)}, data.test
    )
    table = report.table
    assert list(table.index) == ["turnout", "mine", "p"]
    best = table.loc["turnout"]
    assert 0.5 < best.auroc_low < best.auroc < best.auroc_high <= 1
    assert best.apgr > table.loc["mine"].apgr
    assert table.loc["mine"].lead_low > 0
    assert np.isnan(table.loc["mine"].ece)
    assert 0 <= best.ece < 0.3
    assert table.loc["p"].lead == 0
    assert np.isnan(best.lead)
    assert [line.get_label() for line in report.plot().lines] == ["turnout", "mine", "p", "random"]
    assert report.arrow.num_rows == 3
    assert re.match(r"80 rows of 80 conversations\nturnout: APGR 0\.\d+ \(0", repr(report))
    assert re.search(
        r"mine: .*; turnout ahead by \+0\.\d+ \(\+0.* APGR$", repr(report), re.MULTILINE
    )


def test_rows_that_weights_balance_count_as_in_turnout_evaluate(frame, tmp_path):
    rows = frame[(frame.index % 2 == 1) | (frame.index % 8 == 0)]
    turns = pd.DataFrame(
        {"asked": rows["prompt"], "need": np.where(rows.index % 2 == 0, "reasoning", "fast")}
    )
    data = tn.from_turns(turns, text="asked", conversation=None, label="need", split=(60, 20, 20))
    router = tn.RouterClassifier(model="words").fit(data.train, data.validation)
    report = tn.evaluate({"turnout": router}, data.test)
    assert report.table["lead"].dtype == float
    data.save(tmp_path / "data")
    router.save(tmp_path / "router")
    stored = evaluate([(tmp_path / "router", tmp_path / "data")], tmp_path / "report").content
    (method, *_) = stored["routers"][0]["results"][0]["methods"]
    for name in ("auroc", "ece", "brier"):
        assert report.table.loc["turnout", name] == pytest.approx(method["metrics"][name]["value"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        pytest.param(
            lambda router, data: tn.evaluate(router, data.test),
            "methods: found RouterClassifier; expected names with routers",
            id="no-names",
        ),
        pytest.param(
            lambda router, data: tn.evaluate({"r": router}, data),
            "test: found Data; expected one of its splits, such as data.test",
            id="whole-data",
        ),
        pytest.param(
            lambda router, data: tn.choose_threshold(router, data.train.table, share=0.1),
            "test: found Table; expected a split",
            id="table",
        ),
        pytest.param(
            lambda router, data: tn.evaluate({"r": router, "mine": ["x"]}, data.test),
            "mine: found list, not of numbers",
            id="words",
        ),
        pytest.param(
            lambda router, data: router.with_threshold("0.5"),
            "threshold: found '0.5'; expected a number",
            id="text-threshold",
        ),
        pytest.param(
            lambda router, data: router.with_threshold(True),
            "threshold: found True; expected a number",
            id="truth-threshold",
        ),
        pytest.param(
            lambda router, data: tn.choose_threshold([0.5], data.test, share=0.1),
            "router: found list; expected a fitted RouterClassifier, or what turnout.load gives",
            id="scores-threshold",
        ),
        pytest.param(
            lambda router, data: tn.choose_threshold(router, data.test, max_miss=1),
            "max_miss: found 1; expected a number between 0 and 1",
            id="every-miss",
        ),
        pytest.param(
            lambda router, data: tn.choose_threshold(router, data.test, max_miss=0.1, confidence=1),
            "confidence: found 1; expected a number between 0 and 1",
            id="certainty",
        ),
        pytest.param(
            lambda router, data: tn.evaluate({"mine": [float("nan")] * 80}, data.test),
            "mine: 80 of 80 scores are no finite numbers",
            id="nan",
        ),
        pytest.param(
            lambda router, data: tn.evaluate({"mine": np.ones((80, 3))}, data.test),
            r"mine: found scores of shape \(80, 3\); expected 80 numbers",
            id="three-columns",
        ),
        pytest.param(
            lambda router, data: tn.evaluate({"r": router}, data.test, seed=-1),
            "seed: found -1; expected a whole number from 0",
            id="seed",
        ),
        pytest.param(
            lambda router, data: tn.RouterClassifier(seed=None).fit(data.train, data.validation),
            "seed: found None; expected a whole number from 0",
            id="fit-seed",
        ),
        pytest.param(
            lambda router, data: tn.RouterClassifier(5).fit(data.train, data.validation),
            "encoder: found int; expected a local folder",
            id="encoder",
        ),
        pytest.param(
            lambda router, data: tn.RouterClassifier().fit(data.train, data.train),
            "validation: found the training rows; expected others",
            id="validation",
        ),
        pytest.param(
            lambda router, data: tn.RouterClassifier().fit(data.train.table, data.validation),
            "train: found Table; expected a split",
            id="fit-table",
        ),
        pytest.param(
            lambda router, data: tn.RouterClassifier(model="word").fit(data.train, data.validation),
            "model: found 'word'; expected auto, encoder, words",
            id="model",
        ),
        pytest.param(
            lambda router, data: tn.RouterClassifier(epochs=0).fit(data.train, data.validation),
            "epochs: found 0; expected a whole number from 1",
            id="epochs",
        ),
    ],
)
def test_what_is_handed_over_wrongly_is_named_with_what_to_hand_over(router, data, call, said):
    with pytest.raises(SettingsError, match=said):
        call(router, data)


def test_splits_of_two_data_sets_are_refused(data, router):
    messages = [[{"role": "user", "content": f"why {n}"}] for n in range(120)]
    other = tn.from_outcomes(
        {"m": messages, "s": [0.9] * 120, "w": [0.2, 0.9] * 60}, messages="m", strong="s", weak="w"
    )
    with pytest.raises(SettingsError, match="expected both from one data set"):
        tn.RouterClassifier(model="words").fit(data.train, other.validation)
    for call in (
        lambda: router.predict_proba(other.test),
        lambda: tn.evaluate({"rows": router}, other.test),
        lambda: tn.choose_threshold(router, other.test, share=0.5),
    ):
        said = "a session router for rows of a conversation data set"
        with pytest.raises(SettingsError, match=f"(rows|router): found {said}"):
            call()


def test_rows_that_cannot_train_are_named_by_their_split(frame):
    weightless = tn.from_outcomes(frame.assign(w=0.0), strong="big", weak="small", weight="w")
    with pytest.raises(RecordError, match=r"^train: no row with label 0"):
        tn.RouterClassifier(model="words").fit(weightless.train, weightless.validation)


def test_scores_of_another_length_are_refused_with_the_rows_to_take(router, data, frame):
    with pytest.raises(SettingsError, match=r"mine: found scores of shape \(400,\); expected"):
        tn.evaluate({"turnout": router, "mine": [0.5] * 400}, data.test)
    with pytest.raises(SettingsError, match="found no method"):
        tn.evaluate({}, data.test)


def test_choosing_a_threshold_changes_nothing_and_saving_keeps_it(
    router, data, frame, tmp_path, monkeypatch
):
    before = router.threshold
    threshold = tn.choose_threshold(router, data.test, share=0.5)
    assert router.threshold == before != threshold
    sent = router.predict_proba(data.test)[:, 0] >= threshold
    assert sent.mean() == pytest.approx(0.5, abs=0.05)
    chosen = router.with_threshold(threshold)
    assert (chosen.predict(data.test) == 0).sum() == sent.sum()
    monkeypatch.chdir(tmp_path)
    chosen.save("memory")  # a relative path of any name
    chosen.save(tmp_path / "router")
    assert RouterFolder.read(tmp_path / "router").spec.threshold == threshold
    loaded = tn.load(tmp_path / "router")
    text = frame["prompt"][0]
    assert loaded.decide(text).threshold == pytest.approx(threshold)
    assert chosen.decide(text) == loaded.decide(text)
    np.testing.assert_array_equal(loaded.predict_proba([text]), router.predict_proba([text]))
    report = tn.evaluate({"saved": loaded, "fitted": router}, data.test)
    assert report.table.loc["fitted"].lead == 0
    router.save(tmp_path / "router")
    assert RouterFolder.read(tmp_path / "router").spec.threshold == 0.5
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError):
        router.save(tmp_path / "other")


def test_a_bound_on_misses_needs_enough_rows(router, data):
    assert 0 <= tn.choose_threshold(router, data.test, max_miss=0.5) <= 1
    with pytest.raises(RecordError):
        tn.choose_threshold(router, data.test, max_miss=0.001)
    with pytest.raises(SettingsError, match="expected one of them"):
        tn.choose_threshold(router, data.test)


def test_an_unfitted_router_says_so():
    with pytest.raises(SettingsError, match="Call fit first"):
        tn.RouterClassifier().predict_proba(["a"])


def test_a_router_shows_what_it_is(router):
    fitted = "RouterClassifier(model='words'): fitted (words) on 240 labelled rows, threshold 0.500"
    assert repr(router) == fitted
    assert repr(tn.RouterClassifier(seed=3)) == "RouterClassifier(seed=3): not fitted"
    assert repr(router.router) == "Router(session, threshold 0.500 for the population balanced)"


def test_data_shows_its_labels_and_what_is_not_used(data, frame):
    assert re.fullmatch(r"Split\(80 rows: \d+ reasoning, \d+ fast\)", repr(data.test))
    twice = tn.from_outcomes(pd.concat([frame, frame[:300]]), strong="big", weak="small")
    assert repr(twice) == (
        "Data(session: 320 train, 40 validation, 40 test)\n"
        "Only 400 of 700 measured rows are used (57 %).\n"
        "Not used: 300 exact duplicate of another row"
    )


def test_curves_are_shown_by_a_notebook(router, data):
    axes = tn.evaluate({"turnout": router}, data.test).plot()
    assert axes.figure.number in pyplot.get_fignums()
    pyplot.close(axes.figure)
    assert tn.evaluate({"turnout": router}, data.test).plot(axes) is axes


def test_a_router_works_with_tools_for_fitted_classifiers(router, data, frame):
    texts = frame["prompt"].iloc[data.test.rows]
    labels = data.test.samples.labels
    shown = RocCurveDisplay.from_estimator(router, texts, labels, pos_label=0)
    scores = router.predict_proba(texts)[:, 0]
    assert shown.roc_auc == pytest.approx(roc_auc_score(labels == 0, scores))
    check_is_fitted(router)
    with pytest.raises(NotFittedError):
        check_is_fitted(tn.RouterClassifier())


def test_a_clone_has_the_parameters_and_no_fit(router):
    other = clone(router).set_params(seed=1)
    assert repr(other) == "RouterClassifier(model='words', seed=1): not fitted"
    assert router.get_params()["seed"] == 0
    with pytest.raises(SettingsError, match="depth: expected one of encoder, model"):
        other.set_params(depth=3)


def test_a_router_is_not_pickled_and_says_what_to_do(router):
    with pytest.raises(SettingsError, match=r"Save it, and open it there with turnout\.load"):
        copy.deepcopy(router)


@pytest.mark.parametrize(
    "given", [["a", "b"], pd.Series(["a", "b"]), 7], ids=["list", "series", "int"]
)
def test_one_decision_takes_one_message_and_names_what_takes_many(router, given):
    with pytest.raises(RecordError, match="To score many at once, use predict_proba"):
        router.decide(given)


@pytest.mark.parametrize("module", ["data", "classifier", "evaluation"])
def test_the_examples_of_the_docstrings_run(module, router, data):
    globs = {"tn": tn, "router": router, "data": data}
    tests = doctest.DocTestFinder().find(import_module(f"turnout.api.{module}"), globs=globs)
    examined = [test for test in tests if test.examples]
    assert examined
    for test in examined:
        assert doctest.DocTestRunner().run(test).failed == 0, test.name


def test_no_model_library_is_loaded_before_a_fit():
    code = (
        "import sys, turnout as tn; tn.RouterClassifier(); tn.__version__\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_page_has_the_docstrings_as_they_are():
    folder = Path(tn.__file__).parents[2] / "docs"
    spec = spec_from_file_location("api_reference", folder / "api_reference.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    shown = (folder / "api.md").read_text().split(script.START)
    assert shown[1:] == [script.reference().removeprefix(script.START)], (
        "run python docs/api_reference.py"
    )


def test_the_page_s_examples_give_what_it_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(tn.__file__).parents[2] / "docs" / "api.md").read_text().split("## Reference")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    scope = {}
    for kind, block in blocks:
        if kind == "python":
            exec(block, scope)
        else:
            # Fractions may differ in the last digits between machines.
            shown, given = (re.sub(r"\d\.\d+", "#", t) for t in (block, capsys.readouterr().out))
            assert given == shown
    pyplot.close("all")
    assert [kind for kind, _ in blocks] == ["python", "text"] * 4


def test_a_notebook_completes_every_public_name():
    assert set(tn.__all__) < set(dir(tn))
    assert all(getattr(tn, name) is not None for name in dir(tn))
