"""A run that is stopped, killed or left without room: what stays, and what the next run makes."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
import torch

from tests.disks import small_disk
from turnout.errors import ArtifactError, InterruptError, StoppedError, StorageError
from turnout.routing import RouterFolder
from turnout.training import Recipe, train
from turnout.training.stopping import stop_requests

pytestmark = pytest.mark.slow

RECIPE = Recipe(epochs=3, learning_rate=3e-3, batch_size=32, model="encoder")
STEPS_AN_EPOCH = 5


def run(dataset, out, base, *, stop_at=None, step="fine-tune", recipe=RECIPE, steps=None):
    """Train; at unit `stop_at` of a step send SIGTERM; `steps` collects the units told."""

    def on_progress(name, done, total):
        if name != step:
            return
        if steps is not None:
            steps.append(done)
        if done == stop_at:
            signal.raise_signal(signal.SIGTERM)

    return train(dataset, out, base=base, recipe=recipe, max_tokens=48, on_progress=on_progress)


def test_a_run_stopped_in_mid_epoch_goes_on_to_the_same_router(dataset, base, tmp_path):
    unbroken = run(dataset, tmp_path / "unbroken", base)
    out = tmp_path / "out" / "router"
    with pytest.raises(StoppedError, match="SIGTERM: stopped in epoch 1 after 3 of 5 steps; run"):
        run(dataset, out, base, stop_at=2)
    assert not out.exists()
    with pytest.raises(StoppedError, match="epoch 2"):
        run(dataset, out, base, stop_at=STEPS_AN_EPOCH + 2)
    steps = []
    report = run(dataset, out, base, steps=steps)
    assert steps[0] == STEPS_AN_EPOCH + 4
    assert report.epochs == unbroken.epochs
    assert RouterFolder.read(out).digest == RouterFolder.read(tmp_path / "unbroken").digest
    assert list(out.parent.iterdir()) == [out]


def test_other_options_start_afresh(dataset, base, tmp_path):
    out = tmp_path / "router"
    with pytest.raises(StoppedError):
        run(dataset, out, base, stop_at=3)
    steps = []
    run(dataset, out, base, recipe=Recipe(1, 3e-3, 32, seed=1, model="encoder"), steps=steps)
    assert steps[0] == 1


def test_a_run_stopped_before_it_fits_leaves_nothing(dataset, base, tmp_path):
    out = tmp_path / "out" / "router"
    with pytest.raises(StoppedError, match="nothing was left half-written"):
        run(dataset, out, base, stop_at=0, step="tokenise")
    assert list(out.parent.iterdir()) == []


def test_a_run_stopped_at_export_keeps_what_it_learnt(dataset, base, tmp_path):
    out = tmp_path / "out" / "router"
    with pytest.raises(StoppedError):
        run(dataset, out, base, stop_at=1, step="export")
    assert not out.exists()
    steps = []
    run(dataset, out, base, steps=steps)
    assert steps == [3 * STEPS_AN_EPOCH]
    assert list(out.parent.iterdir()) == [out]


def test_signals_mean_what_they_meant_before_once_a_run_is_over(dataset, base, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError):
        run(dataset, tmp_path / "router", base, stop_at=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_ends_a_run_with_the_error_of_an_interrupt():
    with pytest.raises(InterruptError, match="SIGINT: stopped"), stop_requests():
        signal.raise_signal(signal.SIGINT)


def test_a_run_may_be_in_a_thread_that_gets_no_signals(dataset, base, tmp_path):
    thread = threading.Thread(
        target=train,
        args=(dataset, tmp_path / "router"),
        kwargs={"base": base, "recipe": Recipe(1, 3e-3, 32, model="encoder"), "max_tokens": 48},
    )
    thread.start()
    thread.join()
    assert (tmp_path / "router" / "router.json").is_file()


def test_a_checkpoint_that_cannot_be_read_is_refused(dataset, base, tmp_path):
    out = tmp_path / "out" / "router"
    with pytest.raises(StoppedError):
        run(dataset, out, base, stop_at=2)
    (checkpoint,) = out.parent.glob(".router.*.work/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="Delete it and train from the start"):
        run(dataset, out, base)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_epoch(dataset, base, tmp_path):
    code = (
        "from pathlib import Path; from turnout.training import Recipe, train; import os, sys\n"
        "def tell(step, done, total):\n"
        "    if step == 'fine-tune' and done == 7: os.kill(os.getpid(), 9)\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), base=sys.argv[3],\n"
        "      recipe=Recipe(3, 3e-3, 32, model='encoder'), max_tokens=48, on_progress=tell)\n"
    )
    out = tmp_path / "out" / "router"
    killed = subprocess.run(
        [sys.executable, "-c", code, str(dataset), str(out), str(base)],
        check=False,
        # As many threads as here: another number rounds otherwise.
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert killed.returncode == -signal.SIGKILL
    assert {path.suffix for path in out.parent.iterdir()} == {".work", ".partial"}
    steps = []
    run(dataset, out, base, steps=steps)
    assert [path.name for path in out.parent.iterdir()] == ["router"]
    assert steps[0] == STEPS_AN_EPOCH + 1
    run(dataset, tmp_path / "unbroken", base)
    assert RouterFolder.read(out).digest == RouterFolder.read(tmp_path / "unbroken").digest


@pytest.fixture
def one_megabyte(tmp_path):
    """A disk of that size."""
    with small_disk(tmp_path / "disk", 1024) as disk:
        yield disk


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(("fine-tune", 3), id="before-the-first-checkpoint"),
        pytest.param(("export", 0), id="before-the-weights"),
        pytest.param(("export", 1), id="before-the-float-graph"),
        pytest.param(("export", 2), id="before-the-int8-graph"),
        pytest.param(("export", 3), id="before-the-card"),
    ],
)
def test_a_full_disk_is_told_and_leaves_no_router(dataset, base, one_megabyte, moment):
    filler = one_megabyte / "filler"

    def fill(step, done, total):
        if (step, done) == moment and not filler.exists():
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1024))

    place = one_megabyte / "out"
    recipe = Recipe(1, 3e-3, 32, model="encoder")
    with pytest.raises(StorageError, match="no space is left on the device"):
        train(dataset, place / "router", base=base, recipe=recipe, max_tokens=48, on_progress=fill)
    left = ["checkpoint.safetensors"] if moment[0] == "export" else []
    assert [path.name for path in place.rglob("*") if path.is_file()] == left
