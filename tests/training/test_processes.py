"""Several processes share a run and make the router that one makes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.routing import RouterFolder
from turnout.training import Recipe, train
from turnout.training.batches import batch_rows
from turnout.training.processes import Processes

pytestmark = pytest.mark.slow


def test_two_processes_make_the_router_of_one_and_do_not_spin_while_they_wait(
    dataset, base, tmp_path
):
    # An odd number: one share is the larger.
    recipe = Recipe(2, 3e-3, 15, precision="float32", model="encoder")
    alone = train(dataset, tmp_path / "alone", base=base, recipe=recipe, max_tokens=48)
    out = tmp_path / "out" / "together"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = ["-m", "turnout", "train", dataset, "-o", out, "--base", base, "--json"]
    options = (
        "--model encoder --epochs 2 --learning-rate 3e-3 --batch-size 15 --max-tokens 48 "
        "--precision float32"
    )
    done = subprocess.run(
        [*launch, *command, *options.split()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_DISPLAY_ENV": "VERBOSE"},
    )
    assert done.returncode == 0, done.stderr
    if sys.platform == "linux":  # GNU's OpenMP tells how long it spins
        assert done.stderr.count("GOMP_SPINCOUNT = '0'") >= 2
    together = json.loads(done.stdout)  # one process alone speaks
    for ours, theirs in zip(alone.epochs, together["epochs"], strict=True):
        assert theirs["train_loss"] == pytest.approx(ours.train_loss, rel=1e-3)
        assert theirs["validation_loss"] == pytest.approx(ours.validation_loss, rel=1e-2)
        assert theirs["validation_auroc"] == pytest.approx(ours.validation_auroc, abs=5e-3)
    assert RouterFolder.read(out).spec.max_tokens == 48
    assert list(out.parent.iterdir()) == [out]


def test_a_process_of_several_alone_leaves_before_a_library_can_abort_it():
    program = (
        "import atexit, os; atexit.register(os.abort)\n"
        "from turnout.training import end_process; end_process(); print('one of one goes on')\n"
        "os.environ['WORLD_SIZE'] = '2'; end_process(); print('one of two goes on')"
    )
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, env=os.environ | place, capture_output=True
    )
    assert done.stdout == b"one of one goes on\n"


@given(
    st.lists(st.integers(2, 200), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(0, 9) | st.none(),
)
def test_every_row_is_in_one_batch_of_one_process(lengths, batch_size, count, seed):
    order = None if seed is None else np.random.default_rng(seed)
    batches = batch_rows(np.asarray(lengths), batch_size, order)
    assert max(map(len, batches)) <= batch_size
    shares = [Processes(rank, count).share(rows) for rows in batches for rank in range(count)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(lengths)))
