"""The processes of a distributed run, as `torchrun` or `accelerate launch` starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Processes:
    """Which process this is, of how many.

    Attributes:
        rank: 0-based.
        count: Number of processes.
        local_rank: 0-based on this machine: the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        """Whether this process trains on a GPU."""
        return self.device.type == "cuda"

    @property
    def device(self) -> torch.device:
        """This process's GPU where there is one, else the CPU."""
        import torch

        return torch.device(f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu")

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of some rows; shares differ by at most one row."""
        return rows[self.rank :: self.count]

    def sum_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their sums over all processes, in place; the same bits in all."""
        if self.count == 1:
            return
        import torch
        import torch.distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        begin = 0
        for tensor in tensors:
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()

    def broadcast(self, text: str) -> str:
        """The text of the first process; that of the others is not used."""
        if self.count == 1:
            return text
        import torch
        import torch.distributed

        encoded = text.encode()
        length = torch.tensor([len(encoded)], device=self.device)
        torch.distributed.broadcast(length, src=0)
        characters = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.first:
            characters.copy_(torch.tensor(list(encoded), dtype=torch.uint8))
        torch.distributed.broadcast(characters, src=0)
        return bytes(characters.tolist()).decode()


def first_process() -> bool:
    """Whether this process is the one that reports, by the variables of its launcher."""
    return _count() == 1 or os.environ["RANK"] == "0"


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Meet the other processes; alone where nobody started any."""
    if _count() == 1:
        yield Processes()
        return
    import torch
    import torch.distributed

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend)
    try:
        yield Processes(int(os.environ["RANK"]), _count(), local_rank)
        # Nobody leaves before the first process has written the router.
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def end_process() -> None:
    """End a process of a distributed run at once, without tearing down native libraries.

    Their threads may abort a process that leaves in the usual way, and the launcher then kills the
    others, the one that prints the result among them. Does nothing where the process is alone.
    """
    if _count() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _count() -> int:
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _VARIABLES) else 1
