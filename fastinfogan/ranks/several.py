"""Several ranks: collectives of torch.distributed, over Gloo on CPUs and NCCL on GPUs."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fastinfogan.ranks.alone import Ranks, Value
from fastinfogan.ranks.place import Place
from fastinfogan.sizes import counted
from fastinfogan.tell import Tell

PATIENCE = timedelta(days=1)  # while one rank decodes, reads, saves or evaluates
LONG = 10.0  # seconds of waiting for others, after which it is said
# torch 2.13 gave it another name.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class RankGone(RuntimeError):
    """A collective failed: another rank has ended, or didn't come in time."""


class Several(Ranks):
    """One of several ranks.

    Gloo connects their hosts, where little is said: what to do next, what went wrong. Tensors of a
    GPU go over NCCL. What waits for training has a time limit; what waits for a disk, or for the
    first to evaluate, is patient.

    Args:
        place: where this process stands.
        store: through which the ranks find each other.
        limit: seconds that a rank may keep the others waiting in training.
    """

    def __init__(self, place: Place, store: dist.Store, limit: float) -> None:
        super().__init__(place)
        self.limit = timedelta(seconds=limit)
        with _failing():
            dist.init_process_group(
                "gloo", store=store, rank=place.rank, world_size=place.size, timeout=self.limit
            )
            self._patient: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._host: Any = dist.group.WORLD
        self._tensors = self._host
        self._machines = sum(self.everyone(place.local_rank == 0))

    def __deepcopy__(self, memo: Any) -> Several:
        return self  # networks that are copied still talk to the same ranks

    def describe(self) -> str:
        over = "NCCL" if self._tensors is not self._host else "Gloo"
        machines = f" on {self._machines} machines" if self._machines > 1 else ""
        return f"{counted(self.size, 'rank')}{machines} over {over}"

    def connect(self, device: torch.device) -> None:
        if device.type == "cuda" and self._tensors is self._host:
            with _failing():
                self._tensors = dist.new_group(backend="nccl", timeout=self.limit)

    def end(self) -> None:
        """End all that connects this rank to the others."""
        if self._tensors is not self._host:
            gc.collect()  # what has recorded NCCL's work has to go before it
        # Connections last as long as somebody has their group.
        self._patient = self._host = self._tensors = None
        dist.destroy_process_group()

    def break_off(self) -> None:
        """The same while others may wait for this rank: they learn at once that it is gone.

        Not with NCCL, which would wait for what is under way; there the end of the process does it.
        """
        if self._tensors is self._host and dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                self.end()

    def gather(self, sums: Tensor) -> Tensor:
        everyone = sums.new_empty((self.size * sums.shape[0], *sums.shape[1:]))
        self._all_gather(everyone, sums.contiguous())
        return everyone

    def mean(self, tensor: Tensor) -> Tensor:
        self._all_reduce(tensor)
        return tensor.mul_(1 / self.size)

    def averaging(self, tensor: Tensor, sent_in: torch.dtype | None = None) -> Callable[[], None]:
        if sent_in is None:
            return super().averaging(tensor)
        # torch's all_reduce would sum up what is rounded, and round again, once for each rank. So
        # each rank sums up a part of its own, and tells the others what that comes to: as many
        # bytes, and two roundings however many ranks there are.
        part = -(-tensor.numel() // self.size)
        sent = tensor.new_zeros(self.size * part, dtype=sent_in)
        got = torch.empty_like(sent)

        def average() -> None:
            sent[: tensor.numel()].copy_(tensor.view(-1))
            self._all_to_all(got, sent)
            own = got.view(self.size, part).sum(dim=0, dtype=tensor.dtype).mul_(1 / self.size)
            self._all_gather(sent, own.to(sent_in))
            tensor.view(-1).copy_(sent[: tensor.numel()])

        return average

    def barrier(self) -> None:
        self.everyone(None)

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        self.barrier()
        for tensor in tensors:
            moved = tensor.detach().contiguous()
            with _failing():
                dist.broadcast(moved, src=0, group=self._tensors)
            tensor.detach().copy_(moved)

    def most(self, numbers: Sequence[int]) -> list[int]:
        found = torch.tensor(numbers)
        with _failing():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self._host)
        return found.tolist()

    def everyone(self, value: Value) -> list[Value]:
        values: list[Any] = [None] * self.size
        with _failing():
            dist.all_gather_object(values, value, group=self._patient)
        return values

    def first(self, call: Callable[[], Value]) -> Value:
        values = [call() if self.is_first else None]
        with _failing():
            dist.broadcast_object_list(values, src=0, group=self._patient)
        return values[0]

    def _all_reduce(self, tensor: Tensor) -> None:
        with _failing():
            dist.all_reduce(tensor, group=self._tensors)

    def _all_gather(self, everyone: Tensor, own: Tensor) -> None:
        with _failing():
            _gather(everyone, own, group=self._tensors)

    def _all_to_all(self, got: Tensor, sent: Tensor) -> None:
        with _failing():
            dist.all_to_all_single(got, sent, group=self._tensors)

    def in_turn(self, call: Callable[[], Value], tell: Tell) -> Value:
        goes_first = self.place.local_rank == 0
        value = call() if goes_first else None
        waits = threading.Timer(LONG, tell, ["the images are there; waiting for the other ranks"])
        waits.start()
        try:
            self.barrier()
            if not goes_first:
                value = call()
            self.barrier()
        finally:
            waits.cancel()
        return value


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """What torch raises when a collective fails, as an error of ours."""
    try:
        yield
    except RuntimeError as error:
        raise RankGone(str(error)) from error
