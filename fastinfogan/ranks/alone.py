"""What training asks of ranks, and the answers of a process that trains by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastinfogan.ranks.place import Place
from fastinfogan.tell import Tell

Value = TypeVar("Value")


class Ranks:
    """All ranks of a run, as one of them sees them. This one is alone: each answer is its own.

    What is said to be of all ranks is asked by all of them, in the same order.

    Args:
        place: where this process stands.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rank, self.size = place.rank, place.size

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def describe(self) -> str:
        """One phrase for the start of a run; "" for one process."""
        return ""

    def connect(self, device: torch.device) -> None:
        """Get ready to exchange tensors of a device."""

    def gather(self, sums: Tensor) -> Tensor:
        """All ranks' tensors, one after the other along dimension 0: bn_act's ``exchange``."""
        return sums

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of all ranks' tensors; it may be the same memory, overwritten."""
        return tensor

    def averaging(self, tensor: Tensor, sent_in: torch.dtype | None = None) -> Callable[[], None]:
        """A call that puts the mean of all ranks' into a tensor, in its own memory, time and again.

        Args:
            tensor: contiguous.
            sent_in: to this its numbers are rounded whenever they are sent, and summed up in their
                own dtype; None: they are sent as they are.
        """

        def average() -> None:
            self.mean(tensor)

        return average

    def barrier(self) -> None:
        """Return once all ranks are here, however long one takes.

        For where one may have been busy with a disk: what waits for training has a time limit.
        """

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with the first rank's, once all ranks are here."""

    def most(self, numbers: Sequence[int]) -> list[int]:
        """The largest of all ranks', number by number."""
        return list(numbers)

    def everyone(self, value: Value) -> list[Value]:
        """All ranks' values, in order."""
        return [value]

    def first(self, call: Callable[[], Value]) -> Value:
        """What a call returns on the first rank, which alone makes it; the others wait for it."""
        return call()

    def in_turn(self, call: Callable[[], Value], tell: Tell) -> Value:
        """What a call returns on this rank; one rank of each machine makes it before the others.

        Args:
            call: work whose result later calls on the machine find, such as decoding a dataset.
            tell: gets a line when others take long.
        """
        return call()

    def if_first(self, context: Callable[[], AbstractContextManager[Any]]) -> Any:
        """A context for the first rank alone; for the others one that does nothing."""
        return context() if self.is_first else nullcontext()


ALONE = Ranks(Place())
