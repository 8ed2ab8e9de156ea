"""Where a process stands among those that torchrun has started, from its environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastinfogan.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where a process stands.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number among those on this machine.
        local_size: how many these are.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place_of(environment: Mapping[str, str]) -> Place:
    """The place that torchrun, or whoever speaks its language, gave a process.

    Raises:
        UserError: there are several processes, but what is said of this one isn't enough.
    """
    size = _number(environment, "WORLD_SIZE", "1")
    if size <= 1:
        return Place()
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in environment:
            raise UserError(f"WORLD_SIZE={size}, but {name} isn't set; start it with torchrun")
    place = Place(
        _number(environment, "RANK"),
        size,
        _number(environment, "LOCAL_RANK", "0"),
        _number(environment, "LOCAL_WORLD_SIZE", "1"),
    )
    if not 0 <= place.rank < size:
        raise UserError(f"RANK={place.rank}: WORLD_SIZE={size}, so 0 to {size - 1} work")
    return place


def several(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several."""
    return environment.get("WORLD_SIZE", "1") not in ("", "0", "1")


@contextlib.contextmanager
def only_the_first_speaks() -> Iterator[None]:
    """Inside, what ranks other than the first print goes nowhere: it would be there many times."""
    if not several(os.environ) or os.environ.get("RANK", "0") == "0":
        yield
        return
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environment.get(name, default)
    if text is None:
        raise UserError(f"WORLD_SIZE is set, but {name} isn't; start it with torchrun")
    if not text.isdecimal():
        raise UserError(f"{name}={text}: a whole number works; torchrun sets it")
    return int(text)
