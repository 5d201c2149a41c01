"""What every test shares: no socket leaves this machine, no network library tries, shared data."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # A process a core: more threads would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Imports make a million objects that stay. To look through them for garbage, while they are made
# and again and again later, takes a tenth of the time.
gc.disable()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# The machine may be busy: a slow example is no failure. Same examples every run.
settings.register_profile("turnout", deadline=None, derandomize=True)
settings.load_profile("turnout")

# Files that take longest, longest first. `make test` gives a process one file after the other: a
# long one at the end would leave the other process idle.
LONGEST_FIRST = (
    "test_spark.py", "demo/test_demo.py", "learn/test_learn.py", "cli/test_terminals.py",
    "logs/kusto/test_kusto.py", "cli/test_whole_or_absent.py", "dataset/test_selection.py",
    "training/test_processes.py", "logs/test_bad_input.py", "logs/test_requests.py",
    "training/test_bases.py", "training/test_resume.py", "training/test_train.py",
    "logs/test_calls.py", "labels/test_label.py", "logs/test_spans.py", "hub/test_hub.py",
    "training/test_tracking.py", "logs/test_trackers.py", "integrations/test_litellm.py",
    "contract/test_offline.py", "judge/test_judge.py", "logs/test_readers.py",
    "pages/test_in_a_browser.py", "contract/test_install.py", "gateway/test_server.py",
    "test_cross_validation.py", "replay/test_drift.py", "replay/test_replay.py",
)  # fmt: skip

# What a module says whose tests are all slow.
ALL_SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow", re.MULTILINE)
_LOOPBACK = ("127.", "::1", "localhost")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without slow tests, import no module that holds nothing else: some take seconds to import."""
    if config.option.markexpr != "not slow":
        return None
    is_folder = collection_path.is_dir()
    modules = list(collection_path.rglob("test_*.py")) if is_folder else [collection_path]
    texts = [module.read_text() for module in modules]
    return True if texts and all(map(ALL_SLOW.search, texts)) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    tests = Path(__file__).parent
    order = {tests / name: n for n, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish() -> None:
    """From here on, collect garbage: of what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse any connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and not str(host).startswith(_LOOPBACK):
            raise OSError(f"a test tried to reach {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def learnt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log, and what `learn` makes of it, in `mine`; one process makes it for all."""
    from turnout.catalog import load_catalog
    from turnout.learn import LearnOptions, learn
    from turnout.simulation import simulate
    from turnout.training import Recipe

    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "learnt"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "mine").exists():
            simulate(folder / "log", n_conversations=150, seed=5)
            # Routers on words alone are fitted in a moment.
            options = LearnOptions(load_catalog(), size=120, recipe=Recipe(model="words"))
            learn([folder / "log" / "turns.parquet"], folder / "mine", options)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data beside the checkout; the test is skipped where it is not."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the development data is not here")
    return folder
