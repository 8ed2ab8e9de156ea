"""PNG files chunk by chunk: what decides their pixels, and whether it is whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3  # a colour type
_TRANSPARENCY_BYTES = {0: 2, 2: 6}  # of tRNS, by colour type: grey, RGB


class Chunk(NamedTuple):
    """A whole chunk.

    Attributes:
        kind: its four letters.
        content: what it holds.
        encoded: all of it, from its length to its checksum.
        intact: whether the checksum is right.
    """

    kind: bytes
    content: memoryview
    encoded: memoryview
    intact: bool


def chunks(data: bytes) -> Iterator[Chunk]:
    """The whole chunks of a PNG file up to IEND; none of any other file."""
    at, view = len(SIGNATURE), memoryview(data)
    while data.startswith(SIGNATURE) and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        checksum = int.from_bytes(view[end - 4 : end], "big")
        intact = zlib.crc32(view[at + 4 : end - 4]) == checksum
        yield Chunk(kind, view[at + 8 : end - 4], view[at:end], intact)
        if kind == b"IEND":
            return
        at = end


def check_pixels(data: bytes) -> None:
    """Compare the checksums of the chunks that decide pixels.

    Raises:
        ValueError: one is wrong, or there is no palette for pixels that need one.
    """
    palette = False
    for chunk, color in _with_color(data):
        palette |= chunk.kind == b"PLTE"
        if chunk.kind == b"IDAT" and color == _PALETTE and not palette:
            raise ValueError("no palette before the pixels")
        if _decides(chunk, color) and not chunk.intact:
            raise ValueError(f"wrong checksum in PNG chunk {chunk.kind.decode()!r}")


def bare(data: bytes) -> bytes | None:
    """The file without what viewers pass over: texts, profiles, times, damaged ancillary chunks.

    Beside the pixels, transparency and orientation are kept, where they are intact.

    Returns:
        A PNG file; None where there is nothing to leave out, or it is no PNG file.
    """
    kept, at = [memoryview(SIGNATURE)], len(SIGNATURE)
    left_out = ended = False
    for chunk, color in _with_color(data):
        at += len(chunk.encoded)
        wanted = _decides(chunk, color)
        if chunk.kind == b"tRNS":
            fits = _TRANSPARENCY_BYTES.get(color, len(chunk.content)) == len(chunk.content)
            wanted = chunk.intact and fits
        elif chunk.kind in (b"eXIf", b"IEND"):
            wanted = chunk.intact
        if wanted:
            kept.append(chunk.encoded)
        left_out |= not wanted
        ended |= chunk.kind == b"IEND"
    if data[at + 4 : at + 8] == b"IDAT":  # cut short within its pixels, and to be seen as such
        kept.append(memoryview(data)[at:])
    elif not ended:
        left_out = True
    return b"".join(kept) if left_out and len(kept) > 1 else None


def _with_color(data: bytes) -> Iterator[tuple[Chunk, int | None]]:
    """Each chunk with the header's colour type."""
    color = None
    for chunk in chunks(data):
        if chunk.kind == b"IHDR" and len(chunk.content) == 13:
            color = chunk.content[9]
        yield chunk, color


def _decides(chunk: Chunk, color: int | None) -> bool:
    """Whether there is no image without it: a palette only suggests where pixels are colours."""
    if chunk.kind == b"PLTE":
        return color == _PALETTE
    return chunk.kind in (b"IHDR", b"IDAT")
