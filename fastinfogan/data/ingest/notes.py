"""What a user should know of images that were read: smaller than asked for, or almost black."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastinfogan.sizes import counted

SMALL = "small"  # the square that is kept has fewer pixels a side than the result
DARK_BITS = 14  # 16-bit values that use no more come out at a quarter of full brightness at most


def grey(bits: int) -> str:
    """The note for a grey image of 16 bits whose largest value takes so many."""
    return f"grey-{bits}"


def colour(bits: int) -> str:
    """Likewise for one of colour, or with transparency, of which Pillow keeps the upper 8 bits."""
    return f"colour-{bits}"


def lines(notes: Mapping[str, int], size: int) -> Iterator[str]:
    """Notes as lines for the user.

    Args:
        notes: how many images each is true of.
        size: pixels a side that was asked for.
    """
    if small := notes.get(SMALL):
        are, were = ("is", "was") if small == 1 else ("are", "were")
        yield (
            f"{counted(small, 'image')} {are} smaller than {size}x{size} pixels and {were} enlarged"
        )
    for kind, note in (("grey", grey), ("colour", colour)):
        counts = {bits: notes.get(note(bits), 0) for bits in range(1, 17)}
        dark = [bits for bits in range(1, DARK_BITS + 1) if counts[bits]]
        if not dark:
            continue
        count, total, most = sum(counts[bits] for bits in dark), sum(counts.values()), dark[-1]
        line = (
            f"{count:,} of {total:,} {kind} images of 16 bits use {most} bits at most (values up "
            f"to {2**most - 1:,} of 65,535) and look almost black; "
        )
        if kind == "colour":
            yield line + "convert them to 8 bits: of colour only the upper 8 of 16 bits are read"
        elif count == total:
            yield line + f"--stretch {most} makes {2**most - 1:,} white"
        else:
            yield line + f"in a folder of their own, --stretch {most} makes {2**most - 1:,} white"
