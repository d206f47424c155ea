"""Several processes that learn together: started by torchrun, each with its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from train.learn.precision import choose_device

_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run; one of them alone is a team too.

    Attributes
    ----------
    rank : int
        Which one this is; 0 writes.
    world : int
        How many there are.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def wrap(self, lesson: nn.Module) -> nn.Module:
        """Let gradients be averaged over all processes."""
        if self.world == 1:
            return lesson
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(lesson, device_ids=devices)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, without gradients."""
        total = value.detach().clone()
        if self.world > 1:
            dist.all_reduce(total)
        return total

    def greatest(self, *values: float) -> tuple[float, ...]:
        """Return the greatest of each value over all processes."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return tuple(shared.tolist())

    def gather(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the rows of all processes, one after the other."""
        if self.world == 1:
            return rows
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, rows)
        return np.concatenate(parts)

    def same_statistics(self, network: nn.Module) -> None:
        """Give every process the buffers of the first one."""
        if self.world > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def team(device: str) -> Iterator[Team]:
    """Join the processes that torchrun started, or be alone.

    GPUs speak NCCL, CPUs gloo. All processes must see the run folder.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}

    Raises
    ------
    TrainingError
        When CUDA is asked for and not there.
    """
    chosen = choose_device(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Team(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    ours = not dist.is_initialized()
    if ours:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        if ours:
            dist.destroy_process_group()
