"""Chapter 11: a training that several processes share, on one machine or on several."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """The processes that share a training.

    Each takes its part of every batch; PyTorch's DistributedDataParallel adds up their gradients.

    Attributes:
        rank: the number of this one, from 0 up.
        count: of them all.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Processes:
        """Return the processes as torch.distributed knows them; this one alone where it was not started."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def check(self, batch_size: int) -> None:
        """Raise ValueError if a batch cannot be shared out evenly."""
        if batch_size % self.count:
            raise ValueError(
                f"A batch of {batch_size} cannot be shared by {self.count} processes; expected a multiple of "
                f"{self.count}: batch_size={batch_size // self.count * self.count or self.count}."
            )

    def share(self, values: torch.Tensor) -> torch.Tensor:
        """Return this process's part of a batch."""
        return values.chunk(self.count)[self.rank] if self.count > 1 else values

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.count == 1:
            return values
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        return summed(values.detach().to(device)).to(values.device)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """Return a model whose gradients are the mean over all processes, and whose BatchNorms see the whole batch."""
        if self.count == 1:
            return model
        share_norms(model)
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    @contextmanager
    def apart(self, model: nn.Module) -> Iterator[None]:
        """Let a model be as it was given, for the block, so that it can be saved: its BatchNorms are PyTorch's."""
        norms_apart(model)
        try:
            yield
        finally:
            if self.count > 1:
                share_norms(model)


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient, for each process's loss depends on each part."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return summed(gradient)


def summed(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes."""
    values = values.clone()
    distributed.all_reduce(values)
    return values


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the parts of a batch that several processes hold, each of the same size.

    ``nn.SyncBatchNorm`` does that on GPUs alone.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not Processes.here().count > 1:
            return super().forward(x)
        count = Processes.here().count
        sums = torch.stack([x.float().mean(dim=(0, 2, 3)), x.float().square().mean(dim=(0, 2, 3))])
        mean, square = SumOverProcesses.apply(sums) / count
        variance = (square - mean.square()).clamp(min=0)
        self.remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * count)
        scale = self.weight * (variance + self.eps).rsqrt()
        normed: torch.Tensor = x * scale[:, None, None].to(x.dtype)
        normed += (self.bias - mean * scale)[:, None, None].to(x.dtype)
        return normed

    def remember(self, mean: torch.Tensor, variance: torch.Tensor, numbers: int) -> None:
        """Let the running statistics follow those of a batch of so many numbers a channel."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * numbers / max(numbers - 1, 1), rate)


def share_norms(model: nn.Module) -> None:
    """Let each BatchNorm of a model see the whole batch, in place; parameters and their names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d  # parameters stay those that DDP knows


def norms_apart(model: nn.Module) -> None:
    """Undo ``share_norms``."""
    for module in model.modules():
        if type(module) is SharedBatchNorm2d:
            module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]


@contextmanager
def joined(device: torch.device | str | None = None) -> Iterator[Processes]:
    """Join the processes that torchrun or accelerate started, for the block; this one alone where there are none.

    While it lasts, SIGTERM becomes SystemExit, so that what was learned is saved: cluster managers send it before they
    take a machine away, torchrun where another process has died. After an error in one of several processes it is
    ignored: the process ends anyway, and says why.

    Args:
        device: to compute on; None for CUDA where it is there, else the CPU. Each process gets a GPU of its own.

    Source: chapter 11.
    """
    after = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    try:
        if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "MASTER_ADDR" not in os.environ:
            yield Processes()
            return
        on_gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        with warnings.catch_warnings():  # of DDP, about 1×1 convolutions, whose two layouts are one
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield Processes.here()
        distributed.destroy_process_group()  # not after an error: it would wait for those who are gone
    except BaseException:
        if Processes.here().count > 1:  # torchrun's SIGTERM would now end this process before it says what happened
            after = signal.SIG_IGN
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, after)


def stop(*_: object) -> None:
    """End this process, by way of whatever saves first."""
    sys.exit("Stopped by SIGTERM: by whoever manages this machine, or because another process of a training has died.")


def explained(error: BaseException, whereabouts: str) -> BaseException:
    """Say of an error in an exchange with other processes what it means."""
    if Processes.here().count == 1 or not is_lost(error):
        return error
    told = RuntimeError(
        f"The exchange with another process of this training failed: it died, or cannot be reached ({error}). Its own "
        f"messages stand above or in its log. {whereabouts}"
    )
    told.__cause__ = error
    return told


def is_lost(error: BaseException) -> bool:
    """Say whether an error comes from the exchange between processes."""
    words = ("connection closed", "connection reset", "gloo", "nccl", "timed out", "broken pipe")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
