"""The memory that a run needs and the machine or container has left."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from transformers import PreTrainedModel

from turnout.errors import SettingsError

_CGROUPS = Path("sys/fs/cgroup")
# Of a control group: the files of its limit and use, and the name of its file cache. Source: the
# kernel's documentation of control groups, versions 2 and 1.
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def require_memory(needed: int, advice: str, root: Path = Path("/")) -> None:
    """Refuse a run that the system would kill for its memory.

    Args:
        needed: Bytes that it will take beside what this process has now.
        advice: What makes it smaller.
        root: Where `proc` and `sys` lie.

    Raises:
        SettingsError: If less is left.
    """
    left = available_bytes(root)
    if left is not None and left < needed:
        raise SettingsError(
            f"memory: {left / 1e9:.2f} GB left; expected about {needed / 1e9:.2f} GB for this run. "
            f"Give it more memory, or {advice}."
        )


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take: of the machine and of every control group above it.

    Returns:
        None where the system does not say, as on macOS and Windows.
    """
    left = []
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            left.append(int(value.split()[0]) * 1024)
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2: one hierarchy, without a controller's name
            left += _left_in_groups(root / _CGROUPS, PurePosixPath(group), _VERSION_2)
        elif "memory" in controllers.split(","):
            left += _left_in_groups(root / _CGROUPS / "memory", PurePosixPath(group), _VERSION_1)
    return min(left, default=None)


def _left_in_groups(mount: Path, group: PurePosixPath, files: tuple[str, str, str]) -> list[int]:
    """What each group from the mount's root down to this one has left, where it has a limit."""
    left = []
    for part in (group, *group.parents):
        folder = mount / part.relative_to("/")
        limit, used = (_text(folder / name).strip() for name in files[:2])
        if limit.isdigit() and used.isdigit():
            left.append(int(limit) - int(used) + _file_cache(folder, files[2]))
    return left


def _file_cache(folder: Path, cache: str) -> int:
    """Bytes of a group's use that the kernel gives up when it needs them."""
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == cache:
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def training_bytes(model: PreTrainedModel, batch_rows: int, max_tokens: int) -> int:
    """About how much memory fine-tuning takes beside a loaded model, in float32.

    Either a checkpoint decides (gradients, two moments, the best weights and a copy of all but the
    gradients: eight times the weights) or a step's activations (some 12 states and two feed-forward
    states for every token and layer, as measured on a six-layer BERT) and gradients.

    Args:
        model: Not yet trained.
        batch_rows: Rows of a step in this process.
        max_tokens: Token budget.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    config = model.config
    hidden = config.hidden_size
    feed_forward = getattr(config, "intermediate_size", 4 * hidden)
    states = config.num_hidden_layers * (12 * hidden + 2 * feed_forward)
    activations = 4 * batch_rows * max_tokens * states
    return int(max(8 * weights, weights + activations))
