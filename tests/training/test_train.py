"""Training from a data set folder to a router folder that others can use."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import turnout
from tests.training.conftest import LEARNS, QUICK, rows, write_base, write_dataset, write_split
from turnout.errors import ArtifactError, RecordError, SettingsError
from turnout.manifest import read_manifest
from turnout.records import ModelInput
from turnout.routing import RouterFolder
from turnout.training import Recipe, train
from turnout.training.encoder import load_base
from turnout.training.precision import quick_attention

pytestmark = pytest.mark.slow


def test_it_learns_what_the_rows_teach(trained):
    assert trained.report.best_epoch.validation_auroc > 0.9
    router = turnout.load(trained.report.router)
    assert router.decide("prove the invariant").p_reasoning > 0.7
    assert router.decide("hello thanks").p_reasoning < 0.3


def test_plain_transformers_gives_the_scores_of_turnout(trained):
    from transformers import pipeline

    texts = [row["message"] for row in rows(40, 7)]
    router = trained.report.router
    ours = RouterFolder.read(router).scorer("float32").score([ModelInput(text) for text in texts])
    classify = pipeline("text-classification", model=str(router), top_k=None, device="cpu")
    theirs = [{d["label"]: d["score"] for d in scored}["reasoning"] for scored in classify(texts)]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_float_graph_is_the_model(trained):
    assert trained.report.export.float_difference < 1e-3


def test_the_folder_verifies_and_its_files_can_be_read_by_others(trained):
    folder = trained.report.router
    assert RouterFolder.read(folder).spec.max_tokens == 48
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o044 == 0o044, file.name


def test_the_card_tells_epochs_calibration_and_use(trained):
    card = (trained.report.router / "README.md").read_text()
    for part in ("validation AUROC", "calibration", "turnout.load", "pipeline("):
        assert part in card


def test_the_same_seed_gives_the_same_router_and_another_seed_another(quick, tmp_path):
    digests = [RouterFolder.read(quick.report.router).digest]
    for name, seed in (("again", 0), ("other", 1)):
        recipe = replace(QUICK, seed=seed)
        train(quick.dataset, tmp_path / name, base=quick.base, recipe=recipe, max_tokens=48)
        digests.append(RouterFolder.read(tmp_path / name).digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_manifest_names_the_versions_that_a_router_was_made_with(quick):
    versions = read_manifest(quick.report.router)["libraries"]
    assert set(versions) == {"onnxruntime", "scikit-learn", "tokenizers", "torch", "transformers"}


def test_the_shares_of_reasoning_go_with_the_router_and_its_card(base, tmp_path):
    folder = write_dataset(tmp_path / "data")
    about = folder / "dataset.json"
    priors = {"balanced": 0.5, "log": 0.22}
    about.write_text(json.dumps(json.loads(about.read_text()) | {"priors": priors}))
    report = train(folder, tmp_path / "router", base=base, recipe=QUICK, max_tokens=48)
    assert RouterFolder.read(report.router).spec.priors.to_json() == priors
    assert "for the log (22% reasoning) unless asked" in (report.router / "README.md").read_text()


def test_bfloat16_learns_what_float32_learns(dataset, base, tmp_path):
    auroc_of = {}
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(1, 3e-3, 16, precision=precision, model="encoder")
        report = train(dataset, tmp_path / precision, base=base, recipe=recipe, max_tokens=48)
        auroc_of[precision] = report.epochs[0].train_loss
    assert auroc_of["bfloat16"] != auroc_of["float32"]
    assert auroc_of["bfloat16"] == pytest.approx(auroc_of["float32"], abs=0.02)


def test_attention_is_what_it_was_after_a_fit(base):
    encoder = load_base(str(base), 0)
    before = encoder.model.config._attn_implementation
    with quick_attention(encoder.model, "bfloat16"):
        assert encoder.model.config._attn_implementation == "eager" != before
    assert encoder.model.config._attn_implementation == before


def test_a_second_run_is_up_to_date_and_tells_the_same(trained):
    again = train(
        trained.dataset, trained.report.router, base=trained.base, recipe=LEARNS, max_tokens=48
    )
    assert not again.fresh
    assert again.to_json() == trained.report.to_json()


def test_rows_without_a_label_teach_through_their_target(base, tmp_path):
    folder = write_dataset(tmp_path / "data")
    unlabelled = [row | {"label": None} for row in rows(160, 0)[10:]]
    write_split(folder, "train", rows(160, 0)[:10] + unlabelled)
    report = train(folder, tmp_path / "router", base=base, recipe=LEARNS, max_tokens=48)
    assert report.best_epoch.validation_auroc > 0.9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": 1}, "no row with label 0"),
        ({"message": ""}, "every training message is empty"),
        ({"target": float("nan")}, "row 1 has target nan"),
        ({"weight": 0.0}, "no row with label 0 .* and a weight above 0"),
        ({"weight": 3e38}, "row 1 has weight 3.*e.38; expected a number from 0 to 1,000,000,000"),
        ({"label": 7}, "label 7 in 160 rows"),
    ],
)
def test_rows_that_cannot_train_are_refused_before_anything_is_loaded(
    dataset, base, tmp_path, change, said
):
    write_split(dataset, "train", [row | change for row in rows(160, 0)])
    with pytest.raises(RecordError, match=said):
        train(dataset, tmp_path / "router", base=base)
    assert not (tmp_path / "router").exists()


def test_ten_rows_are_enough_and_nine_are_not(dataset, base, tmp_path):
    write_split(dataset, "train", rows(10, 0))
    train(dataset, tmp_path / "router", base=base, recipe=QUICK, max_tokens=48)
    write_split(dataset, "train", rows(9, 0))
    with pytest.raises(RecordError, match="9 training rows; expected at least 10"):
        train(dataset, tmp_path / "router2", base=base)


def test_a_megabyte_of_text_is_cut_and_counted(dataset, base, tmp_path):
    long = rows(160, 0)
    long[0] |= {"message": "prove " * 170_000}
    write_split(dataset, "train", long)
    report = train(dataset, tmp_path / "router", base=base, recipe=QUICK, max_tokens=48)
    assert report.cut_rows == 1


def test_a_language_the_tokenizer_does_not_know_trains_to_a_router_in_doubt(
    dataset, base, tmp_path
):
    for name in ("train", "validation"):
        foreign = [row | {"message": "如何证明这个不变量"} for row in rows(160, 0)]
        write_split(dataset, name, foreign)
    report = train(dataset, tmp_path / "router", base=base, recipe=QUICK, max_tokens=48)
    assert report.best_epoch.validation_auroc == pytest.approx(0.5)
    decided = turnout.load(report.router).decide("如何证明这个不变量")
    assert decided.p_reasoning == pytest.approx(0.5, abs=0.05)


def test_an_unreadable_split_is_refused(dataset, base, tmp_path):
    (dataset / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ArtifactError, match=r"train\.parquet: not readable as a split"):
        train(dataset, tmp_path / "router", base=base)


def test_a_newer_data_set_is_refused(dataset, base, tmp_path):
    path = dataset / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(ArtifactError, match="data set format 2; expected 1"):
        train(dataset, tmp_path / "router", base=base)


def test_a_base_that_is_no_folder_and_no_id_is_refused(dataset, tmp_path):
    with pytest.raises(ArtifactError, match="no such folder"):
        train(dataset, tmp_path / "router", base="./nowhere")


def test_a_base_without_safetensors_is_refused(dataset, base, tmp_path):
    shutil.copytree(base, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ArtifactError, match=r"no \*\.safetensors"):
        train(dataset, tmp_path / "router", base=tmp_path / "pickled")


def test_a_tokenizer_of_another_model_is_refused(dataset, tmp_path):
    small = write_base(tmp_path / "small", vocab_size=20)
    with pytest.raises(ArtifactError, match="The two do not belong together"):
        train(dataset, tmp_path / "router", base=small)


def test_a_token_budget_beyond_the_encoder_is_refused(dataset, base, tmp_path):
    with pytest.raises(SettingsError, match="token budget: found 999; expected 16 to 64"):
        train(dataset, tmp_path / "router", base=base, max_tokens=999)


def test_a_loss_that_diverges_is_refused(dataset, base, tmp_path):
    with pytest.raises(SettingsError, match="Choose a lower rate"):
        train(
            dataset,
            tmp_path / "r",
            base=base,
            recipe=Recipe(2, 1e6, 8, model="encoder"),
            max_tokens=48,
        )
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("rows", "epochs"), [(10, 10), (320, 10), (500, 7), (1_067, 3), (100_000, 3)]
)
def test_few_rows_are_passed_over_more_often(rows, epochs):
    assert Recipe().epochs_for(rows) == epochs
    assert Recipe(epochs=2).epochs_for(rows) == 2
