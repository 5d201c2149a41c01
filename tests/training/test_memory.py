"""What memory a run needs, and what the machine or its container has left."""

import pytest

from turnout.errors import SettingsError
from turnout.training.encoder import load_base
from turnout.training.memory import available_bytes, require_memory, training_bytes

pytestmark = pytest.mark.slow

GB = 10**9


def machine(root, *, available, groups=(), group="/"):
    """A file system that tells of memory as Linux does; groups are (path, limit, used, cached)."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    for path, limit, used, cached in groups:
        folder = root / "sys/fs/cgroup" / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "group", "left"),
    [
        pytest.param([], "/", 8 * GB, id="the-machine"),
        pytest.param([("/", GB, GB // 4, 0)], "/", 3 * GB // 4, id="a-container"),
        pytest.param([("/a/b", 2 * GB, GB, 0)], "/a/b", GB, id="a-group"),
        pytest.param(
            [("/a", GB, 0, 0), ("/a/b", "max", 0, 0)], "/a/b", GB, id="a-group-above-decides"
        ),
        pytest.param([("/", GB, GB, GB // 2)], "/", GB // 2, id="file-cache-is-given-up"),
        pytest.param([("/", "max", GB, 0)], "/", 8 * GB, id="no-limit"),
    ],
)
def test_the_tightest_limit_counts(tmp_path, groups, group, left):
    root = machine(tmp_path, available=8 * GB, groups=groups, group=group)
    assert available_bytes(root) == pytest.approx(left, abs=1024)


@pytest.mark.parametrize("group", ["/box", "/docker/its-name-outside"])
def test_a_limit_of_the_first_version_of_control_groups_counts(tmp_path, group):
    root = machine(tmp_path, available=8 * GB)
    (root / "proc/self/cgroup").write_text(f"9:cpu,cpuacct:{group}\n4:memory:{group}\n")
    # A container sees its own group as the root, under whatever name it has outside.
    folder = root / "sys/fs/cgroup/memory" / ("box" if group == "/box" else "")
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{GB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GB // 2}\n")
    (folder / "memory.stat").write_text(f"cache 1\ntotal_inactive_file {GB // 4}\n")
    assert available_bytes(root) == pytest.approx(3 * GB // 4, abs=1024)


def test_a_system_that_does_not_tell_is_not_judged(tmp_path):
    assert available_bytes(tmp_path) is None
    require_memory(10**18, "wait", tmp_path)


def test_a_run_that_would_be_killed_is_refused_with_what_it_needs(tmp_path):
    root = machine(tmp_path, available=8 * GB, groups=[("/", GB, GB // 2, 0)])
    with pytest.raises(SettingsError, match=r"0.50 GB left; .* 1.50 GB .*lower"):
        require_memory(3 * GB // 2, "lower --batch-size", root)
    require_memory(GB // 4, "lower --batch-size", root)


def test_the_default_encoder_needs_what_was_measured():
    model = load_base(None, 0).model
    assert training_bytes(model, 16, 128) == pytest.approx(
        0.75e9, rel=0.1
    )  # measured: 0.73 to 0.78
    assert training_bytes(model, 64, 128) == pytest.approx(1.6e9, rel=0.1)  # measured: 1.67
