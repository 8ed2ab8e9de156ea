"""Decode, crop and resize with NVIDIA DALI: one pipeline, on a GPU where there is one.

DALI loses a whole batch to one bad file, and reads the odd kinds of image its own way. So each
file's header is looked at first (microseconds): plain 8-bit grey or RGB files that look whole go
to DALI, all others to Pillow, which reads them or says what is wrong.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from fastinfogan.data.ingest import png
from fastinfogan.data.ingest.preprocess import Preprocess
from fastinfogan.errors import one_line

PREFETCH = 2
# JPEG start-of-frame markers: C0 to CF but for DHT, JPG and DAC. DALI gets the usual three.
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
USUAL_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
MOST_BESIDE = 1 << 16  # bytes of a PNG's text or profile that DALI is trusted with


def available() -> bool:
    """Whether DALI is installed; ``broken`` says whether it works."""
    if importlib.util.find_spec("nvidia") is None:
        return False
    return importlib.util.find_spec("nvidia.dali") is not None


def broken() -> str | None:
    """Why an installed DALI can't be imported, if it can't."""
    try:
        importlib.import_module("nvidia.dali")
    except Exception as error:  # whatever an odd installation raises
        return one_line(error)
    return None


def decode_pipeline(
    source: Callable[[], tuple[list[np.ndarray], np.ndarray, np.ndarray]],
    preprocess: Preprocess,
    batch_size: int,
    threads: int,
    device_id: int | None,
    prefetch: int = PREFETCH,
) -> Any:
    """Build the pipeline that decodes, cuts and resizes.

    Args:
        source: called for each batch; returns encoded files, uint8 (bytes,), the squares' left and
            top, int32 (B, 2), and their width and height, int32 (B, 2); raises StopIteration at
            the end.
        preprocess: what is made of each image.
        batch_size: the most images that ``source`` returns at once.
        threads: how many of DALI's own decode on the CPU.
        device_id: the GPU that decodes whole images, then cuts them (decoding a region of a JPEG
            crashes nvImageCodec 0.9); None: the CPU, which decodes the square only: that pays for
            resizing it.
        prefetch: batches that DALI works on at a time.

    Returns:
        The built pipeline; each run gives a batch of uint8 (S, S, C) on the host.
    """
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
    )
    def pipeline() -> Any:
        encoded, corner, extent = fn.external_source(source=source, num_outputs=3, batch=True)
        color = types.GRAY if preprocess.channels == 1 else types.RGB
        square = {"start": corner, "shape": extent, "axis_names": "WH"}
        if device_id is None:
            images = fn.decoders.image_slice(encoded, device="cpu", output_type=color, **square)
        else:
            # The GPU has two decoders of JPEGs, which round differently. What each is given depends
            # on the batch, unless one is given all: an image is the same in any company.
            images = fn.decoders.image(
                encoded, device="mixed", output_type=color, hw_decoder_load=1.0
            )
            images = fn.slice(images, **square)
        images = fn.resize(
            images, size=[preprocess.size] * 2, interp_type=types.INTERP_LINEAR, antialias=True
        )
        return images if device_id is None else images.cpu()

    built = pipeline()
    built.build()
    return built


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG or PNG of 8-bit grey or RGB that looks whole; else None.

    Looks at headers and the end, and at a PNG's checksums; a None is for Pillow to judge.
    """
    if data[:3] == b"\xff\xd8\xff":
        return _plain_jpeg(data)
    if data[:8] == png.SIGNATURE:
        return _plain_png(data)
    return None


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    if data.rfind(b"\xff\xd9", -32) < 0:  # no end marker: cut short
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], (data[at + 2] << 8) | data[at + 3]
        if marker in FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            plain = marker in USUAL_FRAMES and precision == 8 and components in (1, 3)
            return (width, height) if plain and width and height else None
        if marker == 0xE1 and _turned(data[at + 4 : at + 2 + length]):
            return None
        at += 2 + length
    return None


def _turned(segment: bytes) -> bool:
    """Whether an APP1 segment's EXIF asks for a turn (or can't be read)."""
    if not segment.startswith(b"Exif\0\0"):
        return False
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(segment)
        return exif.get(0x0112, 1) != 1
    except Exception:  # whatever Pillow makes of damaged EXIF, Pillow may judge
        return True


def _plain_png(data: bytes) -> tuple[int, int] | None:
    size = None
    for kind, content, _, intact in png.chunks(data):
        if not intact or (len(content) > MOST_BESIDE and kind != b"IDAT"):
            return None
        if kind == b"IHDR" and len(content) == 13:
            width, height, depth, color = struct.unpack_from(">IIBB", content)
            if depth != 8 or color not in (0, 2):  # grey and RGB; neither palette nor alpha
                return None
            size = (width, height)
        elif kind in (b"tRNS", b"eXIf", b"acTL"):
            return None
        elif kind == b"IEND":
            return size
    return None
