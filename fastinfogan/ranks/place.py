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
            raise _unset(environment, name)
    place = Place(
        _number(environment, "RANK"),
        size,
        _number(environment, "LOCAL_RANK"),
        _number(environment, "LOCAL_WORLD_SIZE"),
    )
    for name, rank, of, count in (
        ("RANK", place.rank, "WORLD_SIZE", size),
        ("LOCAL_RANK", place.local_rank, "LOCAL_WORLD_SIZE", place.local_size),
    ):
        if rank >= count:
            works = f"0 to {count - 1} work" if count > 1 else "0 works"
            raise UserError(f"{name}={rank}: {of}={count}, so {works}")
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


def _unset(environment: Mapping[str, str], name: str) -> UserError:
    """That a launcher hasn't said something; the GPU, and who decodes, depend on the local ones."""
    others = {"RANK": "PROCID", "LOCAL_RANK": "LOCALID", "LOCAL_WORLD_SIZE": "NTASKS_PER_NODE"}
    known = "" if name not in others else f"; of Slurm's srun it is $SLURM_{others[name]}"
    size = environment["WORLD_SIZE"]
    return UserError(
        f"WORLD_SIZE={size}, but {name} isn't set; start it with torchrun, or set {name}{known}"
    )


def _number(environment: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environment.get(name, default)
    if text is None:
        raise _unset(environment, name)
    if not text.isdecimal():
        raise UserError(f"{name}={text}: a whole number works; torchrun sets it")
    return int(text)
