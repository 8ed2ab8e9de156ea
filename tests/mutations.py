"""Damage of every kind that disks, downloads and editors do, drawn from a seed."""

from __future__ import annotations

import os
import random
import struct
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fastinfogan.errors import UserError

MOST_SECONDS = 20.0
LEFT_OUT = "left out"  # what ``load`` may return: the file is listed as unusable
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)


def mutate(data: bytes, seed: int) -> bytes:
    """One damaged copy; half of the time near the file's beginning or end, where its words are."""
    draw = random.Random(seed)
    size = len(data)
    at = draw.randrange(size)
    if draw.random() < 0.5:
        at = draw.choice((at % min(size, 512), size - 1 - at % min(size, 512)))
    length = min(draw.choice((1, 2, 4, 16, 100, 512, 4096)), size - at)
    kinds: list[Callable[[], bytes]] = [
        lambda: _flipped(data, at, draw.randrange(8)),
        lambda: data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :],
        lambda: data[:at],  # cut short
        lambda: data[:at] + bytes(size - at),  # so much was preallocated, never written
        lambda: data[:at] + data[at + length :],
        lambda: data[: at + length] + data[at:],
        lambda: data[:at] + draw.randbytes(length) + data[at + length :],
        lambda: data[:at] + bytes(length) + data[at + length :],
        lambda: data + draw.randbytes(length),
        lambda: _extreme(data, at, draw),
        lambda: data[:at] + data[at : at + length].swapcase() + data[at + length :],
        lambda: data.replace(b"\n", b"\r\n"),  # as a text
        lambda: data.decode("utf-8", "replace").encode(),
        lambda: _digit(data, at, draw),
    ]
    return draw.choice(kinds)()


def survives(path: Path, seed: int, load: Callable[[], str], whole: str | None) -> str:
    """Load a set of files of which one is mutated, and put that one back.

    Args:
        path: the file.
        seed: of the mutation.
        load: what is done with it; returns what it got, in one word.
        whole: what ``load`` returns for the whole file, where the file can tell: then it may
            return nothing else but ``LEFT_OUT``.

    Returns:
        "read" or "refused".

    Raises:
        AssertionError: anything else than a result, or an error in one line.
    """
    content = path.read_bytes()
    path.write_bytes(mutate(content, seed))
    began = time.monotonic()
    try:
        got = load()
    except UserError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 2000, f"seed {seed}: {message!r}"
        assert "Error" not in message.split()[:1], f"seed {seed}: {message!r}"
        outcome = "refused"
    except Exception:
        raise AssertionError(f"{path.name}, seed {seed}: {traceback.format_exc()}") from None
    else:
        noticed = whole is None or got in (whole, LEFT_OUT)
        assert noticed, f"{path.name}, seed {seed}: read, with other content"
        outcome = "read"
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(0, seed))  # a new file to whoever caches
    assert time.monotonic() - began < MOST_SECONDS, f"{path.name}, seed {seed}: takes too long"
    return outcome


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def _extreme(data: bytes, at: int, draw: random.Random) -> bytes:
    """A number as large or small as it can be, in either order of bytes."""
    width, order = draw.choice((1, 2, 4, 8)), draw.choice("<>")
    value = draw.choice(EXTREMES) & (256**width - 1)
    number = struct.pack(f"{order}{ {1: 'B', 2: 'H', 4: 'I', 8: 'Q'}[width] }", value)
    return data[:at] + number + data[at + width :]


def _digit(data: bytes, at: int, draw: random.Random) -> bytes:
    """Another digit in the first number behind a place, or many more of them."""
    found = next((i for i in range(at, min(len(data), at + 500)) if data[i] in b"0123456789"), at)
    return data[:found] + draw.choice((b"9", b"-1", b"9" * 400, b"1e999", b"")) + data[found + 1 :]
