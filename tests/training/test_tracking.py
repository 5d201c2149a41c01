"""What each tracker holds after a run, read back with its own library or from its own file."""

import importlib
import json
import os
import signal
import struct
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training.conftest import write_dataset
from turnout.errors import SettingsError, StoppedError
from turnout.training import Recipe, TrainReport, train
from turnout.training.tracking import TrackedRun, tracked

pytestmark = pytest.mark.slow

RECIPE = Recipe(epochs=2, learning_rate=3e-3, batch_size=32, model="encoder")
STEPS_AN_EPOCH = 5
STEPS = list(range(1, 2 * STEPS_AN_EPOCH + 1))


@dataclass(frozen=True)
class Recorded:
    """What the trackers hold after a run."""

    place: Path
    report: TrainReport
    mlflow_runs: list
    mlflow_history: dict


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder where the variables of the trackers say only: stay offline."""
    stay_offline(tmp_path, monkeypatch)
    return tmp_path


def stay_offline(folder, monkeypatch):
    for name in os.environ:
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """Its library, as a run loads it for the first time."""
    place = tmp_path_factory.mktemp("first")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as monkeypatch:
        # What mlflow asks of SQLAlchemy 2.1 and of Alembic as they load.
        warnings.simplefilter("ignore", DeprecationWarning)
        # In a test or a CI mlflow reports nothing anyway.
        for name in ("CI", "PYTEST_CURRENT_TEST"):
            monkeypatch.delenv(name, raising=False)
        stay_offline(place, monkeypatch)
        with tracked(["mlflow", "wandb"], TrackedRun(place / "router", place, {})) as record:
            record(1, {"train/loss": 1.0})
        importlib.import_module("wandb").teardown()
        assert not {"MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"} & set(os.environ)
        return importlib.import_module("mlflow")


@pytest.fixture
def wandb():
    import wandb

    yield wandb
    wandb.teardown()


def fit(dataset, base, place, log_to, *, stop_at=None):
    def on_progress(name, done, total):
        if name == "fine-tune" and done == stop_at:
            signal.raise_signal(signal.SIGTERM)

    return train(
        dataset,
        place / "router",
        base=base,
        recipe=RECIPE,
        max_tokens=48,
        log_to=log_to,
        on_progress=on_progress,
    )


@pytest.fixture(scope="module")
def recorded(base, tmp_path_factory, mlflow):
    """A run that was stopped and resumed, recorded by all trackers: its folder and report."""
    place = tmp_path_factory.mktemp("recorded")
    dataset = write_dataset(place / "dataset")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stay_offline(place, monkeypatch)
        trackers = ["tensorboard", "mlflow", "wandb", "mlflow"]
        with pytest.raises(StoppedError):
            fit(dataset, base, place, trackers, stop_at=3)
        report = fit(dataset, base, place, trackers)
        importlib.import_module("wandb").teardown()
        # Read while the environment is still this run's.
        client = mlflow.MlflowClient()
        runs = client.search_runs(["0"])
        history = {
            name: client.get_metric_history(runs[0].info.run_id, name)
            for name in ("train/loss", "epoch/validation_auroc")
        }
    return Recorded(place, report, runs, history)


def wandb_records(file):
    """The messages in a run's file: a LevelDB log of protobuf after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, begin, whole = file.read_bytes(), 7, b""
    while begin < len(content):
        room = 32768 - begin % 32768
        if room < 7:
            begin += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, begin)
        whole += content[begin + 7 : begin + 7 + length]
        begin += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def test_tensorboard_holds_the_losses_of_a_run_that_was_resumed(recorded):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(recorded.place / "router.tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == STEPS
    aurocs = [event.value for event in events.Scalars("epoch/validation_auroc")]
    assert aurocs == pytest.approx([e.validation_auroc for e in recorded.report.epochs])


def test_mlflow_holds_one_run_of_a_fit_that_was_stopped_and_went_on(recorded):
    assert (recorded.place / "mlflow.db").is_file()
    (run,) = recorded.mlflow_runs
    assert (run.info.run_name, run.info.status) == ("router", "FINISHED")
    assert run.data.params["learning_rate"] == "0.003"
    assert run.data.params["max_tokens"] == "48"
    assert sorted(point.step for point in recorded.mlflow_history["train/loss"]) == STEPS
    aurocs = recorded.mlflow_history["epoch/validation_auroc"]
    assert [(point.step, point.value) for point in aurocs] == [
        (epoch.epoch * STEPS_AN_EPOCH, pytest.approx(epoch.validation_auroc))
        for epoch in recorded.report.epochs
    ]


def test_wandb_holds_one_run_of_a_fit_that_was_stopped_and_went_on(recorded):
    place = recorded.place
    files = sorted(place.glob("wandb/offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime_ns)
    records = [record for file in files for record in wandb_records(file)]
    runs = [record.run for record in records if record.HasField("run")]
    assert len(files) == 2
    assert len({run.run_id for run in runs}) == 1
    assert runs[0].display_name == "router"
    config = {item.key: item.value_json for item in runs[0].config.update}
    assert json.loads(config["learning_rate"]) == RECIPE.learning_rate
    rows = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in row.history.item}
        for row in records
        if row.HasField("history")
    ]
    assert [row["_step"] for row in rows] == STEPS
    assert all("train/loss" in row for row in rows)
    aurocs = [row["epoch/validation_auroc"] for row in rows if "epoch/validation_auroc" in row]
    assert aurocs == pytest.approx([epoch.validation_auroc for epoch in recorded.report.epochs])


def test_wandb_gets_nothing_of_code_packages_and_machine(recorded):
    for file in recorded.place.glob("wandb/offline-run-*/*.wandb"):
        assert not [
            r for r in wandb_records(file) if r.HasField("stats") or r.HasField("output_raw")
        ]
    for folder in recorded.place.glob("wandb/offline-run-*/files"):
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("tracker", "module"),
    [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")],
)
def test_an_absent_tracker_is_named_with_the_command_that_brings_it(
    dataset, base, place, monkeypatch, tracker, module
):
    for name in (module, "torch.utils.tensorboard"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"{module} is.*pip install 'turnout\[{tracker}\]'"):
        fit(dataset, base, place, [tracker])
    assert [path.name for path in place.iterdir()] == ["dataset"]


def test_a_store_that_mlflow_refuses_is_a_setting_to_change(
    dataset, base, place, mlflow, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://nowhere")
    with pytest.raises(SettingsError, match=r"--log-to mlflow: .*MLFLOW_TRACKING_URI"):
        fit(dataset, base, place, ["mlflow"])


@pytest.mark.parametrize("mode", ["online", "sometimes"])
def test_wandb_without_a_key_or_a_known_mode_is_a_setting_to_change(
    dataset, base, place, wandb, monkeypatch, mode
):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "no key")
    with pytest.raises(SettingsError, match=r"(?s)--log-to wandb: .*WANDB_MODE=offline"):
        fit(dataset, base, place, ["wandb"])


def test_the_makers_of_the_trackers_hear_nothing_of_a_run_unless_asked(mlflow):
    from wandb.analytics import get_telemetry_recorder

    assert mlflow.telemetry.client.get_telemetry_client() is None
    assert not get_telemetry_recorder()._enabled
