"""Numbers of things, of bytes and of seconds as people write them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """ "1 image", "2,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_bytes(number: float) -> str:
    """Three digits and a unit: 512 bytes, 30.7 kB, 1.25 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def in_seconds(number: float) -> str:
    """Without a unit: 0.4, 12, 1,234."""
    return f"{number:,.{int(number < 9.95)}f}"


def check_bytes(size: int, most: int) -> int:
    """The size of what is to be read whole, if that isn't absurdly large.

    Raises:
        ValueError: it is.
    """
    if size > most:
        raise ValueError(f"it takes {size >> 20} MiB; at most {most >> 20} are read")
    return size


def too_little(free: int, needed: int) -> str:
    """That ``needed`` bytes are more than are free, so that the two can be told apart."""
    texts = in_bytes(free), in_bytes(needed)
    if texts[0] == texts[1]:
        texts = f"{free:,} bytes", f"{needed:,}"
    return f"{texts[0]} free, and {texts[1]} are needed"
